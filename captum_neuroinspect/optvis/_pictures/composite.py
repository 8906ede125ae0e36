"""Illusions over a background, by their masks, and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

Background = Literal["grey", "white", "black", "checker"] | float | Tensor

_SHADES = {"grey": 0.5, "white": 1.0, "black": 0.0}
PICTURE_CHANNELS = (1, 3, 4)
_SQUARE = 8  # pixels
# Far enough apart to be seen through a picture of half opacity.
_LIGHT, _DARK = 1.0, 0.6


def composite(images: Tensor, masks: Tensor, background: Background) -> Tensor:
    """``images * masks + background * (1 - masks)``.

    Args:
        images: ``(N, C, H, W)``, 0..1.
        masks: ``(N, 1, H, W)``, 0..1: the opacity of the image.
        background: the name of a shade or of a pattern, a brightness, or a tensor in
            0..1: a colour ``(C,)``, a picture ``(C, H, W)``, or ``(N, C, H, W)``.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        TypeError: for a background of another kind.
        ValueError: for an unknown name, a value outside 0..1, or a shape that does
            not fit.

    Examples::

        >>> image, mask = torch.ones(1, 3, 1, 2), torch.tensor([[[[1.0, 0.5]]]])
        >>> composite(image, mask, background=0.2)[0, 0]
        tensor([[1.0000, 0.6000]])
    """
    return images * masks + _as_background(background, images) * (1 - masks)


def checkerboard(size: Sequence[int]) -> Tensor:
    """The pattern that stands for "nothing here" in image editors, ``(height, width)``."""
    rows, columns = (torch.arange(side) // _SQUARE for side in size)
    return torch.where((rows[:, None] + columns) % 2 == 0, _LIGHT, _DARK)


def as_pictures(images: Tensor) -> list[Image.Image]:
    """One picture per image of ``(N, C, H, W)``: grey, RGB or RGBA by the C of 1, 3 or 4.

    Raises:
        ValueError: for another C.
    """
    if images.shape[1] not in PICTURE_CHANNELS:
        raise ValueError(
            f"images have {images.shape[1]} channels, expected 1, 3 or 4 for pictures: choose "
            "some by dataclasses.replace(illusions, images=illusions.images[:, :3])"
        )
    pixels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    # Pillow wants grey images without a channel dimension.
    rows = pixels.permute(0, 2, 3, 1).cpu()
    return [Image.fromarray(row.squeeze(-1).contiguous().numpy()) for row in rows]


def _as_background(background: Background, images: Tensor) -> Tensor:
    if isinstance(background, str):
        return _named(background, images)
    if not isinstance(background, (Real, Tensor)):
        raise TypeError(
            f"background is {type(background).__name__}, expected a name, a number or a tensor"
        )
    values = torch.as_tensor(background).to(images)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"background reaches from {float(values.min()):.3g} to {float(values.max()):.3g}, "
            "expected 0..1"
        )
    values = values[:, None, None] if values.ndim == 1 else values
    if not _fits(values, images):
        raise ValueError(
            f"background has shape {tuple(values.shape)}, expected a colour, (C, H, W) or "
            f"(N, C, H, W) for images of shape {tuple(images.shape)}"
        )
    return values


def _named(name: str, images: Tensor) -> Tensor:
    if name == "checker":
        return checkerboard(images.shape[-2:]).to(images)
    if name not in _SHADES:
        raise ValueError(f"background={name!r}, expected one of {', '.join(_SHADES)}, checker")
    return images.new_tensor(_SHADES[name])


def _fits(values: Tensor, images: Tensor) -> bool:
    sides = zip(reversed(values.shape), reversed(images.shape), strict=False)
    return values.ndim <= images.ndim and all(side in (1, full) for side, full in sides)
