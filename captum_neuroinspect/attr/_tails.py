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
        self._features, self._weight, self._bias = features, weight, bias

    def zeros(self) -> Tensor:
        return torch.zeros_like(self._features)

    def logits(self, w: Tensor) -> Tensor:
        # Not `start + w @ W.T`: rounding could then disagree with what the layer says of z + w.
        return torch.addmm(self._bias, self._features + w, self._weight.T)

    def pullback(self, residual: Tensor) -> Tensor:
        return residual @ self._weight

    def keep(self, mask: Tensor) -> None:
        self._features = self._features[mask]
