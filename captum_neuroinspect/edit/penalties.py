"""What the edit adds to the cross entropy: the constraint of equation (8) and its variants."""

from __future__ import annotations

from torch import Tensor

from captum_neuroinspect.edit.probability_ratio import Link, single_ratios

# Ratios beyond exp(10), about 22,000, do not overflow but grow with their logarithm.
LOG_LIMIT = 10.0


def bounded_exp(log_ratio: Tensor) -> Tensor:
    """``exp`` up to ``LOG_LIMIT``, from there on its tangent.

    A sharp head gives ratios of 1e30, whose square is infinite and whose gradient is
    NaN. The tangent keeps a gradient that brings them down.

    Examples::

        >>> import torch
        >>> bounded_exp(torch.tensor([0.0, 11.0, 500.0])) / bounded_exp(torch.tensor(10.0))
        tensor([4.5400e-05, 2.0000e+00, 4.9100e+02])
    """
    low = log_ratio.clamp(max=LOG_LIMIT)
    return low.exp() * (1 + (log_ratio - low))


def ratio_penalty(ratios: Tensor, wanted: Tensor) -> Tensor:
    """Equation (8): ``|| r - o ||_2`` over the batch, summed over masks and classes.

    Args:
        ratios: ``(N, M, T)`` for N samples, M masks, T classes.
        wanted: ``(M, T)`` the ratio ``o`` asked for.
    """
    return (ratios - wanted).norm(dim=0).sum()


def mean_ratio_penalty(ratios: Tensor, wanted: Tensor) -> Tensor:
    """The paper's variant for Waterbirds: ``| mean over the batch of r - o |``, summed.

    Shapes as in :func:`ratio_penalty`. Samples above and below ``o`` make up for each other.
    """
    return (ratios - wanted).mean(0).abs().sum()


def coefficient_penalty(coefficients: Tensor) -> Tensor:
    """Equation (9), CON: norm of each class's own coefficients ``(T, K)``, summed."""
    return coefficients.norm(dim=1).sum()


def ratio_by_rule(
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    neurons: Tensor,
    target: int,
    link: Link = "softmax",
) -> float:
    """The paper's rule for ``o``: ``(min_j r_c - 1) / 3 + 1`` at the mean features (F,)."""
    return float((single_ratios(weight, bias, mean, neurons, target, link).min() - 1) / 3 + 1)
