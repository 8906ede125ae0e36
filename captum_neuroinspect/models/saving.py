"""A model written as a checkpoint that loads where its old one did, and read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.files import write_atomically
from captum_neuroinspect._core.modules import as_input, frozen, is_close, logits_of
from captum_neuroinspect.models._checkpoints import (
    listed,
    read_content,
    reading_checkpoint,
)
from captum_neuroinspect.models._written_names import names_in_files

__all__ = ["SavedModel", "check_save_path", "original_checkpoint", "save_model"]

_SUFFIXES = (".safetensors", ".pth", ".pt")
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
_ROUNDED = 0.1  # share of the largest logit
_MAX_NESTED = 20  # lists in lists; a file may have one that holds itself
_MAX_DEPTH = 3  # of mappings in a checkpoint, and of the parts of a prefix


@dataclass(frozen=True)
class SavedModel:
    """A checkpoint that was written, read again and compared.

    Attributes:
        path: of the file.
        n_tensors: in it.
        dtypes: of its weights, most frequent first.
        like: the checkpoint whose names and dtypes it has, or ``None``.
        left_out: what lay beside the weights in that checkpoint and is not in the new one,
            such as averages of the weights or the state of a training.
    """

    path: Path
    n_tensors: int
    dtypes: tuple[torch.dtype, ...]
    like: Path | None
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        kinds = " and ".join(str(dtype).removeprefix("torch.") for dtype in self.dtypes)
        as_before = "" if self.like is None else f", named and rounded as in {self.like.name}"
        left_out = ""
        if self.like is not None and self.left_out:
            what = listed(map(repr, self.left_out))
            left_out = f". Of {self.like.name} it leaves out {what}, which is of the old weights"
        return (
            f"{self.path}: {self.n_tensors} tensors in {kinds}{as_before}; read again and "
            f"compared{left_out}"
        )


def save_model(
    model: nn.Module,
    path: str | Path,
    *,
    like: str | Path | None = None,
    example: Any = None,
) -> SavedModel:
    """Write a model's weights, read the file again, and compare before it is there.

    Args:
        model: as it is to be saved.
        path: ``.safetensors``, or ``.pth`` or ``.pt`` (``torch.save`` of tensors; names and
            numbers that lay beside the old one's weights are kept).
        like: the checkpoint that the model was loaded from: the new file has its names, with
            prefixes and aliases, its dtypes and, in a ``.pth``, the key that its weights
            lie under, so that it loads where the old one did. Tensors beside them that are not
            the model's stay as they were; other sets of weights, such as averages, and the state
            of a training are left out, and said so. ``None``: all names of the model's
            ``state_dict``.
        example: one batch as the model takes it: then the logits with the values of the file
            are compared with the model's too.

    Returns:
        What was written; its text says it.

    Raises:
        TypeError: when the model keeps something else than tensors.
        ValueError: for another suffix, or when ``like`` is no checkpoint of this model.
        FileNotFoundError: when there is no ``like``.
        RuntimeError: when the file, read again, holds something else or gives other logits;
            then a file that was there before is still there.

    Examples::

        >>> import tempfile
        >>> net = nn.Linear(4, 2)
        >>> old = Path(tempfile.mkdtemp()) / "old.pth"
        >>> torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, old)
        >>> saved = save_model(net, old.with_name("new.pth"), like=old, example=torch.rand(1, 4))
        >>> list(torch.load(saved.path)["state_dict"])
        ['module.weight', 'module.bias']
    """
    path = check_save_path(path)
    if isinstance(model, nn.DataParallel):
        model = model.module
    model = getattr(model, "_orig_mod", model)  # of torch.compile, which shares the weights
    with exclusive(model):  # no edit that another thread tries is saved
        state = _state_of(model)
        original = None
        if like is not None:
            original = _Original.of(Path(like), state, names_in_files(model))
        tensors = state if original is None else original.filled(state)
        # A copy of each: a name that shares memory with another would be dropped or refused.
        tensors = {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}

    def write(temporary: Path) -> None:
        _write(temporary, tensors, original)
        found = _read(temporary, original)
        _check_tensors(path, found, tensors)
        if example is not None:
            values = found if original is None else original.of_model(found)
            _check_logits(path, model, values, example)

    write_atomically(path, write)
    left_out = () if original is None else original.left_out()
    like = None if like is None else Path(like)
    return SavedModel(path, len(tensors), _dtypes(tensors), like, left_out)


def check_save_path(path: str | Path, name: str = "path") -> Path:
    """The path, if its suffix is one that a checkpoint may have.

    Args:
        path: of a file.
        name: of the argument, for the error.

    Raises:
        ValueError: for another.
        IsADirectoryError: when it is a folder.
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{name}={str(path)!r}, expected a name ending in {', '.join(_SUFFIXES)}")
    if path.is_dir():
        raise IsADirectoryError(f"{name}={str(path)!r} is a folder, expected a file")
    return path


