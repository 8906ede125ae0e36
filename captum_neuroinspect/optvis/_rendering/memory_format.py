"""In which order of memory networks take images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_neuroinspect._core.modules import is_close

# Rounding of float32 through a hundred layers stays a hundred times below this share.
_TOLERANCE = 1e-3


def format_for(run: Callable[[Tensor], Sequence[Tensor]], images: Tensor) -> torch.memory_format:
    """Channels last, which convolutions are faster in, if a network takes it; else contiguous.

    A network that flattens maps by ``view`` does not: it is tried forwards and backwards.

    Args:
        run: from images to numbers that can be differentiated.
        images: ``(N, C, H, W)``, N at least 2, on the device.

    Examples::

        >>> images = torch.rand(2, 3, 4, 4)
        >>> format_for(lambda images: [images.view(2, -1)], images)
        torch.contiguous_format
        >>> format_for(lambda images: [images.flatten(1)], images)
        torch.channels_last
    """
    try:
        with torch.no_grad():
            usual = run(images.contiguous())
        found = _tried(run, images.contiguous(memory_format=torch.channels_last))
    except Exception:  # whatever a network says of an order that it cannot take
        return torch.contiguous_format
    same = all(is_close(one, other, _TOLERANCE) for one, other in zip(found, usual, strict=True))
    return torch.channels_last if same else torch.contiguous_format


def _tried(run: Callable[[Tensor], Sequence[Tensor]], images: Tensor) -> Sequence[Tensor]:
    """What a network gives, forwards and, to see whether that works, backwards."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        outputs = run(images)
        total = torch.stack([output.double().sum() for output in outputs]).sum()
        torch.autograd.grad(total, images)
    return outputs
