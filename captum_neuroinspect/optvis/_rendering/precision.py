"""Which precision a network is faster in, by a short measurement."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

# bfloat16 costs digits: a gain within the noise of the clock is not worth them.
_WORTH = 0.9
_N_TIMED = 2


def bfloat16_pays(run: Callable[[Tensor], Tensor], images: Tensor) -> bool:
    """Whether a step through a network takes under 0.9 of the time in bfloat16.

    It depends on the network as much as on the machine: processors without matrix units
    are slower in it, some for transformers only.

    Args:
        run: from images to numbers that can be differentiated.
        images: ``(N, C, H, W)``, on the device.

    Examples::

        >>> bfloat16_pays(lambda images: images.sum(), torch.rand(1, 3, 8, 8)) in (True, False)
        True
    """
    seconds = {
        is_low: min(_seconds(run, images, is_low) for _ in range(1 + _N_TIMED))
        for is_low in (False, True)
    }
    return seconds[True] < _WORTH * seconds[False]


def _seconds(run: Callable[[Tensor], Tensor], images: Tensor, is_low: bool) -> float:
    start = time.perf_counter()
    images = images.detach().requires_grad_()
    with (
        torch.enable_grad(),
        torch.autocast(images.device.type, torch.bfloat16, enabled=is_low),
    ):
        output = run(images)
    (gradient,) = torch.autograd.grad(output.float().sum(), images)
    # A number on the CPU waits for the device.
    gradient.sum().item()
    return time.perf_counter() - start
