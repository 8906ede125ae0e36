"""Soft WPMI, the score by which CLIP-Dissect labels neurons: what our words are compared with."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def soft_wpmi(
    activations: Tensor,
    scores: Tensor,
    *,
    n_photos: int = 100,
    temperature: float = 0.1,
    penalty: float = 1.0,
    p_first: float = 0.998,
    p_last: float = 0.97,
) -> Tensor:
    r"""Soft weighted pointwise mutual information, as CLIP-Dissect published it: a reference.

    .. math:: \log E[p(t|B)] - \lambda \log p(t),
        \quad \log E[p(t|B_k)] = \sum_{x \in B_k} \log(1 + p(x \in B_k)\,(p(t|x) - 1))

    with :math:`p(t|x)` the softmax over phrases, and :math:`p(t)` the mean over the units.

    More details: Oikarinen and Weng 2023, https://arxiv.org/abs/2204.10965

    Args:
        activations: ``(N, K)``.
        scores: ``(N, P)`` cosines of photos and phrases.
        n_photos: most active photos of a unit.
        temperature: by which cosines are divided before the softmax.
        penalty: of phrases that go with every unit.
        p_first: probability that the most active photo belongs to the unit's.
        p_last: that of the last one.

    Returns:
        ``(K, P)``.
    """
    n_photos = min(n_photos, len(activations))
    given = (scores / temperature).softmax(1)
    belongs = torch.linspace(p_first, p_last, n_photos + 1)[:n_photos, None]
    top = activations.topk(n_photos, dim=0).indices
    found = torch.stack([torch.log1p(belongs * (given[rows] - 1)).sum(0) for rows in top.T])
    return found - penalty * (found.logsumexp(0) - math.log(len(found)))
