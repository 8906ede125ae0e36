"""The neurons behind a class's mistakes, as the experiments take them."""

from __future__ import annotations

from torch import nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.attr import NeuronCounterfactual, rank_neurons

_LEAST = 2  # right samples that a contrast needs


def voted_neurons(head: nn.Linear, mistakes: FeatureSet, n: int) -> tuple[int, ...]:
    """The first of the paper's ranking: too quiet for the class in most of its mistakes.

    Counterfactuals and votes as the authors publish them (``options="paper"``).

    Args:
        head: the decision layer.
        mistakes: of a class.
        n: how many; fewer where fewer have votes in more than 3 % of the mistakes.
    """
    if not len(mistakes):
        return ()
    method = NeuronCounterfactual(head, head, options="paper")
    details = method.attribute_features(mistakes.features, mistakes.labels, return_details=True)
    try:
        ranking = rank_neurons(details, options="paper")
    except ValueError:  # no sample reached its class
        return ()
    return ranking.insufficient.neurons[:n]


def contrasted_neurons(
    head: nn.Linear, mistakes: FeatureSet, reference: FeatureSet, n: int
) -> tuple[int, ...]:
    """The first of this package's ranking, by their contrast with samples that are right.

    Args:
        head: the decision layer.
        mistakes: of a class.
        reference: samples that the head was trained on.
        n: how many; none without mistakes, or with fewer than two right samples.
    """
    if not len(mistakes) or not has_contrast(reference):
        return ()
    w = NeuronCounterfactual(head, head).attribute_features(mistakes.features, mistakes.labels)
    ranking = rank_neurons(w, features=mistakes, reference=reference)
    return tuple(int(row["neuron"]) for row in ranking.by_magnitude()[:n])


def has_contrast(reference: FeatureSet) -> bool:
    """Whether the head gets enough samples right to set mistakes against them."""
    return int(reference.is_correct.sum()) >= _LEAST
