"""One form for what is saved: tensors and a record, with a digest that tells damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from captum_neuroinspect._core.files import check_file, write_atomically
from captum_neuroinspect._core.fingerprint import feed
from captum_neuroinspect._core.texts import shown

_KEY = "captum_neuroinspect"
_FIELDS = {"kind", "version", "sha256", "record"}


def write_kept(
    path: str | Path,
    kind: str,
    tensors: Mapping[str, Tensor],
    record: Mapping[str, Any],
    *,
    version: int = 1,
) -> Path:
    """Write a safetensors file; the same content gives the same bytes.

    Args:
        path: of the file.
        kind: what it is, such as ``"FeatureSet"``.
        tensors: by name, on any device; copied.
        record: the rest, as JSON knows it.
        version: of this kind's content.
    """
    # Copies, because safetensors refuses tensors that share memory.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record)
    # One entry, because safetensors writes several in an order that changes.
    about = {
        "kind": kind,
        "version": version,
        "sha256": _digest(kind, version, text, copies),
        "record": text,
    }
    metadata = {_KEY: json.dumps(about)}
    return write_atomically(path, lambda temporary: save_file(copies, temporary, metadata=metadata))


def read_kept(
    path: str | Path, kind: str, *, version: int = 1
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of a file that :func:`write_kept` wrote.

    Raises:
        OSError: when it cannot be read, as there is none.
        ValueError: when it is something else, damaged, or of a newer version; names it.
    """
    path = Path(path)
    check_file(path)
    with reading(path, kind):
        try:
            with safe_open(str(path), framework="pt") as file:
                text = (file.metadata() or {}).get(_KEY)
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"it is damaged or no safetensors file ({error})") from None
        if text is None:
            raise ValueError(f"it holds no {kind}, or one of early 0.1: then make it again")
        about = json.loads(text)
        if not isinstance(about, dict) or set(about) != _FIELDS:
            raise ValueError("it is damaged: its description is not whole")
        if about["kind"] != kind:
            raise ValueError(f"it holds {str(about['kind'])[:40]!r}, expected {kind}")
        if not isinstance(about["version"], int) or about["version"] > version:
            raise ValueError(
                f"it has version {about['version']!r} of the format, this package reads up to "
                f"{version}: update captum_neuroinspect"
            )
        if about["sha256"] != _digest(kind, about["version"], about["record"], tensors):
            raise ValueError("it is damaged: its content is not what was saved")
        record = json.loads(about["record"])
        if not isinstance(record, dict):
            raise ValueError("its record is no object")
    return tensors, record


def kind_of(path: str | Path) -> str | None:
    """The kind of a file that :func:`write_kept` wrote; ``None`` for any other, and if it is gone.

    Only its head is read: the content may be damaged all the same.
    """
    try:
        check_file(Path(path))
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
        kind = about["kind"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    return kind if isinstance(kind, str) else None


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Whatever a file makes of a reader is a ``ValueError`` that names the file.

    A file from elsewhere may hold anything; what a parser, a constructor or torch raises
    on it is no error of the program.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        if type(error) is KeyError:
            reason = f"it has no {error}: another version wrote it, or it is damaged; make it again"
        raise ValueError(shown(f"{path} cannot be read as {kind}: {reason}")) from error


def _digest(kind: str, version: int, text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps([kind, version, text]).encode())
    for name in sorted(tensors):
        digest.update(json.dumps(name).encode())
        feed(digest, tensors[name])
    return digest.hexdigest()
