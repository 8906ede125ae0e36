"""How well concept scores go with activations on the same photos: references and ours."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

_COLUMNS = 512  # of ranks that are made at a time
_LEAST_ON = 5


def rank_correlation(activations: Tensor, scores: Tensor) -> Tensor:
    """Spearman's correlation of each unit with each concept, over all photos.

    Args:
        activations: ``(N, K)``.
        scores: ``(N, P)``.

    Returns:
        ``(K, P)`` in -1..1; 0 where a unit or a concept is the same on all photos.

    Examples::

        >>> activations = torch.tensor([[0.0], [1.0], [5.0]])
        >>> rank_correlation(activations, torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]))
        tensor([[ 1.0000, -1.0000]])
    """
    return unit_ranks(activations).T @ unit_ranks(scores)


def unit_ranks(values: Tensor) -> Tensor:
    """Ranks of each column less their mean, at length 1: their products are correlations.

    Args:
        values: ``(N, M)``; equal values share the mean of their ranks.

    Returns:
        ``(N, M)`` float32; 0 in a column of equal values.
    """
    ranks = torch.empty(values.shape)
    for columns in torch.arange(values.shape[1]).split(_COLUMNS):
        found = torch.from_numpy(rankdata(values[:, columns].cpu().numpy(), axis=0))
        ranks[:, columns] = F.normalize(found - found.mean(0), dim=0).float()
    return ranks


def most_active(values: Tensor, share: float) -> Tensor:
    """On which photos each unit or concept counts as there: those of its highest values.

    Args:
        values: ``(N, K)``.
        share: of the photos, in 0..1; at least five photos. Photos with the value of the last
            one belong to them, unless these are more than half of all and there are higher ones.

    Returns:
        ``(N, K)`` bool; all ``False`` for one that is the same on all photos.

    Examples::

        >>> values = torch.tensor([[0.0, 7.0]] * 6 + [[1.0, 7.0]] * 6)
        >>> most_active(values, 0.05).sum(0)
        tensor([6, 0])
    """
    wanted = min(max(round(share * len(values)), _LEAST_ON), len(values))
    last = values.sort(dim=0, descending=True).values[wanted - 1]
    at_least, above = values >= last, values > last
    # Nothing lies above what most photos have in common: a label of more than half of them.
    is_top = above.any(0) | (values == values[0]).all(0)
    return torch.where((at_least.float().mean(0) > 0.5) & is_top, above, at_least)


def average_precision(is_on: Tensor, scores: Tensor) -> Tensor:
    r"""Area under precision and recall when photos are sorted by a score.

    .. math:: \sum_t (R_t - R_{t-1}) P_t

    over the different scores t, largest first, with R and P the recall and the precision of the
    photos that score at least t: as in scikit-learn. Chance is the share of photos that are on.

    Args:
        is_on: ``(N, M)`` bool.
        scores: ``(N, M)``.

    Returns:
        ``(M,)`` in 0..1; NaN where no photo is on.

    Examples::

        >>> is_on = torch.tensor([[True], [False], [True]])
        >>> average_precision(is_on, torch.tensor([[3.0], [2.0], [1.0]]))
        tensor([0.8333])
    """
    ordered, order = scores.sort(dim=0, descending=True)
    found = is_on.gather(0, order).cumsum(0).float()
    n_seen = torch.arange(1, len(scores) + 1)[:, None]
    is_last = torch.ones_like(ordered, dtype=torch.bool)  # of photos with equal scores
    is_last[:-1] = ordered[1:] != ordered[:-1]
    # What was found up to the photos of the score before.
    before = torch.zeros_like(found)
    before[1:] = torch.where(is_last, found, 0).cummax(0).values[:-1]
    steps = (found - before) * (found / n_seen)
    return torch.where(is_last, steps, 0).sum(0) / found[-1]


def strong_correlation(activations: Tensor, scores: Tensor) -> Tensor:
    """Correlation of concepts with units' squared activations: what strongly activates counts more.

    A rank correlation hardly sees what a unit answers to on few photos, and the mean over its most
    active photos hardly sees what is on many: both are measured in the documentation.

    Args:
        activations: ``(N, K)``.
        scores: ``(N, P)``.

    Returns:
        ``(K, P)`` in -1..1; 0 where a unit or a concept is the same on all photos.

    Examples::

        >>> activations = torch.tensor([[0.0, 1.0, 2.0]]).T
        >>> strong_correlation(activations, torch.tensor([[0.0, 1.0, 4.0]]).T)
        tensor([[1.0000]])
    """
    return strengths(activations).T @ standardised(scores) / len(scores)


def strengths(activations: Tensor) -> Tensor:
    """``(N, K)`` squares of what activations are above their least, standardised."""
    return standardised((activations.double() - activations.double().amin(0)).square())


def standardised(values: Tensor) -> Tensor:
    """Columns less their mean, in standard deviations; 0 in a column of equal values."""
    centred = values.double() - values.double().mean(0)
    spread = centred.square().mean(0).sqrt()
    is_flat = spread <= 1e-6 * values.abs().amax(0).double()
    return torch.where(is_flat, 0, centred / torch.where(is_flat, 1, spread)).float()


def mean_cosine(activations: Tensor, scores: Tensor, n_photos: int = 100) -> Tensor:
    """The mean score of a unit's most active photos, less the mean of all: a reference.

    Args:
        activations: ``(N, K)``.
        scores: ``(N, P)`` cosines of photos and phrases.
        n_photos: how many most active ones.

    Returns:
        ``(K, P)``.
    """
    top = activations.topk(min(n_photos, len(activations)), dim=0).indices
    return torch.stack([scores[rows].mean(0) for rows in top.T]) - scores.mean(0)


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
