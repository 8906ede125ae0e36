"""Local checkpoints: found in whatever wraps them, and compared with the model before use."""

from __future__ import annotations

import argparse
import errno
import os
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from captum_neuroinspect._core.class_names import are_placeholders, as_names
from captum_neuroinspect._core.files import check_file
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.models._written_names import names_in_files, under_own_names

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
# First what made the labels: beside it "classes" may be in any order.
_NAME_KEYS = ("class_to_idx", "class_names", "classes", "id2label", "idx_to_class")
_SEPARATOR = "::"
_DEEPEST = 3  # how far inside a file sets of weights are looked for
# Averages of the weights, and networks that teach: sets beside the trained one.
_BESIDE = re.compile(r"ema|averag|swa|teacher|momentum|shadow|target", re.IGNORECASE)
# Counters that torch or profilers keep, which no result depends on.
_COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
_N_NAMED = 4


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The tensors of a file, by name.

    Attributes:
        path: the file.
        groups: where in the file -> name -> tensor, on the CPU; ``""`` is the top.
        class_names: when they are stored beside the weights, or ``None``.
        wanted: which set of weights, or ``None``.
    """

    path: Path
    groups: Mapping[str, Mapping[str, Tensor]]
    class_names: tuple[str, ...] | None = None
    wanted: str | None = None


@dataclass(frozen=True, eq=False)
class WeightSet:
    """Tensors of a checkpoint that lie at one place and have one prefix.

    Attributes:
        name: the place and the prefix, as in ``weights="file.pt::NAME"``.
        prefix: what stands before the model's names.
        state: the model's name -> tensor.
        beside: names of the tensors at that place that have another prefix.
        n_found: how many names of the model it has.
    """

    name: str
    prefix: str
    state: dict[str, Tensor]
    beside: tuple[str, ...]
    n_found: int


def split_weights(weights: str | Path) -> tuple[Path, str | None]:
    """The file and the set of weights in it, from ``"file.pt"`` or ``"file.pt::NAME"``.

    Examples::

        >>> split_weights("last.pt::model_ema")[1], split_weights("last.pt")[1]
        ('model_ema', None)
    """
    if isinstance(weights, str) and not Path(weights).expanduser().is_file():
        file, separator, name = weights.rpartition(_SEPARATOR)
        if separator and file:
            return Path(file).expanduser(), name
    return Path(weights).expanduser(), None


def read_checkpoint(path: str | Path, wanted: str | None = None) -> Checkpoint:
    """Read a safetensors file or what ``torch.save`` wrote, running no code of the file.

    Args:
        path: the file.
        wanted: which set of weights in it counts, where there are several.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds no weights, is damaged, or holds Python objects.
    """
    path = Path(path)
    content = read_content(path, "weights")
    groups = dict(_groups(content, (), _DEEPEST))
    if not groups:
        raise ValueError(
            f"{shown(path)} holds no weights: expected tensors by name, at the top or under a "
            "key such as 'state_dict' or 'model'"
        )
    return Checkpoint(path, groups, _names_of(content), wanted)


def weights_for(checkpoint: Checkpoint, model: nn.Module) -> WeightSet:
    """The set of weights of a file that is the model's, whatever stands before its names.

    Raises:
        ValueError: when several are, and none is chosen, or the wanted one is not there; for
            tensors that are sparse, quantised, nested, without values, or whole numbers or complex
            in place of floating point.

    Warns:
        UserWarning: when an average of the weights lies beside them, saying which is taken.
    """
    expected, in_files = model.state_dict().keys(), names_in_files(model)
    groups = {place: under_own_names(t, in_files) for place, t in checkpoint.groups.items()}
    found = [s for place, group in groups.items() for s in _sets(place, group, expected)]
    most = max(s.n_found for s in found)
    # What has half the names is a network of its own kind; less are tensors of the same name.
    likely = [s for s in found if s.n_found > most / 2]
    found = likely or [max(found, key=lambda s: len(s.state))]
    chosen = (
        _trained(checkpoint, found) if checkpoint.wanted is None else _wanted(checkpoint, found)
    )
    others = tuple(s.prefix for s in found if s is not chosen and s.prefix)
    _check_plain(checkpoint.path, chosen, model)
    return replace(chosen, beside=tuple(n for n in chosen.beside if not n.startswith(others)))


def _check_plain(path: Path, weights: WeightSet, model: nn.Module) -> None:
    """Refuse what torch does not copy, and numbers that are no weights without their scale."""
    parameters = dict(model.named_parameters())
    odd = [n for n, t in weights.state.items() if not _is_plain(t, parameters.get(n))]
    if odd:
        raise ValueError(
            shown(
                f"{path} has tensors that are sparse, quantised, nested, without values, or not of "
                f"floating point where the model's are ({listed(odd)}): save them as plain ones"
            )
        )


def _is_plain(tensor: Tensor, parameter: Tensor | None) -> bool:
    if tensor.is_nested or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return False
    is_weight = parameter is not None and parameter.is_floating_point()
    return tensor.is_floating_point() or not is_weight


def _trained(checkpoint: Checkpoint, found: list[WeightSet]) -> WeightSet:
    """The set that is no average of another and no teacher, where it is the only one."""
    trained = [s for s in found if not _BESIDE.search(s.name)] or found
    names = ", ".join(repr(s.name) for s in found)
    how = f"weights={str(checkpoint.path)!r} + '{_SEPARATOR}NAME'"
    if len(trained) > 1:
        raise ValueError(
            f"{shown(checkpoint.path)} holds {len(found)} sets of weights that may be meant "
            f"({names}): give {how} with the one that counts"
        )
    if len(found) > 1:
        warnings.warn(
            f"{shown(checkpoint.path)} holds the weights {names}: {trained[0].name!r} are taken; "
            f"to take others give {how}",
            stacklevel=2,
        )
    return trained[0]


def n_classes_of(weights: WeightSet, model: nn.Module) -> int | None:
    """How many classes the head of the weights has, where that is not what the model's has.

    ``None``: the model fits as it is, or differs in more than the number of classes.

    Examples::

        >>> saved = Checkpoint(Path("five.pt"), {"": nn.Linear(8, 5).state_dict()})
        >>> [n_classes_of(weights_for(saved, m), m) for m in (nn.Linear(8, 9), nn.Linear(8, 5))]
        [5, None]
    """
    expected = model.state_dict()
    pairs = [
        (expected[name].shape, tensor.shape)
        for name, tensor in weights.state.items()
        if name in expected and expected[name].shape != tensor.shape
    ]
    sizes = {(old[:1], new[:1]) for old, new in pairs}
    if len(sizes) != 1 or any(old[1:] != new[1:] for old, new in pairs):
        return None
    (_, new), *_ = sizes
    return int(new[0]) if new else None


def fill(model: nn.Module, weights: WeightSet, path: Path, spec: str) -> str:
    """Copy values into the model; every name of it must fit.

    Returns:
        What was converted, in words; ``""``: nothing.

    Raises:
        ValueError: names what is missing, unexpected or of another shape.

    Warns:
        UserWarning: names tensors that lie outside the model's part of the file.
    """
    expected = model.state_dict()
    state = {n: t for n, t in weights.state.items() if n in expected or not _is_counter(n)}
    state = {**_aliases(state, expected), **state}
    problems = _problems(state, expected)
    if problems and weights.beside:
        problems.append(f"outside {weights.prefix!r} the file has {listed(weights.beside)}")
    if problems:
        raise ValueError(shown(f"{path} does not fit {spec}: {'; '.join(problems)}"))
    left_out = [name for name in weights.beside if not _is_counter(name)]
    if left_out:
        warnings.warn(
            shown(f"{path}: left out, as outside the model, is what is called {listed(left_out)}"),
            stacklevel=2,
        )
    model.load_state_dict({**_counters(expected), **state})
    return _converted(state, expected)


def listed(names: Iterable[object]) -> str:
    """The first few of many names.

    Examples::

        >>> listed("abcdefg")
        'a, b, c, d and 3 more'
    """
    items = [str(name) for name in names]
    rest = len(items) - _N_NAMED
    return ", ".join(items[:_N_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _sets(place: str, group: Mapping[str, Tensor], expected: Collection[str]) -> list[WeightSet]:
    """The tensors at one place for each prefix that makes names of the model of them."""
    counts: Counter[str] = Counter()
    tails: dict[str, list[str]] = {}
    for name in expected:
        tails.setdefault(name.rpartition(".")[2], []).append(name)
    for name in group:
        for tail in tails.get(name.rpartition(".")[2], ()):
            if name == tail or name.endswith(f".{tail}"):
                counts[name.removesuffix(tail)] += 1
    return [_set(place, prefix, group, n) for prefix, n in counts.items()] or [
        _set(place, "", group, 0)
    ]


def _set(place: str, prefix: str, group: Mapping[str, Tensor], n_found: int) -> WeightSet:
    state = {n.removeprefix(prefix): t for n, t in group.items() if n.startswith(prefix)}
    beside = tuple(name for name in group if not name.startswith(prefix))
    name = ".".join(part for part in (place, prefix.rstrip(".")) if part)
    return WeightSet(name or "weights", prefix, state, beside, n_found)


def _wanted(checkpoint: Checkpoint, found: list[WeightSet]) -> WeightSet:
    wanted = checkpoint.wanted
    assert wanted is not None
    exact = [s for s in found if s.name == wanted]
    chosen = exact or [s for s in found if wanted.lower() in s.name.lower()]
    if len(chosen) != 1:
        raise ValueError(
            f"weights={str(checkpoint.path) + _SEPARATOR + wanted!r}: {checkpoint.path.name} holds "
            f"the weights {', '.join(repr(s.name) for s in found)}, expected one of these names"
        )
    return chosen[0]


def _problems(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    # Files of old versions have no such counters, and torch does without them.
    missing = [name for name in expected if name not in state and not _is_counter(name)]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if unexpected and not missing and not shapes:
        return [
            f"everything fits but {listed(unexpected)}, of which the model knows nothing: where it "
            "is part of the network, this is another architecture; else save the weights without it"
        ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    problems = [f"{len(names)} {kind} ({listed(names)})" for kind, names in kinds.items() if names]
    return [*problems, "expected a checkpoint of this very architecture"] if problems else []


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTERS


def _aliases(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that the model has under two names, of which a file may keep one."""
    known = {(t.data_ptr(), t.shape): state[n] for n, t in expected.items() if n in state}
    found = {n: known.get((t.data_ptr(), t.shape)) for n, t in expected.items() if n not in state}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _counters(expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in expected.items() if _is_counter(name)}


