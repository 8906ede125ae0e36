"""The descent of :class:`SGD` behind a linear layer of many classes, without all logits each step.

A step costs two products of ``(n, F)`` and ``(F, C)``: with 21,843 classes they are 94 % of the
time. What a step needs of most classes changes little: the gradient of the cross entropy is

    sum over a few classes of r_c W_c  +  p T

with the probability ``p`` of all others together and the mean ``T`` of their rows, weighted by
their probabilities. The few are those with the largest logits, the target among them. Between two
looks at all classes ``T`` is carried on in a straight line, and the logarithm of the others'
summed exponentials by its gradient, which ``T`` is. Each look compares the gradient that was
foretold with the true one: steps after which they differ by more than ``_LIMIT`` of its length
are taken back and made again in shorter spans, and the length of the next span follows from the
difference. No sample is done before a look at all classes said so.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect.attr._tails import is_bounded
from captum_neuroinspect.attr.elastic_net import (
    Counterfactual,
    ElasticNet,
    cross_entropy_residual,
)

# Classes from which on it is worth it; up to there every step looks at all.
LARGEST_WHOLE = 1000
_N_FEW = 16
# How far a foretold gradient may be off, of the length of the true one, and what spans aim at.
_LIMIT, _AIM = 1e-4, 1e-5
_FIRST_SPAN = 6.0  # times the first step: three steps with the usual momentum
_LONGER, _SHORTER = 3.0, 0.25
# Others that have less probability than this together do not count.
_SMALLEST = 1e-5


@dataclass
class FewLogits:
    """Samples on their way, and what the last look at all classes said of each.

    Attributes:
        w: ``(n, F)`` change so far.
        velocity: ``(n, F)`` of the descent.
        target: ``(n,)`` class that each should get.
        lower: ``(n, F)`` smallest change allowed, or None.
        rows: ``(n,)`` positions in the batch.
        n_steps: ``(n,)`` steps taken.
        features: ``(n, F)``.
        classes: ``(n, K)`` the few, the target first.
        few: ``(n, K, F)`` their rows of W.
        few_bias: ``(n, K)``.
        w_seen: ``(n, F)`` change at the last look; ``velocity_seen`` and ``steps_seen`` likewise.
        others: ``(n,)`` logarithm of the others' summed exponentials there.
        mean: ``(n, F)`` the T of above there.
        slope: ``(n, F)`` change of T for each unit of distance.
        span: ``(n,)`` distance at which to look again; negative: there was no look yet.
    """

    w: Tensor
    velocity: Tensor
    target: Tensor
    lower: Tensor | None
    rows: Tensor
    n_steps: Tensor
    features: Tensor
    classes: Tensor
    few: Tensor
    few_bias: Tensor
    w_seen: Tensor
    velocity_seen: Tensor
    steps_seen: Tensor
    others: Tensor
    mean: Tensor
    slope: Tensor
    span: Tensor

    @classmethod
    def start(
        cls, features: Tensor, logits: Tensor, target: Tensor, lower: Tensor | None
    ) -> FewLogits:
        """At ``w = 0``, where the logits (n, C) are known."""
        best = logits.scatter(1, target[:, None], torch.inf).topk(_N_FEW).indices
        zeros, none = torch.zeros_like(features), torch.zeros_like(target)
        empty = features.new_empty(len(features), 0)
        span = features.new_full((len(features),), -1.0)
        rows = torch.arange(len(features), device=features.device)
        return cls(
            *(zeros.clone(), zeros.clone(), target, lower, rows, none.clone(), features, best),
            *(empty, empty, zeros.clone(), zeros.clone(), none.clone()),
            *(span.clone(), zeros.clone(), zeros.clone(), span),
        )

    def gathered(self, weight: Tensor, bias: Tensor) -> FewLogits:
        """With the rows of the few classes."""
        return replace(self, few=weight[self.classes], few_bias=bias[self.classes])

    def keep(self, mask: Tensor) -> FewLogits:
        """The samples where ``mask`` (n,) is true, or with these numbers."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        kept: dict[str, Any] = {n: None if v is None else v[mask] for n, v in values.items()}
        return FewLogits(**kept)

    def foretell(self) -> tuple[Tensor, Tensor, Tensor]:
        """``(n,)`` whether the target leads the few, the distance, and ``(n, F)`` the gradient."""
        moved = self.w - self.w_seen
        distance = moved.norm(dim=1)
        mean = self.mean + self.slope * distance[:, None]
        few = torch.bmm(self.few, (self.features + self.w)[:, :, None])[:, :, 0] + self.few_bias
        others = self.others + ((self.mean + mean) * moved).sum(1) / 2
        residual = cross_entropy_residual(
            torch.cat([few, others[:, None]], 1), torch.zeros_like(self.target)
        )
        gradient = torch.bmm(residual[:, None, :-1], self.few)[:, 0] + residual[:, -1:] * mean
        return few.argmax(1) == 0, distance, gradient

    def look(
        self, due: Tensor, logits: Tensor, gradient: Tensor, residual: Tensor, first_step: float
    ) -> None:
        """Note what all classes say of the samples ``due`` (m,), in place.

        Args:
            due: row numbers of samples whose foretold gradients were right.
            logits: ``(m, C)``.
            gradient: ``(m, F)`` of the cross entropy.
            residual: ``(m, C)`` that it came from.
            first_step: length of a first step for a gradient of 1.
        """
        classes = self.classes[due]
        of_few = residual.gather(1, classes)
        rest = logits.scatter(1, classes, -torch.inf).logsumexp(1)
        share = (rest - logits.logsumexp(1)).exp()
        of_rest = gradient - torch.bmm(of_few[:, None], self.few[due])[:, 0]
        mean = of_rest / share.clamp_min(_SMALLEST)[:, None]
        distance = (self.w[due] - self.w_seen[due]).norm(dim=1, keepdim=True)
        known = (self.span[due, None] >= 0) & (distance > 0)
        slope = torch.where(known, (mean - self.mean[due]) / distance, self.slope[due])
        first = self.span[due] < 0
        length = _FIRST_SPAN * first_step * gradient.norm(dim=1)
        self.span[due] = torch.where(first, length, self.span[due])
        self.others[due], self.mean[due], self.slope[due] = rest, mean, slope
        self.w_seen[due], self.velocity_seen[due] = self.w[due], self.velocity[due]
        self.steps_seen[due] = self.n_steps[due]

    def adapt(self, due: Tensor, distance: Tensor, error: Tensor) -> None:
        """Spans that fit the errors (m,) found at distances (m,) from the last look."""
        factor = (_AIM / error.clamp_min(1e-30)).sqrt().clamp(_SHORTER, _LONGER)
        aimed = distance * factor
        longer = torch.maximum(self.span[due], aimed)
        span = torch.where(error <= _AIM, longer, aimed)
        self.span[due] = torch.where(distance > 0, span, self.span[due])

    def take_back(self, rows: Tensor) -> None:
        """Go back to the last look of the samples ``rows`` (m,)."""
        self.w[rows], self.velocity[rows] = self.w_seen[rows], self.velocity_seen[rows]
        self.n_steps[rows] = self.steps_seen[rows]

    def misses(self, due: Tensor, foretold: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """``(m,)`` relative errors of foretold gradients, and whether steps rest on bad ones."""
        error = (foretold - gradient).norm(dim=1) / gradient.norm(dim=1).clamp_min(1e-30)
        # The first step after a look was made with the true gradient.
        return error, (error > _LIMIT) & (self.n_steps[due] - self.steps_seen[due] > 1)

    def advance(self, gradient: Tensor, lr: float, momentum: float) -> None:
        """One step of the descent, in place."""
        self.velocity.mul_(momentum).add_(gradient)
        self.w.sub_(self.velocity, alpha=lr)
        if self.lower is not None:
            torch.maximum(self.w, self.lower, out=self.w)
        self.n_steps += 1


@dataclass(frozen=True)
class FewLogitsDescent:
    """The descent for a batch behind a linear layer.

    Attributes:
        weight: ``(C, F)``.
        bias: ``(C,)``.
        lr: step size.
        momentum: of the descent.
        max_steps: after which a sample is given up.
    """

    weight: Tensor
    bias: Tensor
    lr: float
    momentum: float
    max_steps: int

    def solve(
        self,
        features: Tensor,
        target: Tensor,
        lower: Tensor | None,
        penalty: ElasticNet,
        *,
        progress: bool = False,
    ) -> Counterfactual:
        """As :meth:`SGD.solve`, for ``features`` (n, F)."""
        w = torch.zeros_like(features)
        n_steps = torch.zeros_like(target)
        logits = torch.addmm(self.bias, features, self.weight.T)
        already = logits.argmax(1) == target
        right = already.clone()
        state, gradient = self._start(features, logits, target, lower, ~already)
        with tqdm(total=len(w), desc="counterfactual", disable=not progress) as bar:
            while len(state.rows):
                bar.update(len(w) - len(state.rows) - bar.n)
                state.advance(gradient + penalty.gradient(state.w), self.lr, self.momentum)
                gradient, is_right, leaves = self._looked(state)
                if leaves.any():
                    rows = state.rows[leaves]
                    w[rows], n_steps[rows] = state.w[leaves], state.n_steps[leaves]
                    right[rows] = is_right[leaves]
                    state, gradient = state.keep(~leaves), gradient[~leaves]
        unknown = w.new_full((len(w),), torch.nan)
        return Counterfactual(w, right, n_steps, already, unknown, is_bounded(lower, w), ~right)

    def _start(
        self, features: Tensor, logits: Tensor, target: Tensor, lower: Tensor | None, wrong: Tensor
    ) -> tuple[FewLogits, Tensor]:
        state = FewLogits.start(features, logits, target, lower).keep(wrong)
        state = state.gathered(self.weight, self.bias)
        logits = logits[wrong]
        residual = cross_entropy_residual(logits, state.target)
        gradient = residual @ self.weight
        everyone = torch.arange(len(logits), device=logits.device)
        state.look(everyone, logits, gradient, residual, self.lr)
        return state, gradient

    def _looked(self, state: FewLogits) -> tuple[Tensor, Tensor, Tensor]:
        """``(n, F)`` the gradient for the next step, and ``(n,)`` who is right, and who is done.

        Samples whose target leads the few, whose span is over or that have no steps left are
        looked at in all classes, and with them those that are half-way: products of few rows
        cost nearly as much as products of some more.
        """
        leads, distance, gradient = state.foretell()
        is_last = state.n_steps >= self.max_steps
        right = torch.zeros_like(leads)
        if not bool((leads | is_last | (distance > state.span)).any()):
            return gradient, right, right
        due = (leads | is_last | (distance > state.span / 2)).nonzero()[:, 0]
        logits = torch.addmm(self.bias, state.features[due] + state.w[due], self.weight.T)
        residual = cross_entropy_residual(logits, state.target[due])
        true = residual @ self.weight
        error, is_bad = state.misses(due, gradient[due], true)
        state.adapt(due, distance[due], error)
        good, bad = due[~is_bad], due[is_bad]
        gradient[good] = true[~is_bad]
        right[good] = (logits.argmax(1) == state.target[due])[~is_bad]
        state.look(good, logits[~is_bad], true[~is_bad], residual[~is_bad], self.lr)
        if len(bad):
            state.take_back(bad)
            gradient[bad] = state.keep(bad).foretell()[2]
            is_last[bad] = False
        return gradient, right, right | is_last
