"""What the edit adds to the cross entropy: the ratio constraint of equation (8)."""

from __future__ import annotations

from torch import Tensor

from captum_neuroinspect.edit.probability_ratio import (
    ratio_from_logits,
    share_of,
    single_ratios,
)


def ratio_penalty(
    features: Tensor, weight: Tensor, bias: Tensor, neurons: Tensor, target: int, o: float
) -> Tensor:
    """``|| r_c - o ||_2`` over a batch (equation 8): a scalar, differentiable in the head."""
    logits = features @ weight.T + bias
    masked = logits - share_of(features, weight, neurons)
    return (ratio_from_logits(logits, masked, target) - o).norm()


def ratio_by_rule(
    weight: Tensor, bias: Tensor, mean: Tensor, neurons: Tensor, target: int
) -> float:
    """The paper's rule for ``o``: ``(min_j r_c - 1) / 3 + 1`` at the mean features (F,)."""
    return float((single_ratios(weight, bias, mean, neurons, target).min() - 1) / 3 + 1)
