"""The names under which a model's library writes its tensors, where the model has others."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from captum_neuroinspect.models._shared import no_progress_bar


def names_in_files(model: nn.Module) -> dict[str, str]:
    """Name in a file of the model's library -> name in the model's ``state_dict``.

    transformers keeps the names that files had when a model was first published, and gives the
    modules newer ones. ``save_pretrained`` knows both: it is given one number for each tensor,
    and the file says under which name each number came out.

    Args:
        model: perhaps with a module of transformers in it.

    Returns:
        Empty where there is none, and where its tensors are not written one by one.

    Examples::

        >>> names_in_files(nn.Linear(4, 2))
        {}
    """
    transformers = sys.modules.get("transformers")
    # A model of a library that was not imported does not exist.
    kind = getattr(transformers, "PreTrainedModel", ())
    found = next(((n, m) for n, m in model.named_modules() if isinstance(m, kind)), None)
    if found is None:
        return {}
    prefix, network = found[0] + "." * bool(found[0]), found[1]
    own = list(network.state_dict())
    numbers = {name: torch.tensor([float(i)]) for i, name in enumerate(own)}
    with tempfile.TemporaryDirectory() as folder, no_progress_bar(transformers):
        try:
            network.save_pretrained(folder, state_dict=numbers)
        except (RuntimeError, ValueError, IndexError):  # tensors that are cut or joined
            return {}
        written = load_file(Path(folder) / "model.safetensors")
    if any(value.shape != (1,) for value in written.values()):
        return {}
    return {name: prefix + own[int(value)] for name, value in written.items()}


def under_own_names(
    tensors: Mapping[str, Tensor], in_files: Mapping[str, str]
) -> dict[str, Tensor]:
    """A file's tensors under the names of the model, whatever prefix they have in the file.

    Examples::

        >>> list(under_own_names({"net.old.weight": torch.ones(1)}, {"old.weight": "new.weight"}))
        ['net.new.weight']
    """
    changed = {name: own for name, own in in_files.items() if name != own}
    first = next(iter(changed), "")
    prefixes = [n.removesuffix(first) for n in tensors if first and f".{n}".endswith(f".{first}")]
    names = {p + name: p + own for p in prefixes for name, own in changed.items()}
    return {names.get(name, name): tensor for name, tensor in tensors.items()}
