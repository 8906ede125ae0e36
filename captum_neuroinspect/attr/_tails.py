"""What lies between an activation and the logits, as the solvers see it.

A solver changes the activations of many samples at once, and drops a sample when it is
done. A tail answers two questions about the samples that are left: which logits follow
from a change ``w`` (n, D), and what gradient in ``w`` follows from one in those logits.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Tail(Protocol):
    """The part of a network that a counterfactual runs again and again."""

    def zeros(self) -> Tensor:
        """No change (n, D), where every solver starts."""

    def logits(self, w: Tensor) -> Tensor:
        """Logits (n, C) of the samples that are left, changed by ``w`` (n, D)."""

    def pullback(self, residual: Tensor) -> Tensor:
        """Gradient (n, D) in the last ``w``, for a gradient (n, C) in its logits."""

    def keep(self, mask: Tensor) -> None:
        """Go on with the samples where ``mask`` (n,) is true."""


class LinearTail:
    """A linear decision layer: closed form, and samples that are done cost nothing.

    Args:
        features: ``(n, F)`` inputs of the layer.
        weight: ``(C, F)``.
        bias: ``(C,)``.
    """

    def __init__(self, features: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.features, self.weight, self.bias = features, weight, bias

    @property
    def n_classes(self) -> int:
        return len(self.weight)

    def zeros(self) -> Tensor:
        return torch.zeros_like(self.features)

    def logits(self, w: Tensor) -> Tensor:
        # Not `start + w @ W.T`: rounding could then disagree with what the layer says of z + w.
        return torch.addmm(self.bias, self.features + w, self.weight.T)

    def pullback(self, residual: Tensor) -> Tensor:
        return residual @ self.weight

    def keep(self, mask: Tensor) -> None:
        self.features = self.features[mask]


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """What a descent computes in: float64 where a tensor has it, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def lower_bound(activations: Tensor, feasible: Tensor) -> Tensor | None:
    """``(n, D)`` the smallest change that keeps activations (n, D) at 0 or more; else -inf.

    Args:
        activations: what a change may take away.
        feasible: ``(n,)`` whether a sample's change is bounded; None is returned where no
            sample's is.
    """
    if not feasible.any():
        return None
    return torch.where(feasible[:, None], -activations, -torch.inf)


def is_bounded(lower: Tensor | None, w: Tensor) -> Tensor:
    """``(n,)`` of which samples the changes ``w`` (n, D) had a bound."""
    if lower is None:
        return torch.zeros(len(w), dtype=torch.bool, device=w.device)
    return (lower > -torch.inf).any(1)
