"""Leave no hook behind: Lucent's renderer puts one on every module and keeps it there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.modules import frozen

# Whatever tables this version of torch has; a user's own attributes are never among them.
_TABLES = tuple(
    name for name, value in vars(nn.Module()).items() if "hook" in name and isinstance(value, dict)
)


@contextmanager
def clean_hooks(model: nn.Module) -> Iterator[None]:
    """Lend a model to Lucent, and have it back as it was.

    ``render_vis`` hooks every submodule and never removes a hook: each call makes the
    model slower, and its last activations stay in memory
    (https://github.com/greentfrapp/lucent/issues/45). Its backward passes also add up in
    the gradients of the weights. On leaving this block, also by an exception,

    * exactly the hooks that were registered inside it are removed, of every kind and
      from every submodule; those from before stay;
    * training flags and ``requires_grad`` are put back one by one.

    Inside, the model is in eval mode, as Lucent expects, and its weights are frozen: they
    collect no gradients, and the statistics of BatchNorm do not move. Other threads that
    want the model wait until the block ends: use it in the thread that entered.

    Args:
        model: the model that is given to ``render_vis``.

    Examples::

        >>> from lucent.optvis.render import render_vis
        >>> from captum_neuroinspect.optvis import illusion_image
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> options = dict(transforms=[], thresholds=(2,), progress=False, show_image=False)
        >>> with clean_hooks(model):
        ...     images = render_vis(model, "1:2", lambda: illusion_image(16), **options)
        >>> [len(module._forward_hooks) for module in model.modules()]
        [0, 0, 0]
    """
    with exclusive(model), _clean_hooks(model):
        yield


@contextmanager
def _clean_hooks(model: nn.Module) -> Iterator[None]:
    before = {module: {key for table in _tables(module) for key in table} for module in _all(model)}
    # Torch numbers hooks one after the other: those of a module that joins inside the
    # block are told apart by this number.
    first = RemovableHandle(OrderedDict()).id
    try:
        with frozen(model):
            yield
    finally:
        for module in {*before, *_all(model)}:
            known = before.get(module, range(first))
            for table in _tables(module):
                for key in [key for key in table if key not in known]:
                    del table[key]


def _all(model: nn.Module) -> list[nn.Module]:
    return list(model.modules())


def _tables(module: nn.Module) -> list[dict[int, Any]]:
    return [vars(module).get(name, {}) for name in _TABLES]
