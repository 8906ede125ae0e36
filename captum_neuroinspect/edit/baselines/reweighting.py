"""Some samples count more: rare classes, or what the head gets wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from captum_neuroinspect.edit.baselines.baseline import CheckedBaseline, Task
from captum_neuroinspect.edit.baselines.head_training import Budget, retrained


def class_weights(labels: Tensor, n_classes: int) -> Tensor:
    """Inverse class frequencies ``N / (K * n_c)``, K classes present: balanced data give 1.

    Args:
        labels: ``(N,)`` class indices.
        n_classes: C.

    Returns:
        ``(C,)``; 0 for an absent class.

    Examples::

        >>> class_weights(torch.tensor([0, 0, 0, 2]), 3)
        tensor([0.6667, 0.0000, 2.0000])
    """
    counts = torch.bincount(labels, minlength=n_classes)
    weights = len(labels) / ((counts > 0).sum() * counts.clamp(min=1))
    return weights * (counts > 0)


@dataclass(frozen=True)
class ClassWeighting(CheckedBaseline):
    """Train the head on with each sample weighted by its class's inverse frequency.

    The frequencies are those of ``train`` and the mistakes together (King & Zeng,
    *Logistic Regression in Rare Events Data*, Political Analysis 2001, give the
    weights; scikit-learn calls them "balanced").

    Attributes:
        target_factor: what the target's weight is multiplied by, above 0.
        budget: epochs, batch, step size, patience.

    Raises:
        ValueError: for a factor of 0 or below.

    Examples::

        >>> ClassWeighting(target_factor=3).name
        'class weights (target x 3)'
    """

    target_factor: float = 1.0
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        _check_positive("target_factor", self.target_factor)

    @property
    def name(self) -> str:
        factor = "" if self.target_factor == 1 else f" (target x {self.target_factor:g})"
        return "class weights" + factor

    def _refitted(self, task: Task) -> nn.Linear:
        data = task.data
        weights = class_weights(data.labels, data.n_classes)
        weights[task.target] *= self.target_factor
        return retrained(
            task.head,
            data,
            task.validation,
            budget=self.budget,
            seed=task.seed,
            sample_weights=weights[data.labels],
        )


@dataclass(frozen=True)
class JustTrainTwice(CheckedBaseline):
    """JTT: train on with more weight for the samples that the head gets wrong.

    Liu et al., *Just Train Twice: Improving Group Robustness without Training Group
    Information*, ICML 2021, arXiv 2107.09044. Here the first training is the head as
    it is given, the second starts from its weights and concerns the head only; the
    error set is what the head gets wrong in ``train``, and all given mistakes. Their
    upsampling is a weight in the loss, so that an epoch has as many steps as for the
    other methods.

    Attributes:
        factor: how much more a mistake counts, 1 or more. The authors choose 6 to 100
            on a validation set with group labels.
        budget: epochs, batch, step size, patience.

    Raises:
        ValueError: for a factor below 1.

    Examples::

        >>> JustTrainTwice().name
        'JTT (x 6)'
    """

    factor: float = 6.0
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise ValueError(f"factor={self.factor}, expected 1 or more")

    @property
    def name(self) -> str:
        return f"JTT (x {self.factor:g})"

    def _refitted(self, task: Task) -> nn.Linear:
        data = task.data
        is_wrong = ~data.with_head(task.head).is_correct
        # The mistakes given are the user's word: they count even where this head is right.
        is_wrong[len(task.train) :] = True
        return retrained(
            task.head,
            data,
            task.validation,
            budget=self.budget,
            seed=task.seed,
            sample_weights=1 + (self.factor - 1) * is_wrong,
        )


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name}={value}, expected a positive number")
