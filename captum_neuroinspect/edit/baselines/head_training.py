"""The one descent that all baselines which train share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect.edit.baselines.baseline import layer_like

SampleLoss = Callable[[Tensor, Tensor], Tensor]  # logits (B, C), labels (B,) -> (B,)
Penalty = Callable[[Tensor], Tensor]  # weight (C, F) -> scalar


@dataclass(frozen=True)
class Budget:
    """How long and how fast every baseline trains; the defaults are the edit's own.

    Attributes:
        n_epochs: upper bound on passes over the training set.
        batch_size: samples a step.
        lr: Adam's step size.
        patience: epochs without a better validation accuracy before stopping.

    Raises:
        ValueError: when a number is not positive.

    Examples::

        >>> Budget(n_epochs=5).patience
        5
    """

    n_epochs: int = 20
    batch_size: int = 16
    lr: float = 1e-3
    patience: int = 5

    def __post_init__(self) -> None:
        for name in ("n_epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected at least 1")
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr}, expected a positive number")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """One value a sample, ``(B,)``."""
    return F.cross_entropy(logits, labels, reduction="none")


def retrained(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    *,
    budget: Budget,
    seed: int,
    sample_loss: SampleLoss = cross_entropy,
    sample_weights: Tensor | None = None,
    penalty: Penalty | None = None,
) -> nn.Linear:
    """Descend from the head's weights and keep the epoch of best validation accuracy.

    The rule of the edit: the first of equal epochs, and the head as it was if all are
    worse on the validation set.

    Args:
        head: where the descent starts; a head without bias stays without.
        train: features with labels to train on.
        validation: chooses the epoch.
        budget: epochs, batch, step size, patience.
        seed: draws the order of the samples.
        sample_loss: of each sample.
        sample_weights: ``(N,)`` positive, for the weighted mean of each batch; ``None``: all 1.
        penalty: of the weights, added to each batch's loss.

    Returns:
        A new layer.
    """
    weight, bias = (t.requires_grad_() for t in head_tensors(head))
    free = [weight] if head.bias is None else [weight, bias]
    optimizer = torch.optim.Adam(free, lr=budget.lr)
    rng = torch.Generator().manual_seed(seed)
    weights = torch.ones(len(train)) if sample_weights is None else sample_weights
    original, best_accuracy, best_epoch = layer_like(head, weight, bias), -1.0, 0
    best = original
    for epoch in range(1, budget.n_epochs + 1):
        for rows in torch.randperm(len(train), generator=rng).split(budget.batch_size):
            losses = sample_loss(train.features[rows] @ weight.T + bias, train.labels[rows])
            loss = (losses * weights[rows]).sum() / weights[rows].sum()
            _step(optimizer, loss if penalty is None else loss + penalty(weight))
        now = layer_like(head, weight, bias)
        accuracy = validation.with_head(now).accuracy()
        if accuracy > best_accuracy:
            best, best_accuracy, best_epoch = now, accuracy, epoch
        if epoch - best_epoch >= budget.patience:
            break
    is_worse = best_accuracy < validation.with_head(original).accuracy()
    return original if is_worse else best


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
