"""CON: small shares of the neurons in the class's logit, the paper's comparison (equation 9)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from captum_neuroinspect.edit.baselines.baseline import CheckedBaseline, Task
from captum_neuroinspect.edit.baselines.head_training import Budget, retrained
from captum_neuroinspect.edit.penalties import con_penalty


@dataclass(frozen=True)
class CON(CheckedBaseline):
    r"""Train the head on with a penalty on what the neurons give to the target's logit.

    .. math:: CE + \lambda || relu(W_{c, S} * z_S + b_c) ||_2

    Equation (9) of NeuroInspect as its authors' code has it: the bias is added to each neuron's
    share, the norm runs over the neurons S, and its mean over the batch. Their code inverts the
    set S in every second step, a slip that is left out.

    Attributes:
        strength: lambda, 0 or more; 0 is plain retraining. The paper's is 1.
        budget: epochs, batch, step size, patience.

    Raises:
        ValueError: for a negative strength.

    Examples::

        >>> CON(strength=10).name
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
        row, chosen = [task.target], task.chosen
        return retrained(
            task.head,
            task.data,
            task.validation,
            budget=self.budget,
            seed=task.seed,
            penalty=lambda features, weight, bias: (
                self.strength * con_penalty(features[:, chosen], weight[row][:, chosen], bias[row])
            ),
        )
