"""A photo with what a neuron looks at drawn over it, as one picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_OPACITY = 0.75


def overlay(image: Tensor, heat: Tensor) -> Tensor:
    """Draw a map over a greyed photo: bright where the map is large, clear where it is 0.

    Each map is scaled by itself, so colours compare places, not photos.

    Args:
        image: ``(3, H, W)`` in 0..1.
        heat: ``(h, w)``; what is below 0 counts as 0.

    Returns:
        ``(3, H, W)`` in 0..1.

    Examples::

        >>> overlay(torch.rand(3, 8, 8), torch.rand(2, 2)).shape
        torch.Size([3, 8, 8])
    """
    from matplotlib import colormaps  # an import that takes long, for those who draw

    size = image.shape[-2:]
    fine = F.interpolate(heat.clamp(min=0)[None, None], size, mode="bicubic")[0, 0].clamp(min=0)
    share = fine / fine.max() if fine.max() > 0 else fine
    colours = torch.from_numpy(colormaps["inferno"](share.numpy())[..., :3]).float()
    grey = image.mean(0, keepdim=True).expand(3, -1, -1)
    opacity = _OPACITY * share.sqrt()
    return torch.lerp(grey, colours.permute(2, 0, 1), opacity).clamp(0, 1)
