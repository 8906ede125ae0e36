"""Mistakes and validation samples dealt out: to learn from, to choose by, to report on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.edit._samples import with_mistakes

_FEWEST = 6  # mistakes of a target: two in each part


@dataclass(frozen=True, eq=False)
class Parts:
    """Mistakes in three parts, validation in two; what is in one is in no other.

    Attributes:
        learning: mistakes that blame neurons and are trained on.
        choosing: half of the validation samples, and mistakes of the targets.
        validation: the other half, to report on.
        mistakes: of the targets, to report on too.

    Where samples that the head gets right are among the mistakes, ``choosing`` and
    ``mistakes`` have those of all classes.
    """

    learning: FeatureSet
    choosing: FeatureSet
    validation: FeatureSet
    mistakes: FeatureSet


def divided(
    head: nn.Linear,
    validation: FeatureSet,
    mistakes: FeatureSet,
    targets: list[int],
    seed: int,
) -> Parts:
    """The parts, drawn class by class.

    Raises:
        ValueError: when there are too few mistakes of a target, or no samples of others.
    """
    for target in targets:
        n_given = int(mistakes.of_class(target).sum())
        if n_given < _FEWEST:
            raise ValueError(
                f"mistakes has {n_given} samples of target={target}, expected at least {_FEWEST}: "
                "some to learn from, some to choose by, some to report on"
            )
    learning, others = mistakes.split(1 / 3, seed=seed)
    choosing, reporting = (_telling(part, head, targets) for part in others.split(seed=seed))
    judging, kept = validation.split(seed=seed)
    if is_of(judging, targets).all():
        raise ValueError(
            "half of validation has no sample of another class than the target: "
            "expected some, to see what the others lose"
        )
    return Parts(learning, with_mistakes(judging, choosing), kept, reporting)


def _telling(met: FeatureSet, head: nn.Linear, targets: list[int]) -> FeatureSet:
    """Without the others' mistakes: on these the others can only gain, which hides a loss."""
    return met.subset(is_of(met, targets) | met.with_head(head).is_correct)


def is_of(data: FeatureSet, targets: Iterable[int]) -> Tensor:
    return torch.isin(data.labels, torch.tensor(list(targets)))
