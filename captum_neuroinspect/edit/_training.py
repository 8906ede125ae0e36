"""The descent of equation (8) on collected features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect.edit.penalties import ratio_penalty

Scope = Literal["head", "class", "neurons"]


@dataclass(frozen=True)
class EpochRecord:
    """One pass over the training features.

    Attributes:
        epoch: counted from 1.
        loss: mean of cross entropy and weighted penalty over the batches.
        accuracy: on the validation set, 0..1.
        target_accuracy: of the target class on the validation set, 0..1; NaN when
            the class is absent there.
    """

    epoch: int
    loss: float
    accuracy: float
    target_accuracy: float


@dataclass(frozen=True)
class Objective:
    """Equation (8) for one class and its neurons, and what may change."""

    target: int
    neurons: Tensor
    strength: float
    ratio: float
    scope: Scope
    has_bias: bool
    mistakes: FeatureSet | None
    mistake_weight: float

    def loss(
        self, features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, rng: torch.Generator
    ) -> Tensor:
        loss = F.cross_entropy(features @ weight.T + bias, labels)
        if self.strength:
            penalty = ratio_penalty(features, weight, bias, self.neurons, self.target, self.ratio)
            loss = loss + self.strength * penalty
        if self.mistakes is not None:
            drawn = torch.randint(len(self.mistakes), (len(labels),), generator=rng)
            logits = self.mistakes.features[drawn] @ weight.T + bias
            loss = loss + self.mistake_weight * F.cross_entropy(logits, self.mistakes.labels[drawn])
        return loss

    def masks(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Which coefficients may change: 1 where the gradient is let through."""
        weight_mask, bias_mask = torch.zeros_like(weight), torch.zeros_like(bias)
        if self.scope == "head":
            weight_mask, bias_mask = weight_mask + 1, bias_mask + 1
        elif self.scope == "class":
            weight_mask[self.target] = 1
            bias_mask[self.target] = 1
        else:
            weight_mask[self.target, self.neurons] = 1
        return weight_mask, bias_mask * self.has_bias


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: the paper's Adam, bounded epochs, patience."""

    n_epochs: int
    batch_size: int
    lr: float
    patience: int
    seed: int
    progress: bool


@dataclass
class Best:
    """The head of the best epoch so far, by validation accuracy; the first of equals."""

    weight: Tensor
    bias: Tensor
    epoch: int = 0
    accuracy: float = -1.0

    def offer(self, weight: Tensor, bias: Tensor, record: EpochRecord) -> None:
        if record.accuracy > self.accuracy:
            self.weight, self.bias = weight.detach().clone(), bias.detach().clone()
            self.epoch, self.accuracy = record.epoch, record.accuracy


def train_head(
    weight: Tensor,
    bias: Tensor,
    train: FeatureSet,
    validation: FeatureSet,
    objective: Objective,
    schedule: Schedule,
) -> tuple[Best, tuple[EpochRecord, ...]]:
    """Descend from (weight, bias) and keep the best epoch; the arguments stay as they are."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    masks = objective.masks(weight.detach(), bias.detach())
    optimizer = torch.optim.Adam([weight, bias], lr=schedule.lr)
    rng = torch.Generator().manual_seed(schedule.seed)
    best, history = Best(weight.detach().clone(), bias.detach().clone()), []
    for epoch in tqdm(range(1, schedule.n_epochs + 1), "edit", disable=not schedule.progress):
        losses = []
        for rows in _batches(len(train), schedule.batch_size, rng):
            loss = objective.loss(train.features[rows], train.labels[rows], weight, bias, rng)
            _masked_step(optimizer, loss, (weight, bias), masks)
            losses.append(loss.detach())
        mean_loss = float(torch.stack(losses).mean())
        history.append(_record(epoch, mean_loss, weight, bias, validation, objective.target))
        best.offer(weight, bias, history[-1])
        if epoch - best.epoch >= schedule.patience:
            break
    return best, tuple(history)


def _batches(n: int, batch_size: int, rng: torch.Generator) -> Iterator[Tensor]:
    yield from torch.randperm(n, generator=rng).split(batch_size)


def _masked_step(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    parameters: tuple[Tensor, Tensor],
    masks: tuple[Tensor, Tensor],
) -> None:
    optimizer.zero_grad()
    loss.backward()
    for parameter, mask in zip(parameters, masks, strict=True):
        if parameter.grad is not None:
            parameter.grad *= mask
    optimizer.step()


def _record(
    epoch: int, loss: float, weight: Tensor, bias: Tensor, validation: FeatureSet, target: int
) -> EpochRecord:
    with torch.no_grad():
        right = (validation.features @ weight.T + bias).argmax(1) == validation.labels
    mine = right[validation.labels == target].float()
    return EpochRecord(epoch, loss, float(right.float().mean()), float(mine.mean()))
