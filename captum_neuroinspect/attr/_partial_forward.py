"""Running a network again from one place on: what ran before it is not computed twice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.sites import Site

Front = dict[nn.Module, list[Any]]

RUN = object()  # stands for the output of a call that must be computed again


@contextmanager
def recorded_front(root: nn.Module, site: Site) -> Iterator[Front]:
    """Note what modules return that finish before ``site`` is reached, in one pass.

    Yields:
        A dictionary, complete after the pass: module -> what each of its calls returned,
        or :data:`RUN` for a call that does more than return something new, such as an
        in-place operation. Only outermost modules: what a finished module called itself
        does not count.
    """
    front: Front = {}
    levels: list[list[tuple[nn.Module, Any]]] = [[]]  # finished calls, by the open caller
    given: list[list[tuple[Tensor, int]]] = []  # tensors in the arguments of each open call
    arrived = False

    def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
        levels.append([])
        given.append(_versions((args, kwargs)))

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        inner, before = levels.pop(), given.pop()
        if arrived:
            return
        if _is_replaceable(module, output, before, _versions((args, kwargs))):
            levels[-1].append((module, copy.deepcopy(output)))
        else:
            levels[-1] += [*inner, (module, RUN)]

    def arrive(_: Tensor) -> None:
        nonlocal arrived
        arrived = True
        for module, output in chain.from_iterable(levels):
            front.setdefault(module, []).append(output)

    with ExitStack() as hooks:
        for module in root.modules():
            hooks.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
            # First of all hooks: those of the user run again on what the module returns.
            hook = module.register_forward_hook(leave, prepend=True, with_kwargs=True)
            hooks.callback(hook.remove)
        hooks.enter_context(site.visited(arrive))
        yield front


@contextmanager
def skipped(front: Front) -> Iterator[Callable[[], None]]:
    """Let modules return what they returned before, instead of computing it again.

    Calls beyond the recorded ones run as usual: a module may be shared. Yields a
    function that must be called before each pass.
    """
    counts: dict[nn.Module, int] = {}

    def restart() -> None:
        counts.update(dict.fromkeys(front, 0))

    restart()
    with ExitStack() as patches:
        for module, outputs in front.items():
            if any(output is not RUN for output in outputs):
                patches.enter_context(_patched(module, outputs, counts))
        yield restart


@contextmanager
def _patched(module: nn.Module, outputs: list[Any], counts: dict[nn.Module, int]) -> Iterator[None]:
    own = module.__dict__.get("forward")  # some libraries wrap `forward` on the instance
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        index = counts[module]
        counts[module] = index + 1
        if index < len(outputs) and outputs[index] is not RUN:
            return copy.deepcopy(outputs[index])  # what comes next may work in place
        return original(*args, **kwargs)

    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.forward = own


def _is_replaceable(
    module: nn.Module,
    output: Any,
    before: list[tuple[Tensor, int]],
    after: list[tuple[Tensor, int]],
) -> bool:
    """Whether a copy of the output is all that remains of a call."""
    if isinstance(module, torch.jit.ScriptModule) or not _is_plain(output):
        return False
    if [(id(t), version) for t, version in before] != [(id(t), version) for t, version in after]:
        return False  # it changed an argument, which others may hold
    arguments = {_memory(tensor) for tensor, _ in after}
    # A view (or the argument itself): what changes it in place changes the argument.
    return not any(_memory(tensor) in arguments for tensor in _tensors(output))


def _is_plain(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.layout == torch.strided and not value.requires_grad
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    return value is None or isinstance(value, (bool, int, float, str))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        yield from chain.from_iterable(map(_tensors, value))
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_tensors, value.values()))


def _versions(value: Any) -> list[tuple[Tensor, int]]:
    """The tensors in a value, with the count of in-place changes that torch keeps of each."""
    return [(t, 0 if t.is_inference() else t._version) for t in _tensors(value)]


def _memory(tensor: Tensor) -> Any:
    # Tensors without elements have no memory, those with another layout no single one.
    is_strided = tensor.layout == torch.strided
    return (is_strided and tensor.untyped_storage().data_ptr()) or id(tensor)
