"""What the edit adds to the cross entropy: the constraint of equation (8) and its variants."""

from __future__ import annotations

from torch import Tensor

from captum_neuroinspect._core.ratios import Link, single_ratios

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
    """A weaker constraint: ``| mean over the batch of r - o |``, summed over masks and classes.

    Shapes as in :func:`ratio_penalty`. Samples above and below ``o`` make up for each other.
    """
    return (ratios - wanted).mean(0).abs().sum()


def mean_ratio_of_classes_penalty(ratios: Tensor, wanted: Tensor) -> Tensor:
    """The authors' code for Waterbirds: ``| mean over the batch and the classes of r - o |``.

    Shapes as in :func:`ratio_penalty`. Where the neurons raise one class they lower another, so
    that classes make up for each other too. Summed over masks.
    """
    return (ratios - wanted).mean((0, 2)).abs().sum()


def coefficient_norm_penalty(coefficients: Tensor) -> Tensor:
    """Norm of each class's own coefficients ``(T, K)``, summed."""
    return coefficients.norm(dim=1).sum()


def con_penalty(features: Tensor, coefficients: Tensor, biases: Tensor) -> Tensor:
    """Equation (9), CON: ``|| relu(W_c * z + b_c) ||_2`` over the neurons, mean over the batch.

    As in the authors' code the bias is added to each neuron's share of the logit.

    Args:
        features: ``(N, K)`` of the neurons.
        coefficients: ``(T, K)`` of T classes, over which the norms are summed.
        biases: ``(T,)``.

    Examples::

        >>> import torch
        >>> z, w = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.ones(1, 2)
        >>> con_penalty(z, w, torch.zeros(1))  # 5 and 0
        tensor(2.5000)
    """
    shares = features[:, None] * coefficients + biases[:, None]
    return shares.relu().norm(dim=2).mean(0).sum()


def ratio_by_rule(
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    neurons: Tensor,
    target: int,
    link: Link = "softmax",
) -> float:
    """The paper's rule for ``o``: ``(min_j r_c - 1) / 3 + 1`` at mean features (F,)."""
    return float((single_ratios(weight, bias, mean, neurons, target, link).min() - 1) / 3 + 1)
