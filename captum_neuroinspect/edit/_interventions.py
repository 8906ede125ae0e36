"""Training features in which a cue, a direction or some neurons, was taken hold of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.edit._mend_fit import Weighted
from captum_neuroinspect.edit.removal_options import RemovalOptions


@dataclass(frozen=True, eq=False)
class Cue:
    """Where a cue is in features, and what one unit of it is.

    Attributes:
        reading: ``(F, K)``: ``features @ reading`` are its K values in a sample.
        writing: ``(K, F)``: what one unit of each value adds to the features.
        step: ``(K,)`` by how much the target's values are above the other classes'.
    """

    reading: Tensor
    writing: Tensor
    step: Tensor

    def values(self, features: Tensor) -> Tensor:
        """``(N, K)``."""
        return features @ self.reading

    def moved(self, features: Tensor, by: Tensor) -> Tensor:
        """Features with these values more, ``(K,)`` or ``(N, K)``."""
        return features + by @ self.writing

    def without(self, weight: Tensor, bias: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """A head that sees these values ``(K,)`` in every sample: its logits ignore the cue."""
        response = weight @ self.writing.T
        return weight - response @ self.reading.T, bias + response @ values

    def response(self, weight: Tensor, is_target: Tensor) -> float:
        """By how much a step raises the targets' logits above the other classes', on average."""
        raised = weight @ (self.step @ self.writing)
        return float(raised[is_target].mean() - raised[~is_target].mean())


def cue_of_direction(shift: Tensor, reading: Tensor) -> Cue:
    """One value: the position. A step is from the mistakes to the class's training samples."""
    return Cue(reading[:, None], shift[None], torch.ones(1))


def cue_of_neurons(neurons: Tensor, train: FeatureSet, is_target: Tensor) -> Cue:
    """A value a neuron. A step is the mean of the targets' samples minus that of the others'."""
    units = torch.eye(train.features.shape[1])[:, neurons]
    chosen = train.features[:, neurons]
    return Cue(units, units.T, chosen[is_target].mean(0) - chosen[~is_target].mean(0))


def intervened(
    train: FeatureSet, cue: Cue, targets: Tensor, middle: Tensor, options: RemovalOptions, seed: int
) -> Weighted:
    """Training samples with and without an intervention, each class with its weight.

    Args:
        train: samples of the targets and of others.
        cue: what is intervened on.
        targets: ``(T,)`` classes with the cue.
        middle: ``(K,)`` the value that ``"project"`` gives to all.
        options: which intervention, and the weights.
        seed: draws pairs for ``"swap"``.
    """
    z, labels = train.features.float(), train.labels
    mine = torch.isin(labels, targets)
    weights = _weights(labels, mine, options.target_weight)
    if options.intervention == "project":
        return Weighted(cue.moved(z, middle - cue.values(z)), labels, weights)
    if options.intervention == "shift":
        copies = [cue.moved(z, torch.where(mine[:, None], -cue.step, cue.step))]
    else:
        rng = torch.Generator().manual_seed(seed)
        values = cue.values(z)
        partners = [_partners(mine, rng) for _ in range(options.n_draws)]
        copies = [cue.moved(z, values[other] - values) for other in partners]
    if train.features.min() >= 0:  # behind a rectifier none is negative
        copies = [one.clamp_min(0) for one in copies]
    share = options.share
    parts = [(z, 1 - share)] if share < 1 else []
    parts += [(one, share / len(copies)) for one in copies]
    return Weighted(
        torch.cat([one for one, _ in parts]),
        labels.repeat(len(parts)),
        torch.cat([weights * part for _, part in parts]),
    )


def _weights(labels: Tensor, mine: Tensor, target_weight: float) -> Tensor:
    """``(N,)``: each class counts 1 in all, however many samples it has; a target its weight."""
    counts = labels.bincount()[labels].float()
    return torch.where(mine, target_weight, 1.0) / counts


def _partners(mine: Tensor, rng: torch.Generator) -> Tensor:
    """``(N,)`` for each sample one of the other side."""
    partners = torch.empty(len(mine), dtype=torch.int64)
    for side in (mine, ~mine):
        others = (~side).nonzero()[:, 0]
        drawn = torch.randint(len(others), (int(side.sum()),), generator=rng)
        partners[side] = others[drawn]
    return partners
