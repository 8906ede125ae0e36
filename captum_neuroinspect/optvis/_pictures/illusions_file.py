"""Illusions on disk: one file that keeps everything, or pictures with their numbers."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from captum_neuroinspect._core.files import write_atomically, write_text
from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect._core.texts import shown

_SUFFIX = ".safetensors"
_TENSORS = ("images", "masks", "activations", "logits", "similarities", "snapshots", "maps")
_OTHERS = ("neurons", "classes", "class_names", "settings", "snapshot_steps")


def write_fields(fields: Mapping[str, Any], path: Path) -> Path:
    """Write the fields of Illusions into one safetensors file: tensors as such, the rest as JSON.

    Raises:
        ValueError: when ``path`` has another ending.
    """
    if path.suffix != _SUFFIX:
        raise ValueError(
            f"path={str(path)!r} does not end in {_SUFFIX}: for a folder of pictures "
            "call save_pictures(folder)"
        )
    tensors = {name: fields[name] for name in _TENSORS if fields[name] is not None}
    return write_kept(path, "Illusions", tensors, {name: fields[name] for name in _OTHERS})


def read_fields(path: Path) -> dict[str, Any]:
    """Every field of a file that :func:`write_fields` wrote.

    Raises:
        OSError: when there is no such file, or it may not be read.
        ValueError: when it is something else, damaged, or comes from a newer version.
    """
    if path.is_dir():
        raise ValueError(
            f"{shown(path)} is a folder, expected the {_SUFFIX} file of an Illusions: pictures "
            "alone cannot be loaded again"
        )
    tensors, record = read_kept(path, "Illusions")
    for name in ("neurons", "classes", "class_names", "snapshot_steps"):
        if isinstance(record.get(name), list):
            record[name] = tuple(record[name])
    return {**dict.fromkeys(_TENSORS), **tensors, **record}


def write_pictures(
    pictures: Sequence[Image.Image],
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    folder: Path,
) -> list[Path]:
    """One PNG an illusion and ``illusions.json`` with all rows; the paths in this order."""
    paths = [folder / _file_name(number, row) for number, row in enumerate(rows)]
    for path, image in zip(paths, pictures, strict=True):
        write_atomically(path, image.save)
    named = [{"file": path.name, **row} for path, row in zip(paths, rows, strict=True)]
    text = json.dumps(
        {"settings": settings, "illusions": named}, indent=2, ensure_ascii=False, allow_nan=False
    )
    return [*paths, write_text(folder / "illusions.json", text + "\n")]


def as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back, so that what is saved is what is there."""
    copy: dict[str, Any] = json.loads(json.dumps(settings, default=_plain_value))
    return copy


def _plain_value(value: Any) -> Any:
    """Numbers of NumPy and torch as such, anything else by its text.

    A record of how an image was made is no reason to lose the image.
    """
    return value.item() if getattr(value, "ndim", None) == 0 else repr(value)


def _file_name(number: int, row: Mapping[str, Any]) -> str:
    parts = [f"{number:03d}", f"neuron{row['neuron']}"]
    if "class" in row:
        parts.append(f"class{row['class']}")
    parts.append(_plain(row.get("class_name", "")))
    return "_".join(part for part in parts if part) + ".png"


def _plain(name: str) -> str:
    """ASCII letters and digits of a name, joined by ``-``: safe on every file system."""
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", ascii_only)[:40].strip("-")
