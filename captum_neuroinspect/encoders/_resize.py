"""Bring images to the size that a network was trained on."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

ResizeMode = Literal["shortest", "longest", "squash"]


def fit(
    images: Tensor,
    size: tuple[int, int],
    resize_mode: ResizeMode = "squash",
    *,
    bicubic: bool = False,
) -> Tensor:
    """Resize with antialiasing, differentiably.

    Args:
        images: (N, C, H, W).
        size: height and width in pixels.
        resize_mode: for another aspect ratio: ``"shortest"`` crops the centre,
            ``"longest"`` pads with black, ``"squash"`` distorts.
        bicubic: instead of bilinear. The result may leave 0..1 a little at sharp
            edges; it is not clamped, for that would cut off the gradient there.

    Returns:
        Images (N, C, *size).

    Example:
        >>> import torch
        >>> fit(torch.rand(1, 3, 30, 20), (10, 10), "shortest").shape
        torch.Size([1, 3, 10, 10])
    """
    height, width = images.shape[-2:]
    ratios = (size[0] / height, size[1] / width)
    if resize_mode != "squash":
        ratios = (max(ratios),) * 2 if resize_mode == "shortest" else (min(ratios),) * 2
    resized = (max(1, round(height * ratios[0])), max(1, round(width * ratios[1])))
    if resized != (height, width):
        mode = "bicubic" if bicubic else "bilinear"
        images = F.interpolate(images, resized, mode=mode, align_corners=False, antialias=True)
    return images if resized == size else _crop_or_pad(images, size)


def _crop_or_pad(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Keep the centre; black around it where the images are smaller."""
    add_height, add_width = size[0] - images.shape[-2], size[1] - images.shape[-1]
    top, left = add_height // 2, add_width // 2
    # Padding by a negative number of pixels crops.
    return F.pad(images, (left, add_width - left, top, add_height - top))
