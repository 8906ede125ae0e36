"""Which epoch's head is kept: rules on the validation set."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.edit.edit_options import Select


@dataclass(frozen=True)
class EpochRecord:
    """One pass over the training features.

    Attributes:
        epoch: counted from 1.
        loss: mean over the batches of all that is minimised.
        accuracy: on the validation set, 0..1.
        target_accuracy: of the target class on the validation set (the mean, when
            there are several), 0..1; NaN when absent there.
        score: what the rule of selection compares; ``-inf`` where its cap is passed.
    """

    epoch: int
    loss: float
    accuracy: float
    target_accuracy: float
    score: float


@dataclass(frozen=True)
class EpochScore:
    """A head's results on the validation set; ``tie`` decides between equal scores."""

    accuracy: float
    target_accuracy: float
    score: float
    tie: float

    def __gt__(self, other: EpochScore) -> bool:
        return (self.score, self.tie) > (other.score, other.tie)


class Judge:
    """Scores logits of the validation set by one rule.

    Raises:
        ValueError: when the validation set lacks what the rule looks at.
    """

    def __init__(
        self,
        validation: FeatureSet,
        targets: Iterable[int],
        select: Select,
        max_cost: float,
        original: Tensor,
        *,
        last_of_equals: bool = False,
    ) -> None:
        # Without features, which would be looked through for NaN in every epoch.
        self._validation = replace(validation, features=validation.features[:, :0])
        self._targets = list(targets)
        self._select, self._max_cost = select, max_cost
        self._last_of_equals, self._n_judged = last_of_equals, 0
        if select == "group" and validation.groups is None:
            raise ValueError("select='group' needs groups in validation, which has none")
        self._is_other = torch.ones(validation.n_classes, dtype=torch.bool)
        self._is_other[self._targets] = False
        self._others_before = 0.0
        self.original = self(original)
        if select == "target" and math.isnan(self.original.target_accuracy):
            raise ValueError(
                f"select='target' needs samples of the target {self._targets} in validation, "
                "which has none"
            )
        self._others_before = self._others(replace(validation, logits=original))

    def __call__(self, logits: Tensor) -> EpochScore:
        one = self._score(logits)
        self._n_judged += 1
        return replace(one, tie=float(self._n_judged)) if self._last_of_equals else one

    def _score(self, logits: Tensor) -> EpochScore:
        judged = replace(self._validation, logits=logits)
        accuracy, classes = judged.accuracy(), judged.class_accuracy()
        target = float(classes[self._targets].nanmean())
        if self._select == "min_class":
            return EpochScore(accuracy, target, _smallest(classes), accuracy)
        if self._select == "group":
            return EpochScore(accuracy, target, _smallest(judged.group_accuracy()), accuracy)
        if self._select == "target":
            others = self._others(judged)
            cost = self._others_before - others
            # A cost of exactly the cap must not fail by rounding.
            score = target if cost <= self._max_cost + 1e-7 else -math.inf
            return EpochScore(accuracy, target, score, others)
        return EpochScore(accuracy, target, accuracy, 0.0)

    def _others(self, judged: FeatureSet) -> float:
        """Accuracy on all that is not of a target class; 0 when there is nothing."""
        right = judged.is_correct
        if judged.is_multi_hot:
            right = right[:, self._is_other]
        else:
            right = right[self._is_other[judged.labels]]
        return float(right.float().mean()) if right.numel() else 0.0


def _smallest(values: Tensor) -> float:
    return float(values[~values.isnan()].min()) if not values.isnan().all() else math.nan
