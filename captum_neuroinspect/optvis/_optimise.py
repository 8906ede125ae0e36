"""The optimisation of one batch of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from captum_neuroinspect.optvis._checks import as_size, check_at_least, check_between, check_whole
from captum_neuroinspect.optvis._scores import PairScorer
from captum_neuroinspect.optvis.loss import illusion_loss
from captum_neuroinspect.optvis.transform import Transform

Precision = Literal["float32", "bfloat16"]

# AdamW as the paper's equations (2)-(4) are optimised; the learning rate ends at this share.
_BETAS = (0.5, 0.99)
_WEIGHT_DECAY = 2e-4
_LAST_LR = 0.12
# An activation up to this size is a neuron behind a closed rectifier.
_SILENT = 1e-6


@dataclass(frozen=True)
class RenderOptions:
    """Numbers of one rendering, checked when they are put together.

    Raises:
        TypeError: when a whole number is something else.
        ValueError: when a number is out of its range.
    """

    size: tuple[int, int]
    n_steps: int
    gamma: float
    eps: float
    lr: float
    batch_size: int
    seed: int
    precision: Precision

    def __post_init__(self) -> None:
        as_size(self.size)
        for name in ("n_steps", "batch_size", "seed"):
            check_whole(name, getattr(self, name))
        check_at_least("n_steps", self.n_steps, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("eps", self.eps, 0)
        check_between("gamma", self.gamma, 0, 1)
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr}, expected a positive number")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision={self.precision!r}, expected 'float32' or 'bfloat16'")


def optimise(
    params: list[Tensor],
    image_f: Callable[[], Tensor],
    transforms: Sequence[Transform],
    scorer: PairScorer,
    options: RenderOptions,
    on_step: Callable[[], object],
) -> Tensor:
    """Change ``params`` until the images please the scorer.

    Args:
        params: leaf tensors, as Lucent's ``param_f`` gives them.
        image_f: gives the images ``(N, C, H, W)`` in 0..1.
        transforms: applied to the images in each step, in this order.
        scorer: scores the transformed images, clamped to 0..1.
        options: steps, step size and weights of the loss.
        on_step: called after each step.

    Returns:
        The images after the last step, detached.
    """
    optimizer = AdamW(params, lr=options.lr, betas=_BETAS, weight_decay=_WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, options.n_steps, eta_min=_LAST_LR * options.lr)
    # Nothing is known before the first step, so that it redirects for all images.
    silent = torch.ones(len(scorer), dtype=torch.bool)
    for _ in range(options.n_steps):
        images = _transformed(image_f(), transforms)
        # Only for silent images: the others must not notice who shares their batch.
        scores = scorer(images, redirected=silent)
        loss = illusion_loss(*scores, gamma=options.gamma, eps=options.eps)
        optimizer.zero_grad()
        # The sum, not the mean: the gradient of an image must not depend on the batch.
        loss.sum().backward(inputs=params)
        optimizer.step()
        schedule.step()
        silent = scores.activation.detach().abs() <= _SILENT
        on_step()
    return image_f().detach()


def _transformed(images: Tensor, transforms: Sequence[Transform]) -> Tensor:
    for transform in transforms:
        images = transform(images)
    return images.clamp(0, 1).contiguous(memory_format=torch.channels_last)
