"""Any kind of picture as an RGB tensor."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.photos._opening import open_picture

_SLACK = 1e-3  # what a resize with cubic weights may leave above 1
# Formats that Pillow opens and that are no photos: drawings and films, for which it needs other
# programs, and scientific containers, which it only recognises.
_NO_PHOTOS = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}


class UnfitError(ValueError):
    """An item that a data set gives as it should not: never left out as unreadable."""


def photo_suffixes() -> tuple[str, ...]:
    """The suffixes of the formats that Pillow reads as photos, with its plugins."""
    known = Image.registered_extensions()
    kinds = {*Image.OPEN, "MPO"} - _NO_PHOTOS  # a camera's MPO opens as JPEG
    return tuple(sorted(suffix for suffix, kind in known.items() if kind in kinds))


def read_file(path: str) -> Tensor:
    """A picture's file as ``(3, H, W)`` uint8, turned as its camera says."""
    _check_regular(path)
    with open_picture(path) as image:
        return as_rgb(image)


def check_file(path: str) -> None:
    """Read a file to its end, at an eighth of the size where the format allows it."""
    _check_regular(path)
    with open_picture(path) as image:
        image.draft("RGB", (1, 1))
        image.load()


def file_digest(path: str) -> str:
    """The sha256 of a file's bytes."""
    _check_regular(path)
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def picture_digest(picture: Tensor) -> str:
    """The sha256 of a picture's type, shape and values."""
    digest = hashlib.sha256(f"{picture.dtype}{tuple(picture.shape)}".encode())
    values = picture.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(values.numpy().tobytes())
    return digest.hexdigest()


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
        raise TypeError(f"the image is {type(picture).__name__}, expected a picture or a tensor")
    picture = picture.detach().cpu()
    _check_values(picture)
    return _three_channels(picture)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say which photo cannot be read."""
    try:
        yield
    except UnfitError as error:
        raise UnfitError(f"photo {shown(name)}: {shown(error)}") from None
    except TypeError as error:
        raise TypeError(f"photo {shown(name)}: {shown(error)}") from error
    # Pillow has as many kinds of errors as formats: a broken PNG is a SyntaxError.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"photo {shown(name)} cannot be read ({type(error).__name__}: {shown(error)}): repair "
            'or remove it, or give on_error="skip" (--skip-unreadable)'
        ) from error


@contextmanager
def unfit() -> Iterator[None]:
    """What is wrong in here is no matter of one photo's file."""
    try:
        yield
    except ValueError as error:
        raise UnfitError(str(error)) from error


def _check_regular(path: str) -> None:
    # A pipe would be waited for without end.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is no regular file")


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
        raise TypeError(f"the image has dtype {picture.dtype}, expected uint8 or float in 0..1")
    low, high = (float(picture.min()), float(picture.max())) if picture.numel() else (0.0, 0.0)
    if low >= -_SLACK and high <= 1 + _SLACK:
        return
    if not bool(picture.isfinite().all()):
        raise ValueError(f"values from {low:.3g} to {high:.3g}, expected 0..1")
    if 0 <= low and high <= 255:
        raise UnfitError(
            f"values from {low:.3g} to {high:.3g}, expected 0..1: give uint8, or divide by 255"
        )
    raise UnfitError(
        f"values from {low:.3g} to {high:.3g}: normalised already? Expected 0..1: leave Normalize "
        "out of the Dataset's transform, as the model's preprocessing does it (preprocess=)"
    )


def _three_channels(picture: Tensor) -> Tensor:
    picture = picture.unsqueeze(0) if picture.ndim == 2 else picture
    if picture.ndim != 3 or picture.shape[0] not in (1, 2, 3, 4) or not picture.numel():
        raise ValueError(
            f"the image has shape {tuple(picture.shape)}, expected (C, H, W) with 1 to 4 channels"
        )
    n_colours = 3 if picture.shape[0] >= 3 else 1  # what follows is opacity
    return picture[:n_colours].expand(3, -1, -1)
