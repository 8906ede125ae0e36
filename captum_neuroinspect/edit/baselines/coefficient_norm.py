"""CON: small coefficients of the neurons, the comparison of the paper (equation 9)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from captum_neuroinspect.edit.baselines.baseline import CheckedBaseline, Task
from captum_neuroinspect.edit.baselines.head_training import Budget, retrained
from captum_neuroinspect.edit.penalties import coefficient_penalty


@dataclass(frozen=True)
class CoefficientNorm(CheckedBaseline):
    r"""Train the head on with a penalty on the target's own coefficients of the neurons.

    .. math:: CE + \lambda || W_{c, S} ||_2

    Equation (9) of NeuroInspect, which calls it CON. Other classes' coefficients
    are left out of the penalty: that is what the edit does better.

    Attributes:
        strength: lambda, 0 or more; 0 is plain retraining.
        budget: epochs, batch, step size, patience.

    Raises:
        ValueError: for a negative strength.

    Examples::

        >>> CoefficientNorm(strength=10).name
        'CON, equation (9) (lambda 10)'
    """

    strength: float = 1.0
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise ValueError(f"strength={self.strength}, expected 0 or more")

    @property
    def name(self) -> str:
        return f"CON, equation (9) (lambda {self.strength:g})"

    def _refitted(self, task: Task) -> nn.Linear:
        target, chosen = task.target, task.chosen
        return retrained(
            task.head,
            task.data,
            task.validation,
            budget=self.budget,
            seed=task.seed,
            penalty=lambda weight: (
                self.strength * coefficient_penalty(weight[target, chosen][None])
            ),
        )
