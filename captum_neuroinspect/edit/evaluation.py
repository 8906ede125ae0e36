"""How a head does on a data set: in the whole, by class and by group, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.decisions import accuracy_by_class, mean_by
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect._core.ratios import Link, single_ratios
from captum_neuroinspect.edit._outcomes import Outcome, confidence_of, outcome


@dataclass(frozen=True)
class Evaluation:
    """How a head does on a data set.

    Where groups are known there are two averages, as in work on group_DRO
    (https://arxiv.org/abs/1911.08731): ``accuracy`` over the samples as they are, and
    ``adjusted_accuracy``, which WILDS calls ``adj_acc_avg``.

    Attributes:
        accuracy: share of right predictions, 0..1: the plain average over the samples.
        class_accuracy: the same for each class; NaN for an absent class.
        group_accuracy: for each group, or ``None`` without group labels.
        ratios: probability ratio of each edited neuron by itself, at the mean
            features of its target class (NaN when that class is absent); target by
            target, in the order of :attr:`HeadEdit.targets`.
        adjusted_accuracy: mean of the groups' accuracies, weighted by the groups'
            shares of the training set; ``None`` when either set has no groups, NaN
            when a group of the training set is absent here.
        calibration_error: ECE with 15 bins, 0..1.
        n_samples: that were judged.
        class_samples: how many are of each class; ``None`` for multi-hot labels.
        group_samples: how many are of each group; ``None`` without group labels, or for
            multi-hot labels.
        group_names: one a group, where the set names them.
    """

    accuracy: float
    class_accuracy: tuple[float, ...]
    group_accuracy: tuple[float, ...] | None
    ratios: tuple[float, ...]
    adjusted_accuracy: float | None = None
    calibration_error: float = math.nan
    n_samples: int = 0
    class_samples: tuple[int, ...] | None = None
    group_samples: tuple[int, ...] | None = None
    group_names: tuple[str, ...] | None = None

    @property
    def worst_group_accuracy(self) -> float | None:
        """Of the groups that are present; ``None`` without group labels."""
        present = [a for a in self.group_accuracy or () if not math.isnan(a)]
        return min(present) if present else None

    @property
    def worst_class_accuracy(self) -> float:
        """Of the classes that are present; NaN for an empty set."""
        return min((a for a in self.class_accuracy if not math.isnan(a)), default=math.nan)

    def group_name(self, index: int) -> str:
        return self.group_names[index] if self.group_names else f"group {index}"


def evaluate(
    head: nn.Linear,
    features: FeatureSet,
    targets: Mapping[int, Sequence[int]],
    link: Link = "softmax",
    group_shares: Sequence[float] | None = None,
    original: nn.Linear | None = None,
) -> Evaluation:
    """Judge a head on collected features.

    Of more than 1,000 classes the logits are made block by block: beside the set itself it takes
    some copies of the head, and no further N x C numbers.

    Args:
        head: any decision layer for these features.
        features: with labels.
        targets: neurons of each class whose ratios are wanted.
        link: from logits to probabilities.
        group_shares: share of each group of the training set.
        original: the head that it was made from: of what is the same in both, a set with that
            one's logits has them already.
    """
    found = outcome(features, head, original)
    return _evaluation(features, found, ratios_of(head, features, targets, link), group_shares)


def evaluate_decisions(
    judged: FeatureSet, ratios: tuple[float, ...], group_shares: Sequence[float] | None = None
) -> Evaluation:
    """The same by logits alone, with ratios that are known."""
    confidence = confidence_of(judged.logits, judged.is_multi_hot)
    return _evaluation(judged, Outcome(judged.is_correct, confidence), ratios, group_shares)


def _evaluation(
    judged: FeatureSet,
    found: Outcome,
    ratios: tuple[float, ...],
    group_shares: Sequence[float] | None,
) -> Evaluation:
    """From the labels and groups of a set, and what a head makes of it."""
    right, groups, counts, by_group = found.is_correct, None, None, None
    if judged.groups is not None:
        groups = mean_by(right, judged.groups, int(judged.groups.max()) + 1)
    if not judged.is_multi_hot:
        counts = tuple(judged.labels.bincount(minlength=judged.n_classes).tolist())
        by_group = None if judged.groups is None else tuple(judged.groups.bincount().tolist())
    return Evaluation(
        accuracy=float(right.float().mean()),
        class_accuracy=tuple(accuracy_by_class(right, judged.labels, judged.n_classes).tolist()),
        group_accuracy=None if groups is None else tuple(groups.tolist()),
        ratios=ratios,
        adjusted_accuracy=_adjusted(groups, group_shares),
        calibration_error=gap_of(right, found.confidence),
        n_samples=len(judged),
        class_samples=counts,
        group_samples=by_group,
        group_names=None if groups is None else _first(judged.group_names, len(groups)),
    )


def _first(names: tuple[str, ...] | None, n: int) -> tuple[str, ...] | None:
    """Names of the groups that have an accuracy: a set may name some that it does not have."""
    return names[:n] if names else None


def shares_of_groups(train: FeatureSet | None) -> tuple[float, ...] | None:
    """Each group's share of a training set; ``None`` when it has no groups."""
    if train is None or train.groups is None:
        return None
    return tuple((torch.bincount(train.groups).double() / len(train)).tolist())


def ratios_of(
    head: nn.Linear, features: FeatureSet, targets: Mapping[int, Sequence[int]], link: Link
) -> tuple[float, ...]:
    """The probability ratios of an :class:`Evaluation`."""
    weight, bias = head_tensors(head)
    ratios: list[float] = []
    for target, neurons in targets.items():
        mean = features.features[features.of_class(target)].mean(0)
        chosen = torch.tensor(neurons, dtype=torch.int64)  # which may be none
        ratios += single_ratios(weight, bias, mean, chosen, target, link).tolist()
    return tuple(ratios)


def _adjusted(groups: Tensor | None, shares: Sequence[float] | None) -> float | None:
    if groups is None or shares is None:
        return None
    accuracies = groups.tolist()
    # A group that training never saw has no weight, one that is missing here no accuracy.
    accuracies += [math.nan] * (len(shares) - len(accuracies))
    return sum(s * a for s, a in zip(shares, accuracies, strict=False) if s > 0)


def calibration_error(features: FeatureSet, n_bins: int = 15) -> float:
    r"""Expected calibration error (ECE): the gap between confidence and accuracy.

    .. math:: ECE = \sum_b (n_b / n) | accuracy_b - confidence_b |

    over bins of equal width (https://arxiv.org/abs/1706.04599). The confidence is the
    predicted class's probability; with multi-hot labels or a single output, that of
    each decision.

    Args:
        features: judged samples.
        n_bins: bins of confidence between 0 and 1.

    Returns:
        0 (calibrated) to 1; NaN for an empty set.

    Raises:
        ValueError: when ``n_bins`` is below 1.

    Examples::

        >>> logits = torch.tensor([[3.0, 1.0], [3.0, 1.0]]).log()  # sure to .75, right on half
        >>> data = FeatureSet(torch.zeros(2, 1), logits, torch.tensor([0, 1]))
        >>> round(calibration_error(data), 3)
        0.25
    """
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins}, expected at least 1")
    confidence = confidence_of(features.logits, features.is_multi_hot)
    return gap_of(features.is_correct, confidence, n_bins)


def gap_of(is_correct: Tensor, confidence: Tensor, n_bins: int = 15) -> float:
    """The same by each decision's confidence, in the shape of ``is_correct``."""
    if not len(is_correct):
        return float("nan")
    confidence, right = confidence.flatten(), is_correct.flatten()
    # Bins are closed above, as in the paper: 1.0 belongs to the last.
    bins = ((confidence * n_bins).ceil().long() - 1).clamp(0, n_bins - 1)
    gap = right.float() - confidence
    gaps = torch.zeros(n_bins, dtype=gap.dtype).index_add_(0, bins, gap)
    return float(gaps.abs().sum() / len(confidence))
