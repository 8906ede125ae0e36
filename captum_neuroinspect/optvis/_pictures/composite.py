"""Illusions over a background, by their masks, and as pictures."""

from __future__ import annotations

from numbers import Real
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from captum_neuroinspect._core.checks import check_between

Background = Literal["grey", "white", "black"] | float

_SHADES = {"grey": 0.5, "white": 1.0, "black": 0.0}
PICTURE_CHANNELS = (1, 3, 4)


def composite(images: Tensor, masks: Tensor, background: Background) -> Tensor:
    """``images * masks + background * (1 - masks)``.

    Args:
        images: ``(N, C, H, W)``, 0..1.
        masks: ``(N, 1, H, W)``, 0..1: the opacity of the image.
        background: the name of a shade, or a brightness in 0..1.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        TypeError: for a background of another kind.
        ValueError: for an unknown name or a brightness outside 0..1.

    Examples::

        >>> image, mask = torch.ones(1, 3, 1, 2), torch.tensor([[[[1.0, 0.5]]]])
        >>> composite(image, mask, background=0.2)[0, 0]
        tensor([[1.0000, 0.6000]])
    """
    return images * masks + _brightness(background) * (1 - masks)


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


def _brightness(background: Background) -> float:
    if isinstance(background, str):
        if background not in _SHADES:
            raise ValueError(f"background={background!r}, expected one of {', '.join(_SHADES)}")
        return _SHADES[background]
    if not isinstance(background, Real):
        raise TypeError(f"background is {type(background).__name__}, expected a name or a number")
    check_between("background", background, 0, 1)
    return float(background)
