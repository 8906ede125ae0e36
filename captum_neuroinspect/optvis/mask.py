"""Masks that leave an illusion bright only where its neuron is active."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect.optvis._checks import as_size, check_between


def activation_mask(
    activation_map: Tensor,
    size: int | Sequence[int],
    threshold: float = 0.5,
    floor: float = 0.5,
) -> Tensor:
    """Dim the parts of an image in which a neuron is less active than elsewhere.

    The map is upsampled bilinearly and z-scored over the pixels of its own image.
    Pixels below ``threshold`` become ``floor``, the others 1. Where no pixel reaches
    the threshold (a constant map; a neuron that is saturated nearly everywhere) the
    map says nothing about places, and the mask is 1 everywhere.

    Args:
        activation_map: activation of one neuron per image, shape ``(N, h, w)``.
        size: size of the image in pixels, one side or ``(height, width)``.
        threshold: in standard deviations above the mean over pixels.
        floor: brightness of what is dimmed, 0..1.

    Returns:
        Masks of shape ``(N, 1, height, width)`` with values ``floor`` and 1.

    Raises:
        ValueError: when ``activation_map`` is not ``(N, h, w)`` or ``floor`` is
            outside 0..1.

    Examples::

        >>> activation_mask(torch.tensor([[[0.0, 0.0], [0.0, 4.0]]]), size=2)
        tensor([[[[0.5000, 0.5000],
                  [0.5000, 1.0000]]]])
    """
    if activation_map.ndim != 3:
        raise ValueError(
            f"activation_map has shape {tuple(activation_map.shape)}, expected (N, h, w)"
        )
    check_between("floor", floor, 0, 1)
    maps = activation_map.detach().float().unsqueeze(1)
    maps = F.interpolate(maps, as_size(size), mode="bilinear", align_corners=False)
    stands_out, is_flat = _standing_out(maps, threshold)
    says_nothing = is_flat | ~stands_out.any(dim=3, keepdim=True).any(dim=2, keepdim=True)
    return torch.where(stands_out | says_nothing, 1.0, floor)


def _standing_out(maps: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Pixels with a z-score of at least ``threshold``, and which maps are constant."""
    mean = maps.mean((2, 3), keepdim=True)
    std = maps.std((2, 3), correction=0, keepdim=True)
    # Interpolation leaves rounding errors in a constant map; they are not a pattern.
    is_flat = std <= 1e-6 * maps.abs().amax((2, 3), keepdim=True)
    return (maps - mean) / std.masked_fill(is_flat, 1.0) >= threshold, is_flat
