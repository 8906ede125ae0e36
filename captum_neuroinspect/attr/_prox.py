"""The proximal map of equation (1)'s two norms, with or without a smallest change.

For one sample the map takes ``v`` to the minimiser of

    1/2 ||w - v||_2^2 + l1 ||w||_1 + l2 ||w||_2    subject to    w >= lower

Without ``lower`` it is closed: a soft threshold per coordinate, then a shrinkage of the
whole vector (one group of the sparse-group lasso, Simon et al. 2013). With ``lower`` each
coordinate is ``max(s_j t / (t + l2), lower_j)``, where ``s`` is ``v`` after the threshold
and ``t`` is the length of that very vector: one monotone equation a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_NEWTON_STEPS = 60


def prox(v: Tensor, l1: Tensor, l2: Tensor, lower: Tensor | None = None) -> Tensor:
    """Minimise half the squared distance to ``v`` plus the two norms, for each sample.

    Args:
        v: ``(n, D)``.
        l1: ``(n, 1)`` weight of ``||w||_1``, 0 or more.
        l2: ``(n, 1)`` weight of ``||w||_2``, 0 or more.
        lower: ``(n, D)`` smallest ``w`` allowed, at most 0, or None. ``-inf`` in the rows
            of samples without a bound.

    Returns:
        ``(n, D)``, with exact zeros.

    Examples::

        >>> weight = torch.ones(1, 1)
        >>> prox(torch.tensor([[5.0, 0.5, -4.0]]), weight, weight)  # (4, 0, -3), 5 long, less 1
        tensor([[ 3.2000,  0.0000, -2.4000]])
    """
    s = _soft_threshold(v, l1, lower)
    return _raise(s * (1 - _shrinkage(s, l2, lower)), lower)


def prox_residual(
    w: Tensor, gradient: Tensor, l1: Tensor, l2: Tensor, lower: Tensor | None = None
) -> Tensor:
    """``w - prox(w - gradient)``: zero where ``w`` minimises the loss plus the norms.

    Args:
        w: ``(n, D)``, not below ``lower``.
        gradient: ``(n, D)`` of the loss at ``w``.
        l1: as in :func:`prox`.
        l2: as in :func:`prox`.
        lower: as in :func:`prox`.

    Returns:
        ``(n, D)``. A ``w`` of 50 does not drown a residual of 1e-7, as it would in the
        difference of two float32 numbers.
    """
    s = _soft_threshold(w - gradient, l1, lower)
    shrinkage = _shrinkage(s, l2, lower)
    distance = torch.where(s == 0, w, gradient + l1 * s.sign())  # w - s, without cancellation
    distance = shrinkage * w + (1 - shrinkage) * distance
    return distance if lower is None else torch.minimum(distance, w - lower)


def _soft_threshold(v: Tensor, l1: Tensor, lower: Tensor | None) -> Tensor:
    s = v - v.clamp(-l1, l1)
    # Where nothing below 0 is allowed, a negative entry pulls at nothing and adds no length.
    return s if lower is None else torch.where(lower < 0, s, s.relu())


def _raise(w: Tensor, lower: Tensor | None) -> Tensor:
    return w if lower is None else torch.maximum(w, lower)


def _shrinkage(s: Tensor, l2: Tensor, lower: Tensor | None) -> Tensor:
    """``l2 / (t + l2)`` (n, 1), which a long vector keeps exact; 1 where the prox is zero."""
    t = (s.norm(dim=1, keepdim=True) - l2).clamp_min(0)
    if lower is not None:
        bounded = (lower > -torch.inf).any(1, keepdim=True)
        t = torch.where(bounded, _bounded_length(s, l2, lower, t), t)
    return torch.where(t > 0, l2 / (t + l2), 1)


def _bounded_length(s: Tensor, l2: Tensor, lower: Tensor, longest: Tensor) -> Tensor:
    """The root ``t`` (n, 1) of ``||max(s t / (t + l2), lower)|| = t``, or 0 if there is none.

    ``||.|| / t`` falls in ``t``, and its inverse is straight where all or no coordinates
    are at ``lower``: Newton's method on the inverse, kept in a bracket, needs a few steps.
    """
    low = (torch.maximum(s, lower).norm(dim=1, keepdim=True) - l2).clamp_min(0)
    high, t = longest, longest
    precision = 4 * torch.finfo(s.dtype).eps
    done = torch.zeros_like(t, dtype=torch.bool)  # or the steps of one sample were another's
    for _ in range(_MAX_NEWTON_STEPS):
        shrinkage = torch.where(t > 0, l2 / (t + l2), 1)
        free = s * (1 - shrinkage)
        square = torch.maximum(free, lower).square().sum(1, keepdim=True)
        free_square = torch.where(free >= lower, free, 0).square().sum(1, keepdim=True)
        excess = square.sqrt() - t
        low, high = torch.where(excess > 0, t, low), torch.where(excess > 0, high, t)
        newton = t + excess / (1 - shrinkage * free_square / square)
        inside = (newton >= low) & (newton <= high)
        previous, t = t, torch.where(done, t, torch.where(inside, newton, (low + high) / 2))
        done |= shrinkage * (t - previous).abs() <= precision * t
        if bool(done.all()):
            break
    return t
