"""The one descent that all baselines which train share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.descent import backward, descend
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect.edit.baselines.baseline import layer_like

SampleLoss = Callable[[Tensor, Tensor], Tensor]  # logits (B, C), labels (B,) -> (B,)
# Features (B, F), weight (C, F), bias (C,) -> scalar
Penalty = Callable[[Tensor, Tensor, Tensor], Tensor]


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
        penalty: of the batch's features and the layer, added to the batch's loss.

    Returns:
        A new layer.
    """
    weight, bias = (t.requires_grad_() for t in head_tensors(head))
    optimizer = torch.optim.Adam([weight] if head.bias is None else [weight, bias], lr=budget.lr)
    weights = torch.ones(len(train)) if sample_weights is None else sample_weights

    def batch_loss(rows: Tensor) -> float:
        features = train.features[rows]
        losses = sample_loss(features @ weight.T + bias, train.labels[rows])
        loss = (losses * weights[rows]).sum() / weights[rows].sum()
        if penalty is not None:
            loss = loss + penalty(features, weight, bias)
        return backward(optimizer, loss)

    went = descend(
        optimizer,
        lambda _: (len(train), batch_loss),
        lambda: validation.with_head(layer_like(head, weight, bias)).accuracy(),
        torch.Generator().manual_seed(seed),
        n_epochs=budget.n_epochs,
        batch_size=budget.batch_size,
        patience=budget.patience,
    )
    original = layer_like(head, *head_tensors(head))
    before = validation.with_head(original).accuracy()
    if not went.best_epoch or went.scores[went.best_epoch - 1] < before:
        return original
    return layer_like(head, went.best[0], went.best[-1])
