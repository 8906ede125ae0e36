"""Training samples with the cue taken away from a class, and given to the others."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect.edit._anchored_fit import Weighted

# Features, labels, where they come from, how many each stands for, their weight together.
_Part = tuple[Tensor, Tensor, Tensor, Tensor, float]

# Half of the class's weight on what was met in use: it is real, but little.
_MET_SHARE = 0.5
# Share of the other classes' weight on samples that are given the cue.
_CUE_SHARE = 0.3


def moved_samples(
    train: FeatureSet,
    met: FeatureSet,
    target: int,
    neurons: Tensor,
    target_weight: float,
    *,
    stands_for: tuple[Tensor, Tensor] | None = None,
) -> Weighted:
    """Samples in which the blamed neurons no longer tell the target.

    The cue moves the blamed neurons of the target's training samples by their mean
    distance from its samples met in use. The target is taught by the latter, and by
    training samples with the cue taken away; the other classes by their own samples, and
    by some with the cue added. Each other class weighs 1.

    Args:
        train: with the false correlation.
        met: labelled samples met in use; some of the target.
        target: the class to mend.
        neurons: the blamed features, int64; may be empty.
        target_weight: weight of the target.
        stands_for: how many samples each of ``train`` and of ``met`` stands for, 0 for those
            that are left out; ``None``: each for itself.
    """
    cue = cue_of(train, met, target, neurons)
    n_others = len(train.labels[train.labels != target].unique())
    share = _CUE_SHARE if len(neurons) else 0.0
    rows_of_train, rows_of_met = (
        _Rows.of(data, start, None if stands_for is None else stands_for[i])
        for i, (data, start) in enumerate(((train, 0), (met, len(train))))
    )
    mine, others = rows_of_train.divided(target)
    met_mine, met_others = rows_of_met.divided(target)
    of_others = others.features
    parts: list[_Part] = [
        (*met_mine, _MET_SHARE * target_weight),
        (*mine._replace(features=_within(train, mine.features - cue)), _own(target_weight)),
        (*map(torch.cat, zip(others, met_others, strict=True)), n_others * (1 - share)),  # type: ignore[arg-type]
        (*others._replace(features=_within(train, of_others + cue)), n_others * share),
    ]
    return _joined([part for part in parts if len(part[1]) and part[-1] > 0])


class _Rows(NamedTuple):
    """Samples of a set: features, labels, positions counted through, what each stands for."""

    features: Tensor
    labels: Tensor
    sources: Tensor
    counts: Tensor

    @classmethod
    def of(cls, data: FeatureSet, start: int, counts: Tensor | None) -> _Rows:
        sources = torch.arange(start, start + len(data))
        if counts is None:
            return cls(data.features, data.labels, sources, torch.ones(len(data)))
        kept = counts > 0
        return cls(data.features[kept], data.labels[kept], sources[kept], counts[kept])

    def divided(self, target: int) -> tuple[_Rows, _Rows]:
        """Those of the target, and the others."""
        is_mine = self.labels == target
        mine, others = (_Rows(*(t[which] for t in self)) for which in (is_mine, ~is_mine))
        return mine, others


def cue_of(train: FeatureSet, met: FeatureSet, target: int, neurons: Tensor) -> Tensor:
    """``(F,)``: what the cue adds to the blamed neurons of the target; 0 elsewhere."""
    mine, was_met = (data.features[data.labels == target] for data in (train, met))
    cue = torch.zeros(mine.shape[1])
    cue[neurons] = (mine.mean(0) - was_met.mean(0))[neurons]
    return cue


def _own(target_weight: float) -> float:
    return (1 - _MET_SHARE) * target_weight


def _within(train: FeatureSet, features: Tensor) -> Tensor:
    """Features behind a rectifier are never negative; others may be."""
    return features.clamp_min(0) if train.features.min() >= 0 else features


def _joined(parts: list[_Part]) -> Weighted:
    features, labels, sources, counts, weights = zip(*parts, strict=True)
    each = [
        count * (weight / len(count))
        if bool((count == 1).all())
        else count * (weight / count.sum())
        for count, weight in zip(counts, weights, strict=True)
    ]
    return Weighted(torch.cat(features), torch.cat(labels), torch.cat(each), torch.cat(sources))
