"""The plainest answers: nothing, retraining, and switching the neurons off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect.edit.baselines.baseline import CheckedBaseline, Task, layer_like
from captum_neuroinspect.edit.baselines.head_training import Budget, retrained


@dataclass(frozen=True)
class Unchanged(CheckedBaseline):
    """A copy of the head: what every other method must beat.

    Examples::

        >>> import torch
        >>> from captum_neuroinspect import FeatureSet
        >>> head, z = nn.Linear(3, 2), torch.rand(4, 3)
        >>> data = FeatureSet(z, head(z).detach(), torch.tensor([0, 1, 0, 1]))
        >>> same = Unchanged()(head, data, data, target=0, neurons=[])
        >>> same is not head and torch.equal(same.weight, head.weight)
        True
    """

    name: str = field(default="nothing", init=False)

    def _refitted(self, task: Task) -> nn.Linear:
        return layer_like(task.head, *head_tensors(task.head))


@dataclass(frozen=True)
class Retraining(CheckedBaseline):
    """Train the head on, from the weights that it has, by cross entropy.

    Attributes:
        budget: epochs, batch, step size, patience.

    Examples::

        >>> import torch
        >>> from captum_neuroinspect import FeatureSet
        >>> head, z = nn.Linear(3, 2), torch.rand(8, 3)
        >>> data = FeatureSet(z, head(z).detach(), (z[:, 0] > 0.5).long())
        >>> new = Retraining()(head, data, data, target=0, neurons=[])
        >>> data.with_head(new).accuracy() >= data.accuracy()
        True
    """

    budget: Budget = field(default_factory=Budget)
    name: str = field(default="plain retraining", init=False)

    def _refitted(self, task: Task) -> nn.Linear:
        return retrained(task.head, task.data, task.validation, budget=self.budget, seed=task.seed)


@dataclass(frozen=True)
class Zeroing(CheckedBaseline):
    """Set the neurons' coefficients to zero; nothing is trained.

    Attributes:
        scope: ``"all"``: in all classes, which is the same as features without these
            neurons; ``"target"``: in the target's row only.

    Raises:
        ValueError: for another scope.

    Examples::

        >>> import torch
        >>> from captum_neuroinspect import FeatureSet
        >>> head, z = nn.Linear(3, 2), torch.rand(4, 3)
        >>> data = FeatureSet(z, head(z).detach(), torch.tensor([0, 1, 0, 1]))
        >>> new = Zeroing("target")(head, data, data, target=1, neurons=[0, 2])
        >>> (new.weight == 0).tolist()
        [[False, False, False], [True, False, True]]
    """

    scope: Literal["all", "target"] = "all"

    def __post_init__(self) -> None:
        if self.scope not in ("all", "target"):
            raise ValueError(f"scope={self.scope!r}, expected 'all' or 'target'")

    @property
    def name(self) -> str:
        return f"zero the neurons ({'all classes' if self.scope == 'all' else 'target only'})"

    def _refitted(self, task: Task) -> nn.Linear:
        weight, bias = head_tensors(task.head)
        if self.scope == "all":
            weight[:, task.chosen] = 0
        else:
            weight[task.target, task.chosen] = 0
        return layer_like(task.head, weight, bias)
