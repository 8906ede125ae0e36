"""Illusions on disk: one file that keeps everything, or pictures with their numbers."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from captum_neuroinspect._files import write_atomically, write_text

if TYPE_CHECKING:
    from captum_neuroinspect.optvis.illusions import Illusions

SUFFIX = ".safetensors"
_TENSORS = ("images", "masks", "activations", "logits", "similarities", "snapshots", "maps")
_OTHERS = ("neurons", "classes", "class_names", "settings", "snapshot_steps")
_KEY = "captum_neuroinspect.Illusions"
_VERSION = 2  # 2 has maps


def write_file(illusions: Illusions, path: Path) -> Path:
    """Write every field into one safetensors file: tensors as such, the rest as JSON."""
    # Copies, because safetensors refuses tensors that share memory.
    tensors = {
        name: tensor.detach().clone().contiguous()
        for name in _TENSORS
        if (tensor := getattr(illusions, name)) is not None
    }
    fields = {name: getattr(illusions, name) for name in _OTHERS}
    # One entry, because safetensors writes several in an order that changes.
    about = {_KEY: json.dumps({"version": _VERSION, "fields": fields})}
    return write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=about))


def read_fields(path: Path) -> dict[str, Any]:
    """Every field of a file that :func:`write_file` wrote.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is something else, or comes from a newer version.
    """
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder, expected the {SUFFIX} file of an Illusions: pictures alone "
            "cannot be loaded again"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            fields = _fields(path, file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole {SUFFIX} file: {error}") from None
    return {**dict.fromkeys(_TENSORS), **tensors, **fields}


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


def _fields(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise ValueError(f"{path} holds no Illusions, expected a file of Illusions.save")
    about = json.loads(metadata[_KEY])
    if about["version"] > _VERSION:
        raise ValueError(
            f"{path} has version {about['version']} of the format, this package reads up to "
            f"{_VERSION}: update captum_neuroinspect"
        )
    fields: dict[str, Any] = about["fields"]
    return fields


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
