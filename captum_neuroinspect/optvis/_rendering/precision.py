"""Which precision a network is faster in, by a short measurement."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

# bfloat16 costs digits: a gain within the noise of the clock is not worth them.
_WORTH = 0.9
_N_TIMED = 2
# Tests put their own clock here: what they say must not depend on how busy a machine is.
CLOCK: Callable[[], float] = time.perf_counter


def bfloat16_pays(
    run: Callable[[Tensor], Tensor], images: Tensor, *, clock: Callable[[], float] | None = None
) -> bool:
    """Whether a step through a network takes under 0.9 of the time in bfloat16.

    It depends on the network as much as on the machine: processors without matrix units
    are slower in it, some for transformers only.

    Args:
        run: from images to numbers that can be differentiated.
        images: ``(N, C, H, W)``, on the device.
        clock: gives the time in seconds; None: :data:`CLOCK`.

    Examples::

        >>> bfloat16_pays(lambda images: images.sum(), torch.rand(1, 3, 8, 8)) in (True, False)
        True
    """
    now = CLOCK if clock is None else clock
    seconds = {
        is_low: min(_seconds(run, images, is_low, now) for _ in range(1 + _N_TIMED))
        for is_low in (False, True)
    }
    return seconds[True] < _WORTH * seconds[False]


def _seconds(
    run: Callable[[Tensor], Tensor], images: Tensor, is_low: bool, now: Callable[[], float]
) -> float:
    start = now()
    images = images.detach().requires_grad_()
    with (
        torch.enable_grad(),
        torch.autocast(images.device.type, torch.bfloat16, enabled=is_low),
    ):
        output = run(images)
    (gradient,) = torch.autograd.grad(output.float().sum(), images)
    # A number on the CPU waits for the device.
    gradient.sum().item()
    return now() - start
