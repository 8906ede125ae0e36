"""When a unit or a concept is there, and how well activations find the photos that show it."""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_ON = 5


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


def area_under_roc(is_on: Tensor, scores: Tensor) -> Tensor:
    r"""Area under the ROC curve: how often a photo that is on scores above one that is not.

    Photos of equal scores count half, as in scikit-learn. Chance is one half.

    Args:
        is_on: ``(N, M)`` bool.
        scores: ``(N, M)``.

    Returns:
        ``(M,)`` in 0..1; NaN where all photos are on, or none.

    Examples::

        >>> is_on = torch.tensor([[True], [False], [True], [False]])
        >>> area_under_roc(is_on, torch.tensor([[3.0], [2.0], [1.0], [1.0]]))
        tensor([0.6250])
    """
    ordered, order = scores.sort(dim=0)
    ranks = torch.arange(1.0, len(scores) + 1, dtype=torch.float64)[:, None].expand(scores.shape)
    is_first = torch.ones_like(ordered, dtype=torch.bool)  # of photos with equal scores
    is_first[1:] = ordered[1:] != ordered[:-1]
    first = torch.where(is_first, ranks, 0).cummax(0).values
    # The last of equal ones: the smallest of the ends that follow.
    is_last = torch.ones_like(is_first)
    is_last[:-1] = is_first[1:]
    last = torch.where(is_last, ranks, len(scores)).flip(0).cummin(0).values.flip(0)
    n_on = is_on.double().sum(0)
    of_those = torch.where(is_on.gather(0, order), (first + last) / 2, 0).sum(0)
    return ((of_those - n_on * (n_on + 1) / 2) / (n_on * (len(scores) - n_on))).float()


def strengths(activations: Tensor) -> Tensor:
    """``(N, K)`` squares of what activations are above their least, standardised.

    A rank correlation hardly sees what a unit answers to on few photos, and the mean over its most
    active photos hardly sees what is on many: both are measured in the documentation.
    """
    return standardised((activations.double() - activations.double().amin(0)).square())


def standardised(values: Tensor) -> Tensor:
    """Columns less their mean, in standard deviations; 0 in a column of equal values."""
    centred = values.double() - values.double().mean(0)
    spread = centred.square().mean(0).sqrt()
    is_flat = spread <= 1e-6 * values.abs().amax(0).double()
    return torch.where(is_flat, 0, centred / torch.where(is_flat, 1, spread)).float()


def in_float32(values: Tensor) -> Tensor:
    """Columns ``(N, K)`` as float32, which keeps what tells their rows apart.

    Only deviations count, in units of their own. So a column of float64 or whole numbers whose
    deviations float32 would round or lose, such as seconds since 1970, is shifted and scaled.

    Examples::

        >>> seconds = torch.tensor([[1.7e9], [1.7e9 + 3], [1.7e9 + 1]], dtype=torch.float64)
        >>> in_float32(seconds)[:, 0]
        tensor([0.0000, 1.0000, 0.3333])
        >>> in_float32(torch.tensor([[2], [4]]))[:, 0]
        tensor([2., 4.])
    """
    single = values.float()
    if not len(values) or values.dtype.itemsize <= 2 or values.dtype == torch.float32:
        return single
    size, low = values.abs().amax(0).double(), values.amin(0)
    spread = (values - low).amax(0).double()
    # Deviations of float64 that are themselves rounding stay out: such a column is constant.
    is_lost = (spread < 1e-3 * size) & (spread > 1e-13 * size)
    is_lost |= (spread > 0) & ((size > 1e30) | (size < 1e-30))
    if not bool(is_lost.any()):
        return single
    moved = (values[:, is_lost] - low[is_lost]).double() / spread[is_lost]
    single[:, is_lost] = moved.float()
    return single
