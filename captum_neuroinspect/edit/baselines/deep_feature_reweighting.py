"""DFR: a new sparse head on group-balanced held-out samples."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.optional import optional
from captum_neuroinspect.edit._arguments import check_disjoint
from captum_neuroinspect.edit.baselines.baseline import CheckedBaseline, Task, layer_like


@dataclass(frozen=True, eq=False)
class DeepFeatureReweighting(CheckedBaseline):
    """Fit the head anew by sparse logistic regression on group-balanced subsets.

    Kirichenko et al., *Last Layer Re-Training is Sufficient for Robustness to Spurious
    Correlations*, ICLR 2023, arXiv 2204.02937. As there: standardised features, an L1
    penalty, C chosen on one half of the held-out samples by the worst group's accuracy
    after fitting on the other half, then the mean of several fits, each on a draw with
    as many samples of each group as the rarest has. Classes are fitted one against the
    rest (scikit-learn's liblinear).

    It knows more than the other methods: the group of every held-out sample. It does
    not start from the given head, and uses neither ``train``, neurons nor mistakes.

    Attributes:
        held_out: samples with group labels; ``None``: the validation set.
        strengths: values of C (inverse penalties) to choose from.
        n_draws: group-balanced subsets that are averaged.

    Raises:
        ValueError: without values of C, or for less than one draw; when called, also when
            the held-out samples have no groups, lack a class, or have a group with a single
            sample.
        ImportError: when called without scikit-learn.

    Examples::

        >>> import torch
        >>> labels = torch.arange(24) % 2
        >>> z = torch.eye(2)[labels] + 0.1 * torch.rand(24, 2)
        >>> data = FeatureSet(z, torch.zeros(24, 2), labels, groups=labels)
        >>> new = DeepFeatureReweighting()(nn.Linear(2, 2), data, data, target=0, neurons=[])
        >>> data.with_head(new).accuracy()
        1.0
    """

    held_out: FeatureSet | None = None
    strengths: tuple[float, ...] = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
    n_draws: int = 10
    name: str = field(default="DFR (knows groups)", init=False)

    def __post_init__(self) -> None:
        if not self.strengths or min(self.strengths) <= 0:
            raise ValueError(f"strengths={self.strengths}, expected positive numbers")
        if self.n_draws < 1:
            raise ValueError(f"n_draws={self.n_draws}, expected at least 1")

    def _refitted(self, task: Task) -> nn.Linear:
        held = self._held_out(task)
        _check_groups(held)
        check_disjoint(train=task.train, held_out=self.held_out)
        rng = torch.Generator().manual_seed(task.seed)
        strength = self._chosen(task.head, held, rng)
        draws = [_fitted(task.head, d, strength) for d in _draws(held, self.n_draws, rng)]
        weights, biases = zip(*draws, strict=True)
        return layer_like(task.head, torch.stack(weights).mean(0), torch.stack(biases).mean(0))

    def _sets(self, task: Task) -> dict[str, FeatureSet | None]:
        """The mistakes are not looked at."""
        return {**super()._sets(task), "mistakes": None, "held_out": self._held_out(task)}

    def _held_out(self, task: Task) -> FeatureSet:
        return task.validation if self.held_out is None else self.held_out

    def _chosen(self, head: nn.Linear, held: FeatureSet, rng: torch.Generator) -> float:
        """The C of the best worst group on a half that was not fitted, then of the mean."""
        if len(self.strengths) == 1:
            return self.strengths[0]
        fit, judge = _halves(held, rng)
        draw = next(_draws(fit, 1, rng))

        def score(strength: float) -> tuple[float, float]:
            judged = judge.with_head(layer_like(head, *_fitted(head, draw, strength)))
            groups = judged.group_accuracy()
            return float(groups[~groups.isnan()].min()), judged.accuracy()

        return max(self.strengths, key=score)


def _check_groups(held: FeatureSet) -> None:
    if held.groups is None:
        raise ValueError(
            "the held-out set has no groups, and DFR balances groups: collect it with "
            "(image, label, group) and give it as DeepFeatureReweighting(held_out=...)"
        )
    absent = sorted(set(range(held.n_classes)) - set(held.labels.tolist()))
    if absent:
        raise ValueError(f"classes {absent} are absent from the held-out set: expected all")
    groups, counts = held.groups.unique(return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"group {int(groups[counts.argmin()])} has one held-out sample, expected two or more"
        )


def _rows_of_groups(data: FeatureSet, rng: torch.Generator) -> list[Tensor]:
    """Shuffled row numbers of each group that is there."""
    groups = data.groups
    if groups is None:
        raise RuntimeError("groups were checked before")
    rows = [(groups == g).nonzero()[:, 0] for g in groups.unique()]
    return [r[torch.randperm(len(r), generator=rng)] for r in rows]


def _halves(data: FeatureSet, rng: torch.Generator) -> tuple[FeatureSet, FeatureSet]:
    """Two halves, each with a sample of every group."""
    rows = _rows_of_groups(data, rng)
    first = torch.cat([r[: len(r) // 2] for r in rows])
    second = torch.cat([r[len(r) // 2 :] for r in rows])
    return data.subset(first), data.subset(second)


def _draws(data: FeatureSet, n: int, rng: torch.Generator) -> Iterator[FeatureSet]:
    """Subsets with as many samples of each group as the rarest has."""
    for _ in range(n):
        rows = _rows_of_groups(data, rng)
        smallest = min(len(r) for r in rows)
        yield data.subset(torch.cat([r[:smallest] for r in rows]))


def _fitted(head: nn.Linear, data: FeatureSet, strength: float) -> tuple[Tensor, Tensor]:
    """Weight and bias, for raw features, of one fit on standardised ones."""
    has_bias = head.bias is not None
    mean = data.features.mean(0) * has_bias
    std = data.features.std(0, correction=0).clamp(min=1e-6)
    coefficients, intercepts = _regression((data.features - mean) / std, data, strength, has_bias)
    weight = coefficients / std
    return weight, intercepts - weight @ mean


def _regression(
    features: Tensor, data: FeatureSet, strength: float, has_bias: bool
) -> tuple[Tensor, Tensor]:
    LogisticRegression = optional("sklearn.linear_model").LogisticRegression
    options: dict[str, Any] = {"C": strength, "solver": "liblinear", "fit_intercept": has_bias}
    # scikit-learn 1.8 replaced the penalty's name by its share of L1.
    is_old = LogisticRegression().get_params()["penalty"] == "l2"
    options |= {"penalty": "l1"} if is_old else {"l1_ratio": 1.0}
    rows = []
    for label in range(data.n_classes):
        model = LogisticRegression(**options, random_state=0)
        with warnings.catch_warnings():
            # A weak penalty may stop at its last step: good enough to be averaged.
            warnings.filterwarnings("ignore", message="Liblinear failed to converge")
            model.fit(features.double().numpy(), (data.labels == label).numpy())
        # Without an intercept scikit-learn gives a plain 0.0 instead of an array.
        intercept = float(model.intercept_[0]) if has_bias else 0.0
        rows.append(torch.tensor([*model.coef_[0], intercept]).float())
    fitted = torch.stack(rows)
    return fitted[:, :-1], fitted[:, -1]
