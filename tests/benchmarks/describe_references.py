"""Published ways to compare activations with concept scores, and plain ones: what to beat."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from captum_neuroinspect.describe.agreement import standardised, strengths

_COLUMNS = 512  # of ranks that are made at a time


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
