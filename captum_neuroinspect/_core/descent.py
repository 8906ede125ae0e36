"""Training over epochs with the best one kept: the loop of all that trains a decision layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm


class Ordered(Protocol):
    """What can be compared."""

    def __gt__(self, other: Any, /) -> bool: ...


Score = TypeVar("Score", bound=Ordered)
# Rows (B,) of a batch to its loss; leaves gradients in the parameters.
BatchLoss = Callable[[Tensor], float]


@dataclass(frozen=True, eq=False)
class Descent(Generic[Score]):
    """How a training went.

    Attributes:
        best: the parameters after the best epoch, the first of equals; as they were at first when
            no epoch was completed.
        best_epoch: which one, from 1; 0: none was completed.
        losses: of each epoch that was completed, the mean over its batches.
        scores: of each epoch that was completed.
        diverged: whether it was stopped by a loss or a score that is not finite.
    """

    best: tuple[Tensor, ...]
    best_epoch: int
    losses: tuple[float, ...]
    scores: tuple[Score, ...]
    diverged: bool


def descend(
    optimizer: torch.optim.Optimizer,
    samples: Callable[[int], tuple[int, BatchLoss]],
    judge: Callable[[], Score | None],
    rng: torch.Generator,
    *,
    n_epochs: int,
    batch_size: int,
    patience: int | None = None,
    rate: Callable[[int, int, int], float] | None = None,
    after_step: Callable[[], None] | None = None,
    progress: str = "",
) -> Descent[Score]:
    """Train, and keep the parameters of the epoch with the highest score.

    Args:
        optimizer: of the parameters, which are changed in place.
        samples: from the epoch (from 1) to the number of its samples and the loss of a batch.
        judge: scores the parameters as they are; ``None``: they are not finite.
        rng: draws the order of the samples.
        n_epochs: upper bound on passes.
        batch_size: samples a step.
        patience: epochs without a higher score before stopping; ``None``: never.
        rate: from the epoch (from 1), the step (from 0) and the number of steps to the step size;
            ``None``: the optimizer's own.
        after_step: is called after each step.
        progress: names a progress bar over epochs; none is shown without a name.

    Examples::

        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> def loss(rows):
        ...     value = (x**2).sum()
        ...     x.grad = None
        ...     value.backward()
        ...     return value.item()
        >>> found = descend(
        ...     torch.optim.SGD([x], lr=0.5), lambda epoch: (1, loss), lambda: -abs(x.item()),
        ...     torch.Generator(), n_epochs=3, batch_size=1,
        ... )
        >>> found.best_epoch, found.best[0].item(), found.losses
        (1, 0.0, (9.0, 0.0, 0.0))
    """
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    best, best_epoch = _copies(parameters), 0
    losses: list[float] = []
    scores: list[Score] = []
    for epoch in tqdm(range(1, n_epochs + 1), progress, disable=not progress):
        n_samples, loss = samples(epoch)
        batches = torch.randperm(n_samples, generator=rng).split(batch_size)
        total = 0.0
        for step, rows in enumerate(batches):
            value = loss(rows)
            total += value
            if not math.isfinite(value):
                break
            if rate is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate(epoch, step, len(batches))
            optimizer.step()
            if after_step is not None:
                after_step()
        score = judge() if math.isfinite(total) else None
        if score is None:
            return Descent(best, best_epoch, tuple(losses), tuple(scores), True)
        losses.append(total / len(batches))
        scores.append(score)
        if not best_epoch or score > scores[best_epoch - 1]:
            best, best_epoch = _copies(parameters), epoch
        if patience is not None and epoch - best_epoch >= patience:
            break
    return Descent(best, best_epoch, tuple(losses), tuple(scores), False)


def backward(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """Leave the gradient of a loss in the optimizer's parameters, and give its value."""
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


def _copies(parameters: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(one.detach().clone() for one in parameters)
