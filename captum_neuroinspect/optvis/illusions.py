"""The images that were rendered, with every number that belongs to them."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captum_neuroinspect._files import write_atomically, write_text
from captum_neuroinspect.optvis._sheet import contact_sheet


@dataclass(frozen=True, eq=False)
class Illusions:
    """What neurons look for in classes: N images and their numbers, on the CPU.

    Attributes:
        images: ``(N, 3, H, W)``, 0..1, float32.
        masks: ``(N, 1, H, W)``, 0..1, or ``None`` where the neurons have no maps.
        activations: activation of each image's neuron, ``(N,)``.
        logits: logit of each image's class, ``(N,)``, or ``None`` without classes.
        similarities: cosine of image and text embedding, ``(N,)``, or ``None``
            without an encoder.
        neurons: the neuron of each image.
        classes: the class of each image, or ``None``.
        class_names: the name of each image's class, or ``None``.
        settings: how they were rendered; JSON values only.

    Raises:
        ValueError: when the parts differ in length.
    """

    images: Tensor
    masks: Tensor | None
    activations: Tensor
    logits: Tensor | None
    similarities: Tensor | None
    neurons: tuple[int, ...]
    classes: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = ("masks", "activations", "logits", "similarities", "neurons")
        for name in (*parts, "classes", "class_names"):
            part = getattr(self, name)
            if part is not None and len(part) != len(self.images):
                raise ValueError(
                    f"{name} has {len(part)} entries, expected {len(self.images)}: one per image"
                )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images.shape[-2:]
        return f"Illusions({len(self)} images of {width}x{height}, neurons={self.neurons})"

    def masked(self) -> Tensor:
        """The images, dimmed where their neurons are less active, ``(N, 3, H, W)``.

        Raises:
            RuntimeError: when there are no masks.
        """
        if self.masks is None:
            raise RuntimeError(
                "these illusions have no masks: their neurons have no positions in the image"
            )
        return self.images * self.masks

    def to_pil(self, masked: bool = False) -> list[Image.Image]:
        """One picture per illusion."""
        images = self.masked() if masked else self.images
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        # Pillow wants grey images without a channel dimension.
        return [Image.fromarray(p.squeeze(-1).contiguous().numpy()) for p in pixels]

    def captions(self) -> list[str]:
        """Lines under each picture: neuron, class, activation."""
        return ["\n".join(lines) for lines in zip(*self._caption_lines(), strict=True)]

    def grid(self, masked: bool = False, columns: int | None = None) -> Image.Image:
        """All pictures on one sheet, each with its caption.

        Args:
            masked: dim the places where the neurons are less active.
            columns: pictures in a row; by default as square as possible.

        Raises:
            ValueError: when ``columns`` is below 1.
            RuntimeError: when masks are asked for and there are none.
        """
        return contact_sheet(self.to_pil(masked), self.captions(), columns)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary an illusion, ready for ``pandas.DataFrame``; NaN becomes ``None``."""
        columns = {
            "neuron": self.neurons,
            "class": self.classes,
            "class_name": self.class_names,
            "activation": _numbers(self.activations),
            "logit": _numbers(self.logits),
            "similarity": _numbers(self.similarities),
        }
        present = {name: column for name, column in columns.items() if column is not None}
        return [dict(zip(present, row, strict=True)) for row in zip(*present.values(), strict=True)]

    def save(self, folder: str | Path) -> list[Path]:
        """Write one PNG per illusion and ``illusions.json`` with every number.

        Files are written whole or not at all. Class names are cut down to plain
        letters and digits in file names and kept as they are in the JSON.

        Args:
            folder: made when it does not exist.

        Returns:
            The paths of the PNGs, in order, then that of the JSON.
        """
        folder = Path(folder)
        rows = self.rows()
        paths = [folder / _file_name(number, row) for number, row in enumerate(rows)]
        for path, image in zip(paths, self.to_pil(), strict=True):
            write_atomically(path, image.save)
        named = [{"file": path.name, **row} for path, row in zip(paths, rows, strict=True)]
        content = {"settings": self.settings, "illusions": named}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return [*paths, write_text(folder / "illusions.json", text)]

    def _caption_lines(self) -> list[list[str]]:
        lines = [[f"neuron {neuron}" for neuron in self.neurons]]
        if self.class_names is not None:
            lines.append(list(self.class_names))
        elif self.classes is not None:
            lines.append([f"class {index}" for index in self.classes])
        lines.append([f"activation {a:.2f}" for a in self.activations.tolist()])
        return lines


def _numbers(values: Tensor | None) -> list[float | None] | None:
    """Floats for JSON, which knows no NaN and no infinity."""
    if values is None:
        return None
    return [value if math.isfinite(value) else None for value in values.tolist()]


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
