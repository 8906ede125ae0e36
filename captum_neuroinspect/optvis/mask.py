"""Masks that leave an illusion bright only where its neuron is active."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect._core.checks import as_size, check_at_least, check_between
from captum_neuroinspect._core.undisturbed import undisturbed


@undisturbed()
def activation_mask(
    activation_map: Tensor,
    size: int | Sequence[int],
    threshold: float = 0.5,
    floor: float = 0.5,
    softness: float = 0.0,
    blur: float = 0.0,
) -> Tensor:
    """Dim the parts of an image in which a neuron is less active than elsewhere.

    The map is upsampled bilinearly and z-scored over the pixels of its own image.
    Pixels below ``threshold`` become ``floor``, the others 1; with ``softness`` the
    mask is ``floor + (1 - floor) * sigmoid((z - threshold) / softness)`` instead.
    Where no pixel reaches the threshold (a constant map; a neuron that is saturated
    nearly everywhere) the map says nothing about places, and the mask is 1 everywhere.

    Args:
        activation_map: activation of one neuron per image, shape ``(N, h, w)``.
        size: size of the image in pixels, one side or ``(height, width)``.
        threshold: in standard deviations above the mean over pixels.
        floor: brightness of what is dimmed, 0..1.
        softness: in standard deviations; 0 is a hard edge.
        blur: standard deviation in pixels of a Gaussian over the finished mask; 0 for
            none.

    Returns:
        Masks of shape ``(N, 1, height, width)`` with values from ``floor`` to 1, with
        a hard edge only these two.

    Raises:
        ValueError: when ``activation_map`` is not ``(N, h, w)``, ``floor`` is outside
            0..1, or ``softness`` or ``blur`` is negative.

    Examples::

        >>> corner = torch.tensor([[[0.0, 0.0], [0.0, 4.0]]])
        >>> activation_mask(corner, size=2)
        tensor([[[[0.5000, 0.5000],
                  [0.5000, 1.0000]]]])
        >>> activation_mask(corner, size=2, softness=0.5)
        tensor([[[[0.5519, 0.5519],
                  [0.5519, 0.9608]]]])
    """
    if activation_map.ndim != 3:
        raise ValueError(
            f"activation_map has shape {tuple(activation_map.shape)}, expected (N, h, w)"
        )
    check_between("floor", floor, 0, 1)
    check_at_least("softness", softness, 0)
    check_at_least("blur", blur, 0)
    maps = activation_map.detach().float().unsqueeze(1)
    maps = F.interpolate(maps, as_size(size), mode="bilinear", align_corners=False)
    scores, is_flat = _z_scores(maps)
    stands_out = scores >= threshold
    says_nothing = is_flat | ~stands_out.any(dim=3, keepdim=True).any(dim=2, keepdim=True)
    if softness:
        masks = _softly(scores - threshold, floor, softness)
    else:
        masks = torch.where(stands_out, 1.0, floor)
    masks = _blurred(masks, blur).clamp(floor, 1) if blur else masks
    return masks.masked_fill(says_nothing, 1.0)


def _softly(excess: Tensor, floor: float, softness: float) -> Tensor:
    low, high = excess.new_tensor(floor), excess.new_tensor(1.0)
    return torch.lerp(low, high, torch.sigmoid(excess / softness))


def _z_scores(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels in standard deviations above the mean, and which maps are constant."""
    mean = maps.mean((2, 3), keepdim=True)
    std = maps.std((2, 3), correction=0, keepdim=True)
    # Interpolation leaves rounding errors in a constant map; they are not a pattern.
    is_flat = std <= 1e-6 * maps.abs().amax((2, 3), keepdim=True)
    return (maps - mean) / std.masked_fill(is_flat, 1.0), is_flat


def _blurred(masks: Tensor, blur: float) -> Tensor:
    radius = math.ceil(3 * blur)
    offsets = torch.arange(-radius, radius + 1, device=masks.device)
    weights = torch.exp(-0.5 * (offsets / blur) ** 2)
    weights = weights / weights.sum()
    padded = F.pad(masks, [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, weights[None, None, None]), weights[None, None, :, None])
