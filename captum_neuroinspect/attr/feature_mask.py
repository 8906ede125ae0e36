"""Regions of photos by where a neuron is excited, as Captum's perturbation methods take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.checks import as_size, check_at_least, check_whole
from captum_neuroinspect._core.undisturbed import undisturbed


@undisturbed()
def feature_mask(
    maps: Tensor, size: int | Sequence[int], *, n_levels: int = 4, connected: bool = False
) -> Tensor:
    """Cut photos into regions by a neuron's maps: Captum's ``feature_mask``.

    Each map is upsampled bilinearly and cut into levels with as many pixels each; equal pixels
    stay together. ``FeatureAblation(model).attribute(photos, target, feature_mask=mask)`` then
    tells how much the class, or another neuron, needs what the neuron is excited by;
    ``ShapleyValueSampling`` takes it too.

    Args:
        maps: ``(N, h, w)`` of one neuron, such as
            ``neuron_saliency(..., method="gradcam")[:, 0, 0]``.
        size: of the photos in pixels, one side or ``(height, width)``.
        n_levels: at least 2.
        connected: make a region of each part of a level that touches no other part of it.

    Returns:
        int64 ``(N, 1, height, width)``: 0 is the lowest level, the highest number the highest.
        Connected regions are numbered from the lowest level to the highest. Numbers leave no gaps;
        a map that is the same everywhere is one region. Captum asks for one number of regions in a
        call: where photos differ in it, it ablates nothing in those with fewer.

    Raises:
        TypeError: when maps are no tensor of floating point numbers, or ``n_levels`` is not whole.
        ValueError: when they are not ``(N, h, w)`` or not finite, or for fewer than two levels.

    Examples::

        >>> feature_mask(torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]), 2, n_levels=2)
        tensor([[[[0, 0],
                  [1, 1]]]])
    """
    if not isinstance(maps, Tensor) or not maps.is_floating_point():
        raise TypeError("maps is no tensor of floating point numbers, expected (N, h, w)")
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"maps has shape {tuple(maps.shape)}, expected (N, h, w)")
    if not all_finite(maps):
        raise ValueError("maps has NaN or infinite values")
    check_whole("n_levels", n_levels)
    check_at_least("n_levels", n_levels, 2)
    scaled = F.interpolate(
        # Not in less than they have: float64 may hold what float32 rounds to one value.
        maps.detach().to(torch.promote_types(maps.dtype, torch.float32))[:, None],
        as_size(size),
        mode="bilinear",
        align_corners=False,
    )
    masks = [_levels(one[0], n_levels) for one in scaled]
    if connected:
        masks = [_parts(one) for one in masks]
    if not masks:
        return torch.empty(0, 1, *as_size(size), dtype=torch.int64, device=maps.device)
    return torch.stack(masks)[:, None].to(maps.device)


def _levels(values: Tensor, n_levels: int) -> Tensor:
    """``(H, W)`` which of the levels with as many pixels each, without gaps."""
    _, which, counts = values.flatten().unique(return_inverse=True, return_counts=True)
    # Equal pixels have the rank of their middle: of two values one is low and one is high.
    middle = (counts.cumsum(0) - counts / 2) / values.numel()
    levels = (middle * n_levels).long()
    return levels[which].unique(return_inverse=True)[1].view(values.shape)


def _parts(levels: Tensor) -> Tensor:
    """``(H, W)`` the connected parts of each level, lower levels first."""
    from scipy import ndimage  # loaded for those who ask: `attr` is quick to import

    array = levels.cpu().numpy()
    found = torch.zeros(levels.shape, dtype=torch.int64)
    n_before = 0
    for level in range(int(array.max()) + 1):
        parts, n_parts = ndimage.label(array == level)
        numbered = torch.from_numpy(parts).long()
        found = torch.where(numbered > 0, numbered - 1 + n_before, found)
        n_before += n_parts
    return found
