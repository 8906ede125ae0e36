"""Where neurons are excited in photos, as grey pictures in folders, one a neuron."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.files import write_files

_ROUNDING = 1e-3  # of pixels that were resized
HEAT_MAPS = ("photo", "index", "neuron", "file", "highest")


def write_heat_maps(
    maps: Tensor,
    neurons: Sequence[int],
    folder: str | Path,
    *,
    indices: Sequence[int],
    photos: Sequence[str],
    size: tuple[int, int],
    prefix: str = "heat_map_",
) -> list[dict[str, Any]]:
    """Write a grey PNG a photo and neuron; white is the highest of that map.

    Args:
        maps: ``(M, J, h, w)``, such as :func:`neuron_saliency` gives with one channel; what is
            below 0 is black.
        neurons: J.
        folder: gets a folder a neuron, such as ``heat_map_7``.
        indices: M numbers of the photos: ``000012.png``.
        photos: M names, for the rows.
        size: height and width of the pictures.
        prefix: of the folders.

    Returns:
        A row a picture: photo, index, neuron, file (relative to ``folder``), and ``highest``, the
        value that white stands for.

    Raises:
        TypeError: when maps are no tensor of floating point numbers.
        ValueError: for other shapes, values that are not finite, or a photo or neuron twice.
        OSError: when a file cannot be written.
    """
    check_maps(maps, neurons, indices, photos)
    maps = maps.detach().cpu().float().clamp_min(0)
    highest = maps.flatten(2).amax(2)
    scaled = maps / highest.where(highest > 0, 1)[:, :, None, None]
    grey = F.interpolate(scaled, size, mode="bilinear", align_corners=False)
    pixels = (grey.clamp(0, 1) * 255).round().byte().numpy()
    rows = []
    for column, neuron in enumerate(neurons):
        name = f"{prefix}{int(neuron)}"
        files = {f"{i:06}.png": _png(pixels[row, column]) for row, i in enumerate(indices)}
        write_files(Path(folder) / name, files)
        rows += [
            {
                "photo": photo,
                "index": int(index),
                "neuron": int(neuron),
                "file": f"{name}/{int(index):06}.png",
                "highest": float(highest[row, column]),
            }
            for row, (photo, index) in enumerate(zip(photos, indices, strict=True))
        ]
    return rows


def check_maps(
    maps: Tensor, neurons: Sequence[int], indices: Sequence[int], photos: Sequence[str]
) -> None:
    """Refuse what :func:`write_heat_maps` would, before anything is written."""
    if not isinstance(maps, Tensor) or not maps.is_floating_point():
        raise TypeError("maps is no tensor of floating point numbers, expected (M, J, h, w)")
    if maps.ndim != 4 or tuple(maps.shape[:2]) != (len(photos), len(neurons)):
        raise ValueError(
            f"maps has shape {tuple(maps.shape)}, expected ({len(photos)}, {len(neurons)}, h, w) "
            "for as many photos and neurons"
        )
    if len(indices) != len(photos):
        raise ValueError(f"{len(indices)} indices for {len(photos)} photos")
    for name, numbers in (("indices", indices), ("neurons", neurons)):
        if len(set(map(int, numbers))) < len(numbers):
            raise ValueError(f"{name} has a number twice: each map is a file of its own")
    if not all_finite(maps):
        raise ValueError("maps has NaN or infinite values")


def _png(pixels: np.ndarray) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(pixels).save(kept, "PNG")
    return kept.getvalue()


def png_of(image: Tensor) -> bytes:
    """A picture ``(3, H, W)`` in 0..1 as a PNG file.

    Raises:
        TypeError: when it is no tensor of floating point.
        ValueError: for another shape, or values outside 0..1: they would be cut off.
    """
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"a photo is {kind}, expected a tensor of floating point (3, H, W) in 0..1")
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise ValueError(f"a photo has shape {tuple(image.shape)}, expected (3, H, W)")
    low, high = float(image.min()), float(image.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN is neither
        raise ValueError(f"a photo has values in {low:.4g}..{high:.4g}, expected 0..1")
    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().byte()
    return _png(pixels.movedim(0, 2).numpy())
