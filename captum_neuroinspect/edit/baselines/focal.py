"""Focal loss: less weight for what is right already."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from captum_neuroinspect.edit.baselines.baseline import CheckedBaseline, Task
from captum_neuroinspect.edit.baselines.head_training import Budget, retrained


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    r"""Cross entropy times ``(1 - p)^gamma``, with p the probability of the label.

    .. math:: FL = -(1 - p_y)^\gamma \log p_y

    Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017, arXiv 1708.02002,
    for several classes and without their class weight alpha.

    Args:
        logits: ``(N, C)``.
        labels: ``(N,)`` class indices.
        gamma: 0 or more; 0 is cross entropy.

    Returns:
        ``(N,)`` losses.

    Examples::

        >>> import torch
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]))  # log(2) / 4
        tensor([0.1733])
    """
    log_p = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    # Clamped: rounding may give 1 - p < 0, and the power's slope is infinite at 0 for gamma < 1.
    return -((1 - log_p.exp()).clamp(min=1e-7) ** gamma) * log_p


@dataclass(frozen=True)
class FocalLoss(CheckedBaseline):
    """Train the head on with :func:`focal_loss`.

    Attributes:
        gamma: 0 or more; 2 is the authors' choice.
        budget: epochs, batch, step size, patience.

    Raises:
        ValueError: for a negative gamma.

    Examples::

        >>> FocalLoss().name
        'focal loss (gamma 2)'
    """

    gamma: float = 2.0
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"gamma={self.gamma}, expected 0 or more")

    @property
    def name(self) -> str:
        return f"focal loss (gamma {self.gamma:g})"

    def _refitted(self, task: Task) -> nn.Linear:
        return retrained(
            task.head,
            task.data,
            task.validation,
            budget=self.budget,
            seed=task.seed,
            sample_loss=partial(focal_loss, gamma=self.gamma),
        )
