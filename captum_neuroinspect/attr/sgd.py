"""The paper's descent on equation (1): its path and its early stop are the method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect.attr._few_logits import LARGEST_WHOLE, FewLogitsDescent
from captum_neuroinspect.attr._tails import LinearTail, Tail, is_bounded
from captum_neuroinspect.attr.elastic_net import (
    Counterfactual,
    ElasticNet,
    cross_entropy_residual,
)


@dataclass(frozen=True)
class SGD:
    """How the descent runs; defaults are those of the authors' code.

    Behind a linear layer of more than 1,000 classes most steps look at the few classes with the
    largest logits and foretell what the others do; that is compared with all classes now and then,
    and steps that rest on a gradient that was off by more than 1e-4 of its length are made again.
    A sample is done when all classes say so.

    Attributes:
        lr: step size.
        momentum: of the descent, 0..1.
        max_steps: steps after which a sample that is still wrong is given up.
    """

    lr: float = 0.01
    momentum: float = 0.9
    max_steps: int = 2000

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr}, expected a positive step size")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}, expected 0 <= momentum < 1")
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}, expected at least 1")

    def solve(
        self,
        tail: Tail,
        target: Tensor,
        lower: Tensor | None,
        penalty: ElasticNet,
        *,
        progress: bool = False,
    ) -> Counterfactual:
        """Follow the descent for all samples at once, each until it is right.

        Samples do not influence each other, so one batch gives what one loop a
        sample gives.

        Args:
            tail: from changes to logits, for the ``n`` samples.
            target: ``(n,)`` class that each sample should get.
            lower: ``(n, D)`` smallest change allowed (at most 0; -inf: any), or None.
            penalty: the two norms.
            progress: show a progress bar over steps.

        Returns:
            The :class:`~captum_neuroinspect.attr.Counterfactual`.
        """
        if isinstance(tail, LinearTail) and tail.n_classes > LARGEST_WHOLE:
            few = FewLogitsDescent(tail.weight, tail.bias, self.lr, self.momentum, self.max_steps)
            return few.solve(tail.features, target, lower, penalty, progress=progress)
        w = tail.zeros()
        n_steps = torch.zeros(len(w), dtype=torch.int64, device=w.device)
        rows = torch.arange(len(w), device=w.device)
        right = torch.zeros(len(w), dtype=torch.bool, device=w.device)
        running = _SGDState(w.clone(), torch.zeros_like(w), target, lower)
        for step in tqdm(range(self.max_steps + 1), "counterfactual", disable=not progress):
            logits = tail.logits(running.w)
            done = logits.argmax(1) == running.target
            if done.any():
                w[rows[done]], right[rows[done]] = running.w[done], True
                tail.keep(~done)
                running, rows, logits = running.keep(~done), rows[~done], logits[~done]
            if not len(rows) or step == self.max_steps:
                break
            gradient = tail.pullback(cross_entropy_residual(logits, running.target))
            running.step(gradient + penalty.gradient(running.w), self)
            n_steps[rows] += 1
        w[rows] = running.w
        unknown = w.new_full((len(w),), torch.nan)
        already_correct = right & (n_steps == 0)
        bounded = is_bounded(lower, w)
        return Counterfactual(w, right, n_steps, already_correct, unknown, bounded, ~right)


@dataclass
class _SGDState:
    """The samples that are still wrong; finished ones leave, so late steps are cheap."""

    w: Tensor
    velocity: Tensor
    target: Tensor
    lower: Tensor | None

    def keep(self, mask: Tensor) -> _SGDState:
        lower = None if self.lower is None else self.lower[mask]
        return _SGDState(self.w[mask], self.velocity[mask], self.target[mask], lower)

    def step(self, gradient: Tensor, options: SGD) -> None:
        self.velocity.mul_(options.momentum).add_(gradient)
        self.w.sub_(self.velocity, alpha=options.lr)
        if self.lower is not None:
            torch.maximum(self.w, self.lower, out=self.w)
