"""The optimisation of one batch of images, in steps that single images may sit out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import LBFGS, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from captum_neuroinspect.optvis._rendering.cheaper_steps import SparseGuidance, halved
from captum_neuroinspect.optvis._rendering.memory import Portions
from captum_neuroinspect.optvis._rendering.scores import PairScorer, Scores
from captum_neuroinspect.optvis.illusion_options import RenderSettings
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
        settings: steps, step size and weights of the loss.
        portions: how many images go through the networks together.
        finish: what is done to images ``(N, C, H, W)`` that are kept; steps do not see it.

    Attributes:
        n_done: steps that are done.
        n_rolled_back: for each image the steps that it sat out, int64 ``(N,)``.
        snapshots: the images after the steps of the option ``snapshots`` so far, on the
            CPU.
    """

    def __init__(
        self,
        params: list[Tensor],
        image_f: Callable[[], Tensor],
        transforms: Sequence[Transform],
        scorer: PairScorer,
        settings: RenderSettings,
        portions: Portions,
        finish: Callable[[Tensor], Tensor] = lambda images: images,
    ) -> None:
        self._params, self._image_f, self._transforms = params, image_f, transforms
        self.scorer, self.settings, self.portions = scorer, settings, portions
        self._finish = finish
        options = settings.options
        self._optimizer, self._schedule = _optimizer(params, settings)
        # Nothing is known before the first step, so that it redirects for all images.
        self._silent = torch.ones(len(scorer), dtype=torch.bool)
        every = options.guidance.encoder_every
        self._guidance = SparseGuidance(len(scorer), every, params[0].device)
        self.n_done = 0
        self.n_rolled_back = torch.zeros(len(scorer), dtype=torch.int64, device=params[0].device)
        self.snapshots: list[Tensor] = []

    def images(self) -> Tensor:
        """The images as they are now, finished and detached."""
        return self._finish(self._image_f().detach())

    def run(self, on_step: Callable[[], object]) -> None:
        """Do all steps that are left; ``on_step`` is called after each."""
        while self.n_done < self.settings.n_steps:
            self._step()
            self.n_done += 1
            if self.n_done in self.settings.options.snapshots:
                self.snapshots.append(self.images().cpu())
            on_step()

    def _step(self) -> None:
        images = _transformed(self._image_f(), self._transforms)
        if self.n_done < self.settings.options.coarse * self.settings.n_steps:
            images = halved(images)
        images = images.contiguous(memory_format=self.scorer.memory_format)
        finite, gradient = self._gradient(images.detach())
        self._optimizer.zero_grad()
        images.backward(gradient, inputs=self._params)
        finite = finite & self._finite_gradients(len(finite))
        step_rows(self._optimizer, self._params, finite)
        if self._schedule is not None:
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
        scores = self._guidance.scores(scorer, shown, silent, rows, self.n_done)
        loss = _loss(scores, self.settings)
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


def _optimizer(
    params: list[Tensor], settings: RenderSettings
) -> tuple[Optimizer, CosineAnnealingLR | None]:
    """AdamW whose learning rate falls; or what the user makes, which stays as it is."""
    options = settings.options
    if options.optimizer is not None:
        made = options.optimizer(params)
        check_optimizer(made)
        return made, None
    adam = AdamW(params, lr=options.lr, betas=_BETAS, eps=_EPS, weight_decay=_WEIGHT_DECAY)
    return adam, CosineAnnealingLR(adam, settings.n_steps, eta_min=_LAST_LR * options.lr)


def check_optimizer(made: object) -> None:
    """Refuse what takes no plain step."""
    if not isinstance(made, Optimizer):
        raise TypeError(f"optimizer gave {type(made).__name__}, expected a torch.optim.Optimizer")
    if isinstance(made, LBFGS):
        raise ValueError(
            "optimizer gave LBFGS, which tries several steps at once: expected one that "
            "takes a single step for a gradient, such as Adam"
        )


def _loss(scores: Scores, settings: RenderSettings) -> Tensor:
    guidance = settings.options.guidance
    return illusion_loss(
        *scores,
        gamma=settings.gamma,
        eps=guidance.eps,
        negative_weight=guidance.negative_weight,
    )


def _transformed(images: Tensor, transforms: Sequence[Transform]) -> Tensor:
    for transform in transforms:
        images = transform(images)
    return images.clamp(0, 1)


def finite_rows(*values: Tensor) -> Tensor:
    """Which rows are finite in all tensors ``(N, ...)``, bool ``(N,)``.

    Examples::

        >>> finite_rows(torch.tensor([1.0, float("nan")]), torch.ones(2, 3))
        tensor([ True, False])
    """
    return torch.stack([value.flatten(1).isfinite().all(1) for value in map(_rows, values)]).all(0)


def where_rows(rows: Tensor, value: Tensor, other: Tensor | float) -> Tensor:
    """Rows of ``value`` where ``rows`` ``(N,)`` is true, else of ``other``."""
    return torch.where(rows.view(-1, *[1] * (value.ndim - 1)), value, other)


def step_rows(optimizer: Optimizer, params: Sequence[Tensor], rows: Tensor) -> None:
    """Take one step for some rows; the others keep parameters and optimiser state.

    Nothing waits for the device. The optimiser's count of steps, which is one number
    for all rows, goes on. Parameters that have no row per image take the step.

    Args:
        optimizer: its state starts at zeros where it has the shape of a parameter.
        params: its parameters, ``(N, ...)``.
        rows: which rows take the step, bool ``(N,)`` on the parameters' device.
    """
    held = [p for p in params if has_row_per_image(p, len(rows))]
    before = [{key: value.clone() for key, value in _of(optimizer, p).items()} for p in held]
    optimizer.step()
    with torch.no_grad():
        for param, old in zip(held, before, strict=True):
            for key, value in _of(optimizer, param).items():
                value.copy_(where_rows(rows, value, old.get(key, 0.0)))


def has_row_per_image(param: Tensor, n_images: int) -> bool:
    """Whether a parameter's first dimension counts images."""
    return param.ndim > 0 and len(param) == n_images


def _of(optimizer: Optimizer, param: Tensor) -> dict[str, Tensor]:
    """A parameter and what of the optimiser's state has its shape."""
    state = optimizer.state.get(param, {})
    alike = {
        key: value
        for key, value in state.items()
        if isinstance(value, Tensor) and value.shape == param.shape
    }
    return {"": param.detach(), **alike}


def _rows(value: Tensor) -> Tensor:
    return value.unsqueeze(1) if value.ndim == 1 else value
