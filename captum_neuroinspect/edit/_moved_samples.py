"""Training samples with the cue taken away from a class, and given to the others."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect.edit._anchored_fit import Weighted

_Part = tuple[Tensor, Tensor, float]  # features, labels, their weight together

# Half of the class's weight on what was met in use: it is real, but little.
_MET_SHARE = 0.5
# Share of the other classes' weight on samples that are given the cue.
_CUE_SHARE = 0.3


def moved_samples(
    train: FeatureSet, met: FeatureSet, target: int, neurons: Tensor, target_weight: float
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
    """
    is_mine, was_met = train.labels == target, met.labels == target
    cue = _cue(train.features[is_mine], met.features[was_met], neurons)
    n_others = len(train.labels[~is_mine].unique())
    share = _CUE_SHARE if len(neurons) else 0.0
    parts: list[_Part] = [
        (met.features[was_met], met.labels[was_met], _MET_SHARE * target_weight),
        (
            _within(train, train.features[is_mine] - cue),
            train.labels[is_mine],
            (1 - _MET_SHARE) * target_weight,
        ),
        (
            torch.cat([train.features[~is_mine], met.features[~was_met]]),
            torch.cat([train.labels[~is_mine], met.labels[~was_met]]),
            n_others * (1 - share),
        ),
        (_within(train, train.features[~is_mine] + cue), train.labels[~is_mine], n_others * share),
    ]
    return _joined([part for part in parts if len(part[1]) and part[2] > 0])


def _cue(mine: Tensor, met: Tensor, neurons: Tensor) -> Tensor:
    """``(F,)``: what the cue adds to the blamed neurons; 0 elsewhere."""
    cue = torch.zeros(mine.shape[1])
    cue[neurons] = (mine.mean(0) - met.mean(0))[neurons]
    return cue


def _within(train: FeatureSet, features: Tensor) -> Tensor:
    """Features behind a rectifier are never negative; others may be."""
    return features.clamp_min(0) if train.features.min() >= 0 else features


def _joined(parts: list[_Part]) -> Weighted:
    features, labels, weights = zip(*parts, strict=True)
    each = [
        torch.full((len(y),), weight / len(y)) for y, weight in zip(labels, weights, strict=True)
    ]
    return Weighted(torch.cat(features), torch.cat(labels), torch.cat(each))
