"""Local checkpoints: found in whatever wraps them, and compared with the model before use."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from captum_neuroinspect._class_names import as_names

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
_NAME_KEYS = ("class_names", "classes", "id2label")
# DataParallel, torch.compile and Lightning put these before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_N_NAMED = 4


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The tensors of a file, by name.

    Attributes:
        path: the file.
        state: name -> tensor, on the CPU.
        class_names: when they are stored beside the weights, or ``None``.
    """

    path: Path
    state: dict[str, Tensor]
    class_names: tuple[str, ...] | None = None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a safetensors file or what ``torch.save`` wrote, running no code of the file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds no weights, is damaged, or holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights={str(path)!r}: no such file")
    content = _read(path)
    state = _state_of(content)
    if not state:
        raise ValueError(
            f"{path} holds no weights: expected tensors by name, at the top or under one of "
            f"{', '.join(map(repr, _STATE_KEYS))}"
        )
    return Checkpoint(path, state, _names_of(content))


def n_classes_of(checkpoint: Checkpoint, model: nn.Module) -> int | None:
    """How many classes the checkpoint's head has, where that is not what the model's has.

    ``None``: the model fits as it is, or differs in more than the number of classes.

    Examples::

        >>> saved = Checkpoint(Path("five.pt"), nn.Linear(8, 5).state_dict())
        >>> n_classes_of(saved, nn.Linear(8, 1000)), n_classes_of(saved, nn.Linear(8, 5))
        (5, None)
    """
    expected = model.state_dict()
    state = _without_prefixes(checkpoint.state, expected)
    pairs = [
        (expected[name].shape, tensor.shape)
        for name, tensor in state.items()
        if name in expected and expected[name].shape != tensor.shape
    ]
    sizes = {(old[:1], new[:1]) for old, new in pairs}
    if len(sizes) != 1 or any(old[1:] != new[1:] for old, new in pairs):
        return None
    (_, new), *_ = sizes
    return int(new[0]) if new else None


def fill(model: nn.Module, checkpoint: Checkpoint, spec: str) -> None:
    """Copy the checkpoint's values into the model; every name must fit.

    Raises:
        ValueError: names what is missing, unexpected or of another shape.
    """
    expected = model.state_dict()
    state = _without_prefixes(checkpoint.state, expected)
    problems = _problems(state, expected)
    if problems:
        raise ValueError(
            f"{checkpoint.path} does not fit {spec}: {'; '.join(problems)}. Expected a "
            "checkpoint of this very architecture"
        )
    model.load_state_dict(state)


def listed(names: Iterable[object]) -> str:
    """The first few of many names.

    Examples::

        >>> listed("abcdefg")
        'a, b, c, d and 3 more'
    """
    items = [str(name) for name in names]
    rest = len(items) - _N_NAMED
    return ", ".join(items[:_N_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _problems(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    # Files of old versions have no such counters, and torch does without them.
    missing = [n for n in expected if n not in state and not n.endswith(".num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return [f"{len(names)} {kind} ({listed(names)})" for kind, names in kinds.items() if names]


def _without_prefixes(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    state = dict(state)
    for prefix in _PREFIXES * 2:
        # A model may have a part called `model` itself: then its names fit as they are.
        fits = any(name in expected for name in state)
        if not fits and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds Python objects beside tensors, or is no checkpoint; such a file can "
            "run code when it is read, so it is not. Where it was made, save the weights alone: "
            "torch.save(model.state_dict(), path)"
        ) from None
    # What torch raises on a file that was cut off, or never was a checkpoint.
    except (SafetensorError, RuntimeError, EOFError, LookupError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {reason}): the file is damaged or "
            "no checkpoint; copy or save it again"
        ) from error


def _state_of(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for key in _STATE_KEYS:
        if isinstance(content.get(key), Mapping):
            return _state_of(content[key])
    if not all(isinstance(value, Tensor) for value in content.values()):
        return {}
    return {str(name): tensor for name, tensor in content.items()}


def _names_of(content: Any) -> tuple[str, ...] | None:
    for key in (*_NAME_KEYS, "class_to_idx"):
        names = content.get(key)
        if isinstance(names, (list, tuple, Mapping)) and names:
            with suppress(TypeError, ValueError):  # "classes" may be other things
                return as_names(names, key)
    return None