def original_checkpoint(spec: str, weights: str | Path | None) -> Path | None:
    """The file that a model was loaded from, if it was a file or a folder on this machine.

    Args:
        spec: the text that :func:`load_model` was given.
        weights: and its weights.

    Examples::

        >>> original_checkpoint("torchvision:resnet18", None) is None
        True
    """
    if weights is not None and Path(weights).expanduser().is_file():
        return Path(weights).expanduser()
    folder = Path(spec.removeprefix("timm:local-dir:").removeprefix("hf:")).expanduser()
    if weights not in (None, "DEFAULT", "pretrained") or not folder.is_dir():
        return None
    return next((folder / name for name in _FOLDER_FILES if (folder / name).is_file()), None)


@dataclass(frozen=True, eq=False)
class _Original:
    """A checkpoint whose form is kept.

    Attributes:
        content: the whole of it: mappings in mappings, or the tensors.
        keys: that lead to the weights.
        names: the file's name of a tensor -> the model's.
        metadata: of a safetensors file.
    """

    content: Mapping[str, Any]
    keys: tuple[str, ...]
    names: dict[str, str]
    metadata: dict[str, str]

    @classmethod
    def of(cls, path: Path, state: Mapping[str, Tensor], in_files: Mapping[str, str]) -> _Original:
        content, metadata = _content(path)
        with reading_checkpoint(path):  # its tensors may be of kinds that cannot be compared
            # Of raw and averaged weights those that the model was made of.
            _, keys, names = max(
                (
                    ((_n_same(tensors, state, names), len(names)), keys, names)
                    for keys, tensors in _mappings(content)
                    for names in _names(tensors, state, in_files)
                ),
                key=lambda found: found[0],
                default=((0, 0), (), {}),
            )
        missing = _missing(names, state)
        if missing:
            raise ValueError(
                f"like={str(path)!r} is no checkpoint of this model: it has no {missing[0]!r}, or "
                "one of another shape"
            )
        return cls(content, keys, names, metadata)

    @property
    def tensors(self) -> Mapping[str, Any]:
        found = self.content
        for key in self.keys:
            found = found[key]
        return found

    def filled(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the file with the model's values, in their old dtypes."""
        return {
            name: state[self.names[name]].to(old.dtype) if name in self.names else old
            for name, old in self.tensors.items()
            if isinstance(old, Tensor)
        }

    def of_model(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {own: tensors[name] for name, own in self.names.items()}

    def left_out(self) -> tuple[str, ...]:
        """What lies beside the weights and is not kept."""
        return tuple(_beside(self.content, self.keys))

    def around(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """The new tensors in place of the old, with what is plain beside them."""
        return _replaced(self.content, self.keys, tensors)


def _beside(content: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    """Where in a checkpoint is what :func:`_replaced` leaves out."""
    first, *rest = keys or ("",)
    for key, value in content.items():
        if keys and key == first:
            yield from (f"{key}.{name}" for name in _beside(value, tuple(rest)))
        elif not _is_plain(value) and (keys or not isinstance(value, Tensor)):
            yield str(key)


def _state_of(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise TypeError(f"the model keeps {odd[0]!r}, which is no tensor, in its state_dict")
    return state


def _content(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    content = read_content(path, "like")
    if not isinstance(content, Mapping):
        raise ValueError(f"like={str(path)!r} holds no tensors by name")
    if path.suffix != ".safetensors":
        return content, {}
    with reading_checkpoint(path), safe_open(str(path), framework="pt") as file:
        return content, file.metadata() or {}


def _mappings(
    content: Mapping[str, Any], keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping with tensors in a checkpoint, and the keys that lead to it."""
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield keys, tensors
    if len(keys) < _MAX_DEPTH:
        for key, value in content.items():
            if isinstance(value, Mapping):
                yield from _mappings(value, (*keys, key))


def _names(
    file: Mapping[str, Tensor], state: Mapping[str, Tensor], in_files: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """Which tensor of the model each of the file's may be: their prefixes may differ."""
    yield from _by_prefix(file, state)
    # The library of the model may write other names than the model has.
    if any(name != own for name, own in in_files.items()):
        written = {name: state[own] for name, own in in_files.items()}
        for names in _by_prefix(file, written):
            yield {name: in_files[other] for name, other in names.items()}


def _by_prefix(file: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterator[dict[str, str]]:
    for own, other in product(_shared_prefixes(state), _prefixes(file)):
        names = {n: own + n.removeprefix(other) for n in file if n.startswith(other)}
        yield {f: m for f, m in names.items() if m in state and state[m].shape == file[f].shape}


def _n_same(
    file: Mapping[str, Tensor], state: Mapping[str, Tensor], names: Mapping[str, str]
) -> int:
    """How many tensors of the file have the model's values, as far as its dtype goes."""
    pairs = ((file[name], state[own]) for name, own in names.items())
    return sum(torch.equal(new.detach().to("cpu", old.dtype), old) for old, new in pairs)


def _prefixes(names: Mapping[str, Any]) -> list[str]:
    """Those with dots that a fourth of the names begin with or more, and none."""
    counts: dict[str, int] = {"": len(names)}
    for name in names:
        parts = name.split(".")[:-1][:_MAX_DEPTH]
        for n in range(1, len(parts) + 1):
            prefix = ".".join(parts[:n]) + "."
            counts[prefix] = counts.get(prefix, 0) + 1
    return [prefix for prefix, count in counts.items() if 4 * count >= len(names)]


def _shared_prefixes(state: Mapping[str, Any]) -> list[str]:
    """Those that all names of the model begin with."""
    return [prefix for prefix in _prefixes(state) if all(n.startswith(prefix) for n in state)]


def _missing(names: Mapping[str, str], state: Mapping[str, Tensor]) -> list[str]:
    """Tensors of the model that the file has under no name, nor under that of an alias."""
    there = {state[own].data_ptr() for own in names.values()}
    return [
        name
        for name, tensor in state.items()
        # Files of old versions have no such counters, and torch does without them.
        if name not in names.values()
        and not name.endswith(".num_batches_tracked")
        and not (tensor.numel() and tensor.data_ptr() in there)
    ]


def _replaced(
    content: Mapping[str, Any], keys: tuple[str, ...], tensors: dict[str, Tensor]
) -> dict[str, Any]:
    if not keys:
        plain = {k: v for k, v in content.items() if not isinstance(v, Tensor) and _is_plain(v)}
        return {**plain, **tensors}
    first, *rest = keys
    return {
        key: _replaced(value, tuple(rest), tensors) if key == first else value
        for key, value in content.items()
        if key == first or _is_plain(value)
    }


def _is_plain(value: Any, depth: int = _MAX_NESTED) -> bool:
    """Numbers and text, also in lists and mappings: no state of a training."""
    if isinstance(value, (Mapping, list, tuple)):
        items = value.values() if isinstance(value, Mapping) else value
        return depth > 0 and all(_is_plain(item, depth - 1) for item in items)
    return value is None or isinstance(value, (bool, int, float, str))


def _write(path: Path, tensors: dict[str, Tensor], original: _Original | None) -> None:
    if path.suffix == ".safetensors":
        metadata = {"format": "pt"} if original is None else {"format": "pt", **original.metadata}
        save_file(tensors, path, metadata=metadata)
    else:
        _save_zip(tensors if original is None else original.around(tensors), path)


def _save_zip(content: Any, path: Path) -> None:
    """``torch.save``, with the true cause where the disk refuses."""
    with path.open("wb") as file:
        writer = _Writer(file)
        try:
            torch.save(content, cast(IO[bytes], writer))
        except RuntimeError:
            # Torch says "unexpected pos 576 vs 534".
            if writer.error is not None:
                raise writer.error from None
            raise


class _Writer:
    """A file that remembers why it could not be written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _read(path: Path, original: _Original | None) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    found = torch.load(path, map_location="cpu", weights_only=True)
    for key in () if original is None else original.keys:
        found = found[key]
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _check_tensors(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    if found.keys() != wanted.keys():
        odd = sorted(found.keys() ^ wanted.keys())
        raise RuntimeError(f"{path}, read again, has other names than were written: {odd[0]!r}")
    for name, value in wanted.items():
        other = found[name]
        if other.dtype != value.dtype or not _same_bits(other, value):
            raise RuntimeError(f"{path}, read again, has another {name!r} than was written")


def _same_bits(one: Tensor, other: Tensor) -> bool:
    # NaN is not itself, so bytes are compared.
    first, second = (t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other))
    return one.shape == other.shape and torch.equal(first, second)


def _check_logits(path: Path, model: nn.Module, values: dict[str, Tensor], example: Any) -> None:
    own = _state_of(model)
    rounded = any(_coarseness(values[n]) > _coarseness(own[n]) for n in values)
    given = as_input(model, example)
    with frozen(model), torch.no_grad():
        kept = {name: tensor.clone() for name, tensor in own.items()}
        try:
            _copy_into(own, values)
            found = logits_of(model(given)).clone()
        finally:
            _copy_into(own, kept)
        wanted = logits_of(model(given))
    # Weights rounded to half precision move logits by more than one rounding: layer by layer.
    if not is_close(found, wanted, _ROUNDED if rounded else 1e-4):
        raise RuntimeError(f"{path}, read again, gives other logits than the model: not kept")


def _copy_into(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        state[name].copy_(value)


def _coarseness(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0


def _dtypes(tensors: Mapping[str, Tensor]) -> tuple[torch.dtype, ...]:
    counts: dict[torch.dtype, int] = {}
    for tensor in tensors.values():
        if tensor.is_floating_point():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel()
    return tuple(sorted(counts, key=lambda dtype: -counts[dtype]))
