"""The fit of :func:`mend`: samples with the cue moved, and logistic regression from a head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet


@dataclass(frozen=True, eq=False)
class Weighted:
    """Samples and how much each counts.

    Attributes:
        features: ``(N, F)``.
        labels: ``(N,)`` class indices.
        weights: ``(N,)``, at least 0; only their proportions count.
        sources: ``(N,)`` which samples of the given sets, counted through, they come from.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor
    sources: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


def anchored_fit(
    samples: Weighted,
    weight: Tensor,
    bias: Tensor,
    *,
    anchor: float,
    has_bias: bool = True,
    max_steps: int = 50,
    others: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The minimiser of a weighted cross entropy near a head.

    .. math:: \sum_i v_i CE(W z_i + b, y_i) + \frac{a}{2} ||W - W_0||^2, \sum_i v_i = 1

    by L-BFGS: no step size, no order of samples, no seed.

    Args:
        samples: to fit.
        weight: ``W_0``, ``(C, F)``.
        bias: where ``b`` starts, ``(C,)``.
        anchor: ``a``, above 0.
        has_bias: whether ``b`` may change.
        max_steps: upper bound on steps.
        others: ``(N,)`` for a head with further classes whose rows stay: the logarithm of their
            summed exponentials for each sample. Together they are the class C.

    Returns:
        ``W`` and ``b``.
    """
    shares = samples.weights / samples.weights.sum()
    new_weight, new_bias = (t.detach().clone().requires_grad_() for t in (weight, bias))
    optimizer = torch.optim.LBFGS(
        [new_weight, new_bias] if has_bias else [new_weight],
        max_iter=max_steps,
        history_size=20,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = samples.features @ new_weight.T + new_bias
        if others is not None:
            logits = torch.cat([logits, others[:, None]], 1)
        entropy = F.cross_entropy(logits, samples.labels, reduction="none") @ shares
        value = entropy + anchor / 2 * (new_weight - weight).square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return new_weight.detach(), new_bias.detach()


# Half of the class's weight on what was seen in deployment: it is real, but little.
_DEPLOYMENT_SHARE = 0.5
# Share of the other classes' weight on samples that are given the cue.
_CUE_SHARE = 0.3


def moved_samples(
    train: FeatureSet,
    deployment: FeatureSet,
    target: int,
    neurons: Tensor,
    target_weight: float,
    *,
    stands_for: tuple[Tensor, Tensor] | None = None,
) -> Weighted:
    """Samples in which the chosen neurons no longer point to the target.

    The cue moves the chosen neurons of the target's training samples by their mean
    distance from its deployment samples. The target is taught by the latter, and by
    training samples with the cue taken away; the other classes by their own samples, and
    by some with the cue added. Each other class weighs 1.

    Args:
        train: with the false correlation.
        deployment: labelled deployment samples; some of the target.
        target: the class to mend.
        neurons: the chosen features, int64; may be empty.
        target_weight: weight of the target.
        stands_for: how many samples each of ``train`` and of ``deployment`` stands for, 0 for those
            that are left out; ``None``: each for itself.
    """
    cue = cue_of(train, deployment, target, neurons)
    n_others = len(train.labels[train.labels != target].unique())
    share = _CUE_SHARE if len(neurons) else 0.0
    rows_of_train, rows_of_deployment = (
        _Rows.of(data, start, None if stands_for is None else stands_for[i])
        for i, (data, start) in enumerate(((train, 0), (deployment, len(train))))
    )
    mine, others = rows_of_train.divided(target)
    deployment_mine, deployment_others = rows_of_deployment.divided(target)
    parts: list[_Part] = [
        (deployment_mine, _DEPLOYMENT_SHARE * target_weight),
        (_moved(train, mine, -cue), (1 - _DEPLOYMENT_SHARE) * target_weight),
        (others.and_then(deployment_others), n_others * (1 - share)),
        (_moved(train, others, cue), n_others * share),
    ]
    return _joined([(rows, weight) for rows, weight in parts if len(rows.labels) and weight > 0])


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

    def and_then(self, other: _Rows) -> _Rows:
        return _Rows(*(torch.cat(pair) for pair in zip(self, other, strict=True)))

    def divided(self, target: int) -> tuple[_Rows, _Rows]:
        """Those of the target, and the others."""
        is_mine = self.labels == target
        mine, others = (_Rows(*(t[which] for t in self)) for which in (is_mine, ~is_mine))
        return mine, others


_Part = tuple[_Rows, float]  # and their weight together


def cue_of(train: FeatureSet, deployment: FeatureSet, target: int, neurons: Tensor) -> Tensor:
    """``(F,)``: what the cue adds to the chosen neurons of the target; 0 elsewhere."""
    mine, in_deployment = (data.features[data.labels == target] for data in (train, deployment))
    cue = torch.zeros(mine.shape[1])
    cue[neurons] = (mine.mean(0) - in_deployment.mean(0))[neurons]
    return cue


def _moved(train: FeatureSet, rows: _Rows, by: Tensor) -> _Rows:
    """Features behind a rectifier are never negative; others may be."""
    features = rows.features + by
    return rows._replace(features=features.clamp_min(0) if train.features.min() >= 0 else features)


def _joined(parts: list[_Part]) -> Weighted:
    """Each part with its weight, shared out by what its samples stand for."""
    each = [rows.counts * (weight / float(rows.counts.sum())) for rows, weight in parts]
    joined = _Rows(*map(torch.cat, zip(*(rows for rows, _ in parts), strict=True)))
    return Weighted(joined.features, joined.labels, torch.cat(each), joined.sources)
