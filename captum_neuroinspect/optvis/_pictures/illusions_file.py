"""Illusions on disk: one file that keeps everything, or pictures with their numbers."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from captum_neuroinspect._core.files import write_atomically, write_text
from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect._core.texts import shown

if TYPE_CHECKING:
    from captum_neuroinspect.optvis.illusions import Illusions

SUFFIX = ".safetensors"
_TENSORS = ("images", "masks", "activations", "logits", "similarities", "snapshots", "maps")
_OTHERS = ("neurons", "classes", "class_names", "settings", "snapshot_steps")


def write_file(illusions: Illusions, path: Path) -> Path:
    """Write every field into one safetensors file: tensors as such, the rest as JSON."""
    tensors = {name: t for name in _TENSORS if (t := getattr(illusions, name)) is not None}
    record = {name: getattr(illusions, name) for name in _OTHERS}
    return write_kept(path, "Illusions", tensors, record)


def read_fields(path: Path) -> dict[str, Any]:
    """Every field of a file that :func:`write_file` wrote.

    Raises:
        OSError: when there is no such file, or it may not be read.
        ValueError: when it is something else, damaged, or comes from a newer version.
    """
    if path.is_dir():
        raise ValueError(
            f"{shown(path)} is a folder, expected the {SUFFIX} file of an Illusions: pictures "
            "alone cannot be loaded again"
        )
    tensors, record = read_kept(path, "Illusions")
    for name in ("neurons", "classes", "class_names", "snapshot_steps"):
        if isinstance(record.get(name), list):
            record[name] = tuple(record[name])
    return {**dict.fromkeys(_TENSORS), **tensors, **record}


def write_pictures(
    illusions: Illusions, pictures: Sequence[Image.Image], folder: Path
) -> list[Path]:
    """One PNG an illusion and ``illusions.json``; the paths in this order."""
    rows = illusions.rows()
    paths = [folder / _file_name(number, row) for number, row in enumerate(rows)]
    for path, image in zip(paths, pictures, strict=True):
        write_atomically(path, image.save)
    named = [{"file": path.name, **row} for path, row in zip(paths, rows, strict=True)]
    content = {"settings": illusions.settings, "illusions": named}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return [*paths, write_text(folder / "illusions.json", text)]


def as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back, so that what is saved is what is there."""
    copy: dict[str, Any] = json.loads(json.dumps(settings, default=_plain_value))
    return copy


def _plain_value(value: Any) -> Any:
    """Numbers of NumPy and torch as such, anything else by its text.

    A record of how an image was made is no reason to lose the image.
    """
    return value.item() if getattr(value, "ndim", None) == 0 else repr(value)


def _file_name(number: int, row: dict[str, Any]) -> str:
    parts = [f"{number:03d}", f"neuron{row['neuron']}"]
    if "class" in row:
        parts.append(f"class{row['class']}")
    parts.append(_plain(row.get("class_name", "")))
    return "_".join(part for part in parts if part) + ".png"


def _plain(name: str) -> str:
    """ASCII letters and digits of a name, joined by ``-``: safe on every file system."""
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", ascii_only)[:40].strip("-")