def _converted(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    pairs = {
        (tensor.dtype, expected[name].dtype)
        for name, tensor in state.items()
        if name in expected and tensor.dtype != expected[name].dtype and tensor.is_floating_point()
    }
    words = sorted(f"{_short(old)} as {_short(new)}" for old, new in pairs)
    return ", ".join(words)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def read_content(path: Path, argument: str) -> Any:
    """What a checkpoint's file holds: tensors by name, perhaps in mappings in mappings.

    Args:
        path: of a safetensors file, or of what ``torch.save`` wrote.
        argument: that named it, for the error.

    Raises:
        OSError: when there is no such file, or it may not be read.
        ValueError: when it is no file, damaged, or holds Python objects; names it.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{argument}={str(path)!r}: no such file")
    check_file(path)
    with reading_checkpoint(path):
        if path.suffix == ".safetensors":
            return load_file(path)
        with _with_harmless():
            return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def reading_checkpoint(path: Path) -> Iterator[None]:
    """Whatever a checkpoint's file makes of its reader is a ``ValueError`` that names it."""
    try:
        yield
    except pickle.UnpicklingError:
        raise ValueError(
            f"{shown(path)} holds Python objects beside tensors, or is no checkpoint; such a file "
            "can run code when it is read, so it is not. Where it was made, save the weights "
            "alone: torch.save(model.state_dict(), path)"
        ) from None
    except MemoryError:
        raise
    # On a file that was cut off, or never was a checkpoint, torch raises nearly anything.
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # the file is not the cause
        raise ValueError(
            f"{shown(path)} cannot be read ({_first_sentence(error)}): the file is "
            "damaged or no checkpoint; copy or save it again"
        ) from error


def _first_sentence(error: Exception) -> str:
    """The kind of an error and what it says first; torch's guesses and advice follow that."""
    said = shown(error, lines=True).strip().split("\n")[0].split(". ")[0][:200]
    return ": ".join(filter(None, (type(error).__name__, said)))


def _with_harmless() -> AbstractContextManager[object]:
    """Let through what training scripts keep beside the weights, none of which runs code."""
    if torch.__version__ < "2.6":  # which takes no names
        return nullcontext()
    numpy_core = getattr(np, "_core", None) or np.core
    scalar = numpy_core.multiarray.scalar
    # Files name it as the NumPy did that wrote them.
    names = [f"numpy.{part}.multiarray.scalar" for part in ("core", "_core")]
    kinds = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")}
    kept: list[Any] = [argparse.Namespace, np.dtype, *kinds, *((scalar, name) for name in names)]
    return torch.serialization.safe_globals(kept)


def _groups(
    content: Any, place: tuple[str, ...], depth: int
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping of names to tensors in a file, by where it lies."""
    if not isinstance(content, Mapping):
        return
    tensors = {str(n): t for n, t in content.items() if isinstance(t, Tensor)}
    others = {str(n): v for n, v in content.items() if isinstance(v, Mapping)}
    # Beside other things a tensor is a number or the like; a model's own keep to themselves.
    if tensors and len(tensors) == len(content):
        yield ".".join(place), tensors
    elif depth:
        for name, value in others.items():
            if name not in ("optimizer", "optimizer_state_dict", "optimizer_states"):
                yield from _groups(value, (*place, name), depth - 1)


def _names_of(content: Any) -> tuple[str, ...] | None:
    for key in _NAME_KEYS:
        names = content.get(key)
        if isinstance(names, (list, tuple, Mapping)) and names:
            with suppress(TypeError, ValueError):  # "classes" may be other things
                found = as_names(names, key)
                if not are_placeholders(found):
                    return found
    return None
