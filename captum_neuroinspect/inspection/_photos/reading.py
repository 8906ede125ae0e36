"""Any kind of picture as an RGB tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

_SLACK = 1e-3  # what a resize with cubic weights may leave above 1


def read_file(path: str) -> Tensor:
    """A picture's file as ``(3, H, W)`` uint8, turned as its camera says."""
    with Image.open(path) as image:
        return as_rgb(image)


def check_file(path: str) -> None:
    """Read a file to its end, at an eighth of the size where the format allows it."""
    with Image.open(path) as image:
        image.draft("RGB", (1, 1))
        image.load()


def as_rgb(picture: Any) -> Tensor:
    """A Pillow image, an array or a tensor as ``(3, H, W)``, uint8 or float in 0..1.

    Args:
        picture: grey, with a palette, with transparency (which is dropped, as
            torchvision does), 16 bit or CMYK; arrays are ``(H, W)`` or ``(H, W, C)``,
            tensors ``(H, W)`` or ``(C, H, W)``.

    Raises:
        TypeError: for another kind of object or number.
        ValueError: for another shape, or values outside 0..1.

    Examples::

        >>> as_rgb(torch.zeros(1, 4, 5)).shape, as_rgb(Image.new("P", (5, 4))).shape
        (torch.Size([3, 4, 5]), torch.Size([3, 4, 5]))
    """
    if isinstance(picture, Image.Image):
        return tv.pil_to_tensor(_pillow_rgb(ImageOps.exif_transpose(picture)))
    if isinstance(picture, np.ndarray):
        picture = torch.from_numpy(np.array(picture))  # a copy: arrays may be read-only
        picture = picture.permute(2, 0, 1) if picture.ndim == 3 else picture
    if not isinstance(picture, Tensor):
        raise TypeError(f"an image is {type(picture).__name__}, expected a picture or a tensor")
    picture = picture.detach().cpu()
    _check_values(picture)
    return _three_channels(picture)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say which photo cannot be read."""
    try:
        yield
    # Pillow has as many kinds of errors as formats: a broken PNG is a SyntaxError.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"photo {name} cannot be read ({type(error).__name__}: {error}): mend or remove it, "
            'or give on_error="skip" (--skip-unreadable)'
        ) from error


def _pillow_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # Pillow would cut 16 bits off at 255: everything white.
        values = np.asarray(image, dtype=np.float64)
        scale = 1 / 257 if image.mode != "F" else 255 if values.max() <= 1 else 1
        return Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # by itself Pillow warns
    return image.convert("RGB")


def _check_values(picture: Tensor) -> None:
    if picture.dtype == torch.uint8:
        return
    if not picture.is_floating_point():
        raise TypeError(f"an image has dtype {picture.dtype}, expected uint8 or float in 0..1")
    low, high = (float(picture.min()), float(picture.max())) if picture.numel() else (0.0, 0.0)
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # also NaN
        raise ValueError(
            f"values from {low:.3g} to {high:.3g}, expected 0..1: give images before "
            "normalisation, which the model's preprocessing does"
        )


def _three_channels(picture: Tensor) -> Tensor:
    picture = picture.unsqueeze(0) if picture.ndim == 2 else picture
    if picture.ndim != 3 or picture.shape[0] not in (1, 2, 3, 4) or not picture.numel():
        raise ValueError(
            f"an image has shape {tuple(picture.shape)}, expected (C, H, W) with 1 to 4 channels"
        )
    n_colours = 3 if picture.shape[0] >= 3 else 1  # what follows is opacity
    return picture[:n_colours].expand(3, -1, -1)
