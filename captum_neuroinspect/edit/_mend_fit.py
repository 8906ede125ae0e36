"""Logistic regression from a given head: convex, with nothing to tune."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Weighted:
    """Samples and how much each counts.

    Attributes:
        features: ``(N, F)``.
        labels: ``(N,)`` class indices.
        weights: ``(N,)``, at least 0; only their proportions count.
        sources: ``(N,)`` which samples of the given sets, counted through, they come from.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor
    sources: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


def anchored_fit(
    samples: Weighted,
    weight: Tensor,
    bias: Tensor,
    *,
    anchor: float,
    has_bias: bool = True,
    max_steps: int = 50,
    others: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The minimiser of a weighted cross entropy near a head.

    .. math:: \sum_i v_i CE(W z_i + b, y_i) + \frac{a}{2} ||W - W_0||^2, \sum_i v_i = 1

    by L-BFGS: no step size, no order of samples, no seed.

    Args:
        samples: to fit.
        weight: ``W_0``, ``(C, F)``.
        bias: where ``b`` starts, ``(C,)``.
        anchor: ``a``, above 0.
        has_bias: whether ``b`` may change.
        max_steps: upper bound on steps.
        others: ``(N,)`` for a head with further classes whose rows stay: the logarithm of their
            summed exponentials for each sample. Together they are the class C.

    Returns:
        ``W`` and ``b``.
    """
    shares = samples.weights / samples.weights.sum()
    new_weight, new_bias = (t.detach().clone().requires_grad_() for t in (weight, bias))
    optimizer = torch.optim.LBFGS(
        [new_weight, new_bias] if has_bias else [new_weight],
        max_iter=max_steps,
        history_size=20,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = samples.features @ new_weight.T + new_bias
        if others is not None:
            logits = torch.cat([logits, others[:, None]], 1)
        entropy = F.cross_entropy(logits, samples.labels, reduction="none") @ shares
        value = entropy + anchor / 2 * (new_weight - weight).square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return new_weight.detach(), new_bias.detach()
