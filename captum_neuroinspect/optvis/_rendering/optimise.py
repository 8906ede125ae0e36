"""The optimisation of one batch of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from captum_neuroinspect.optvis._rendering.economy import Glances, halved
from captum_neuroinspect.optvis._rendering.memory import Portions
from captum_neuroinspect.optvis._rendering.options import RenderOptions
from captum_neuroinspect.optvis._rendering.rollback import (
    finite_rows,
    has_row_per_image,
    step_rows,
    where_rows,
)
from captum_neuroinspect.optvis._rendering.scores import PairScorer, Scores
from captum_neuroinspect.optvis.loss import illusion_loss
from captum_neuroinspect.optvis.transform import Transform

# AdamW as the paper's equations (2)-(4) are optimised; the learning rate ends at this share.
_BETAS = (0.5, 0.99)
_WEIGHT_DECAY = 2e-4
# What AdamW must not divide by. Its usual 1e-8 is larger than the gradients of some networks
# (a MobileNetV3 never trained: 1e-11), whose images would stay grey.
_EPS = 1e-16
_LAST_LR = 0.12
# An activation up to this size is a neuron behind a closed rectifier.
_SILENT = 1e-6


class Optimisation:
    """Changes ``params`` until the images please the scorer; stops after any step.

    The whole batch is kept, but goes through the networks in portions. An image whose
    loss or gradient is not finite sits out that step.

    Args:
        params: leaf tensors, as Lucent's ``param_f`` gives them.
        image_f: gives the images ``(N, C, H, W)`` in 0..1.
        transforms: applied to the images in each step, in this order.
        scorer: scores the transformed images, clamped to 0..1.
        options: steps, step size and weights of the loss.
        portions: how many images go through the networks together.

    Attributes:
        n_done: steps that are done.
        n_rolled_back: for each image the steps that it sat out, int64 ``(N,)``.
        snapshots: the images after the steps of ``options.snapshots`` so far, on the
            CPU.
    """

    def __init__(
        self,
        params: list[Tensor],
        image_f: Callable[[], Tensor],
        transforms: Sequence[Transform],
        scorer: PairScorer,
        options: RenderOptions,
        portions: Portions,
    ) -> None:
        self._params, self._image_f, self._transforms = params, image_f, transforms
        self.scorer, self.options, self.portions = scorer, options, portions
        self._optimizer = AdamW(
            params, lr=options.lr, betas=_BETAS, eps=_EPS, weight_decay=_WEIGHT_DECAY
        )
        self._schedule = CosineAnnealingLR(
            self._optimizer, options.n_steps, eta_min=_LAST_LR * options.lr
        )
        # Nothing is known before the first step, so that it redirects for all images.
        self._silent = torch.ones(len(scorer), dtype=torch.bool)
        self._glances = Glances(len(scorer), options.encoder_every, params[0].device)
        self.n_done = 0
        self.n_rolled_back = torch.zeros(len(scorer), dtype=torch.int64, device=params[0].device)
        self.snapshots: list[Tensor] = []

    def images(self) -> Tensor:
        """The images as they are now, detached."""
        return self._image_f().detach()

    def run(self, on_step: Callable[[], object]) -> None:
        """Do all steps that are left; ``on_step`` is called after each."""
        while self.n_done < self.options.n_steps:
            self._step()
            self.n_done += 1
            if self.n_done in self.options.snapshots:
                self.snapshots.append(self.images().cpu())
            on_step()

    def _step(self) -> None:
        images = _transformed(self._image_f(), self._transforms)
        if self.n_done < self.options.coarse * self.options.n_steps:
            images = halved(images)
        images = images.contiguous(memory_format=self.scorer.memory_format)
        finite, gradient = self._gradient(images.detach())
        self._optimizer.zero_grad()
        images.backward(gradient, inputs=self._params)
        finite = finite & self._finite_gradients(len(finite))
        step_rows(self._optimizer, self._params, finite)
        self._schedule.step()
        self.n_rolled_back += ~finite

    def _gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Which images have a finite loss and gradient, and the gradients, 0 for the others."""
        parts = self.portions.run(len(images), lambda rows: self._portion(images, rows))
        loss, activation, gradient = (torch.cat(part) for part in zip(*parts, strict=True))
        self._silent = activation.abs() <= _SILENT
        finite = finite_rows(loss, gradient)
        return finite, where_rows(finite, gradient, 0.0)

    def _portion(self, images: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        shown = images[rows].requires_grad_()
        # Only for silent images: the others must not notice who shares their batch.
        scorer, silent = self.scorer.rows(rows), self._silent[rows]
        scores = self._glances.scores(scorer, shown, silent, rows, self.n_done)
        loss = _loss(scores, self.options)
        # The sum, not the mean: the gradient of an image must not depend on the batch.
        (gradient,) = torch.autograd.grad(loss.sum(), shown)
        return loss.detach(), scores.activation.detach(), gradient

    def _finite_gradients(self, n_images: int) -> Tensor:
        """Which images have finite gradients of all parameters; the others' become 0."""
        finite = torch.ones_like(self.n_rolled_back, dtype=torch.bool)
        for param in self._params:
            if param.grad is not None and has_row_per_image(param, n_images):
                rows = finite_rows(param.grad)
                param.grad = where_rows(rows, param.grad, 0.0)
                finite = finite & rows
        return finite


def _loss(scores: Scores, options: RenderOptions) -> Tensor:
    return illusion_loss(
        *scores, gamma=options.gamma, eps=options.eps, negative_weight=options.negative_weight
    )


def _transformed(images: Tensor, transforms: Sequence[Transform]) -> Tensor:
    for transform in transforms:
        images = transform(images)
    return images.clamp(0, 1)
