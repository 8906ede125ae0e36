"""Small coefficients of the neurons, whatever the photos contain."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from captum_neuroinspect.edit.baselines.baseline import CheckedBaseline, Task
from captum_neuroinspect.edit.baselines.head_training import Budget, retrained
from captum_neuroinspect.edit.penalties import coefficient_norm_penalty


@dataclass(frozen=True)
class CoefficientNorm(CheckedBaseline):
    r"""Train the head on with a penalty on the target's own coefficients of the neurons.

    .. math:: CE + \lambda || W_{c, S} ||_2

    Equation (9) of NeuroInspect without the features and the bias, for which see
    :class:`CON`. Other classes' coefficients are left out of the penalty.

    Attributes:
        strength: lambda, 0 or more; 0 is plain retraining.
        budget: epochs, batch, step size, patience.

    Raises:
        ValueError: for a negative strength.

    Examples::

        >>> CoefficientNorm(strength=10).name
        'norm of coefficients (lambda 10)'
    """

    strength: float = 1.0
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise ValueError(f"strength={self.strength}, expected 0 or more")

    @property
    def name(self) -> str:
        return f"norm of coefficients (lambda {self.strength:g})"

    def _refitted(self, task: Task) -> nn.Linear:
        target, chosen = task.target, task.chosen
        return retrained(
            task.head,
            task.data,
            task.validation,
            budget=self.budget,
            seed=task.seed,
            penalty=lambda features, weight, bias: (
                self.strength * coefficient_norm_penalty(weight[target, chosen][None])
            ),
        )
