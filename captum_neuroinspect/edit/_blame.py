"""The neurons that stand behind mistakes, the most blamed first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet

if TYPE_CHECKING:
    from captum_neuroinspect.attr import NeuronRanking

_N_VOTES = 5  # of each mistake, in each direction


def blamed_neurons(judged: Iterable[tuple[nn.Linear, FeatureSet]], reference: FeatureSet) -> Tensor:
    """Rank neurons by the mistakes of one or several heads.

    Args:
        judged: heads, each with samples that it gets wrong; sets may be empty.
        reference: samples to contrast the mistakes with; those that are right count.

    Returns:
        ``(K,)`` int64, none without mistakes.
    """
    # Captum imports matplotlib, which an edit by itself does not need.
    from captum_neuroinspect.attr import NeuronCounterfactual, rank_neurons

    pairs = [(head, mistakes) for head, mistakes in judged if len(mistakes)]
    if not pairs:
        return torch.empty(0, dtype=torch.int64)
    w = torch.cat(
        [NeuronCounterfactual(h, h).attribute_features(m.features, m.labels) for h, m in pairs]
    )
    if not w.any():
        return torch.empty(0, dtype=torch.int64)
    features, labels = (
        torch.cat([getattr(m, n) for _, m in pairs]) for n in ("features", "labels")
    )
    k = min(_N_VOTES, w.shape[1])  # a head may have fewer features
    ranking = rank_neurons(
        w, k, min_precision=0.0, features=features, reference=reference, target=labels
    )
    return by_magnitude(ranking)


def by_magnitude(ranking: NeuronRanking) -> Tensor:
    """``(K,)`` all neurons of a ranking, from all of its lists, the largest change first."""
    return torch.tensor([int(row["neuron"]) for row in ranking.by_magnitude()], dtype=torch.int64)
