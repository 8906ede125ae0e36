"""The exact minimiser of equation (1), by proximal gradient steps with momentum."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect.attr._prox import prox, prox_residual
from captum_neuroinspect.attr._tails import Tail, is_bounded
from captum_neuroinspect.attr.elastic_net import (
    Counterfactual,
    ElasticNet,
    cross_entropy_residual,
)

# A step fits while step * curvature <= _LONGEST (2 would no longer descend on a parabola), and
# aims at _AIM. The gap leaves room for a curvature that changes a little: fewer steps are lost.
_LONGEST, _AIM = 1.3, 0.9


@dataclass(frozen=True)
class FISTA:
    """How equation (1) is minimised.

    Solves ``min_w CE(logits(w), y) + l1 ||w||_1 + l2 ||w||_2``, with ``w >= lower`` if
    asked, for every sample of a batch by FISTA (Beck & Teboulle 2009): a gradient step
    on the cross entropy from a point that momentum has carried ahead, then the proximal
    map of the norms, which makes true zeros. Weak norms put the minimum where the cross
    entropy is almost flat; three things make it reachable:

    - each sample has its own step size, cut when the gradient turns too fast for it and
      raised when it turns slowly;
    - momentum starts anew when it works against the descent, or when the objective
      rises (O'Donoghue & Candes 2015);
    - the gradient at the point ahead is extrapolated like the point itself. For a
      quadratic that is exact, and it halves the cost of a step.

    The residual is always taken with the true gradient at ``w``. If the tail is linear
    the problem is convex, and a residual of 0 proves the global minimum; a deeper network
    gives a stationary point.

    Attributes:
        max_steps: runs of the tail (forward and back) after which a sample is returned
            as it is, with its residual. A linear head of 1,280 features takes 50-250.
            Fewer are enough behind ReLUs: ``w`` may settle at one of their kinks, where
            no residual vanishes.
        tolerance: residual at which a sample is done. It competes with the weights of
            the norms: 1e-6 of a gradient is little beside ``l1 = 0.1``, much beside
            ``0.1 / 1280``. Float32 reaches about 3e-8 for logits of common size.

    Examples::

        >>> from captum_neuroinspect.attr._tails import LinearTail
        >>> tail = LinearTail(torch.tensor([[1.0, 0.0]]), torch.eye(2), torch.zeros(2))
        >>> penalty = ElasticNet(l1=0.2, l2=0.05 * 2**0.5, scaling="paper")
        >>> found = FISTA().solve(tail, torch.tensor([1]), None, penalty)
        >>> found.w  # the wrong class keeps a probability of 1/4: 1 - 2w = -log(3)
        tensor([[-1.0493,  1.0493]])
    """

    max_steps: int = 1000
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}, expected at least 1")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance={self.tolerance}, expected a positive number")

    def solve(
        self,
        tail: Tail,
        target: Tensor,
        lower: Tensor | None,
        penalty: ElasticNet,
        *,
        progress: bool = False,
    ) -> Counterfactual:
        """Minimise for all samples at once; each leaves when it is done.

        Args:
            tail: from changes to logits, for the ``n`` samples.
            target: ``(n,)`` class that each sample should get.
            lower: ``(n, D)`` smallest change allowed (at most 0; -inf: any), or None.
            penalty: the two norms.
            progress: show a progress bar over steps.

        Returns:
            The :class:`~captum_neuroinspect.attr.Counterfactual`. Strong norms can leave
            the prediction wrong at the minimum: ``converged`` tells about the
            prediction, ``residual`` about the minimum.
        """
        running = _FISTAState.start(tail, target, lower, penalty)
        found = running.empty_record()
        for n_steps in tqdm(range(self.max_steps + 1), "counterfactual", disable=not progress):
            residual = running.residual(penalty)
            done = (residual <= self.tolerance) | (n_steps == self.max_steps)
            if n_steps == 0:
                done |= found.already_correct
            if done.any():
                running.write(found, done, n_steps, residual)
                found.ran_out[running.rows[done]] = (residual > self.tolerance)[done]
                tail.keep(~done)
                running = _keep(running, ~done)
            if not len(running.rows):
                break
            running = running.advance(tail, penalty)
        found.residual[found.already_correct] = torch.nan
        found.ran_out[found.already_correct] = False
        return found


@dataclass(frozen=True)
class _Point:
    """A change and what the tail says of it."""

    w: Tensor  # (n, D)
    gradient: Tensor  # (n, D), of the cross entropy alone
    objective: Tensor  # (n,), as all that follow
    rounding: Tensor  # how far off the objective may be
    right: Tensor  # whether the target is predicted

    @classmethod
    def at(cls, w: Tensor, tail: Tail, target: Tensor, penalty: ElasticNet) -> _Point:
        logits = tail.logits(w)
        gradient = tail.pullback(cross_entropy_residual(logits, target))
        objective = F.cross_entropy(logits, target, reduction="none") + penalty.value(w)
        rounding = 4 * torch.finfo(w.dtype).eps * (logits.abs().amax(1) + objective)
        return cls(w, gradient, objective, rounding, logits.argmax(1) == target)


@dataclass(frozen=True)
class _FISTAState:
    """The samples that are not done yet; the others have left, so late steps are cheap."""

    best: _Point
    ahead: Tensor  # (n, D), where momentum has carried `best`, with the gradient there
    ahead_gradient: Tensor
    step: Tensor  # (n,), as all that follow
    momentum: Tensor  # t_k of Beck & Teboulle
    target: Tensor
    lower: Tensor | None  # (n, D)
    rows: Tensor  # positions in the batch

    @classmethod
    def start(
        cls, tail: Tail, target: Tensor, lower: Tensor | None, penalty: ElasticNet
    ) -> _FISTAState:
        zero = _Point.at(tail.zeros(), tail, target, penalty)
        ones, rows = torch.ones_like(zero.objective), torch.arange(len(target)).to(target.device)
        return cls(zero, zero.w, zero.gradient, ones, ones, target, lower, rows)

    def empty_record(self) -> Counterfactual:
        """The result for all samples, to be filled in as they leave."""
        right, unknown = self.best.right, torch.full_like(self.step, torch.nan)
        return Counterfactual(
            w=torch.zeros_like(self.best.w),
            converged=right.clone(),
            n_steps=torch.zeros_like(self.rows),
            already_correct=right.clone(),
            residual=unknown,
            feasible=is_bounded(self.lower, self.best.w),
            ran_out=torch.zeros_like(right),
        )

    def write(self, found: Counterfactual, done: Tensor, n_steps: int, residual: Tensor) -> None:
        rows = self.rows[done]
        found.w[rows], found.converged[rows] = self.best.w[done], self.best.right[done]
        found.n_steps[rows], found.residual[rows] = n_steps, residual[done]

    def residual(self, penalty: ElasticNet) -> Tensor:
        """``(n,)`` the largest entry of ``w - prox(w - gradient)``."""
        l1, l2 = self._weights(torch.ones_like(self.step), penalty)
        return prox_residual(self.best.w, self.best.gradient, l1, l2, self.lower).abs().amax(1)

    def advance(self, tail: Tail, penalty: ElasticNet) -> _FISTAState:
        """One step for each sample: on, or back to a shorter one, or to no momentum."""
        l1, l2 = self._weights(self.step, penalty)
        downhill = self.ahead - self.step[:, None] * self.ahead_gradient
        new = _Point.at(prox(downhill, l1, l2, self.lower), tail, self.target, penalty)
        aim, fits = self._fit(new)
        falls = new.objective <= self.best.objective + self.best.rounding
        longer = torch.minimum(torch.maximum(aim, self.step), 2 * self.step)
        shorter = torch.fmin(aim, self.step / 2)
        step = torch.where(fits & falls, longer, shorter)
        return replace(self._moved(new, fits & falls, fits & ~falls), step=step)

    def _weights(self, step: Tensor, penalty: ElasticNet) -> tuple[Tensor, Tensor]:
        l1, l2 = penalty.weights(self.ahead.shape[1])
        return step[:, None] * l1, step[:, None] * l2

    def _fit(self, new: _Point) -> tuple[Tensor, Tensor]:
        """The step size that the curvature on the way to ``new`` allows; is the step short enough?

        Products of gradients, unlike differences of losses, survive float32 at the minimum.
        """
        change = new.w - self.ahead
        square = (change * change).sum(1)
        bend = (change * (new.gradient - self.ahead_gradient)).sum(1)
        aim = torch.where(bend > 0, _AIM * square / bend, torch.inf)
        return aim, self.step * bend <= _LONGEST * square

    def _moved(self, new: _Point, accepted: Tensor, restart: Tensor) -> _FISTAState:
        helps = ((self.ahead - new.w) * (new.w - self.best.w)).sum(1) <= 0
        now = torch.where(helps, self.momentum, 1)
        then = (1 + (1 + 4 * now**2).sqrt()) / 2
        best = _select(accepted, new, self.best)
        # At a restart `best` stays, and so what lies beyond it is `best` itself.
        moves, beyond = (accepted | restart)[:, None], (1 + (now - 1) / then)[:, None]
        ahead = torch.lerp(self.best.w, best.w, beyond)
        gradient = torch.lerp(self.best.gradient, best.gradient, beyond)
        return replace(
            self,
            best=best,
            ahead=torch.where(moves, ahead, self.ahead),
            ahead_gradient=torch.where(moves, gradient, self.ahead_gradient),
            momentum=torch.where(accepted, then, torch.where(restart, 1, self.momentum)),
        )


def _keep(running: _FISTAState, mask: Tensor) -> _FISTAState:
    """The samples where ``mask`` (n,) is true."""
    best = _Point(*(value[mask] for value in _values(running.best)))
    tensors = {name: v[mask] for name, v in vars(running).items() if isinstance(v, Tensor)}
    return replace(running, best=best, **tensors)


def _select(mask: Tensor, new: _Point, old: _Point) -> _Point:
    """``new`` where ``mask`` (n,) is true, else ``old``."""
    pairs = zip(_values(new), _values(old), strict=True)
    return _Point(*(torch.where(mask if a.ndim == 1 else mask[:, None], a, b) for a, b in pairs))


def _values(point: _Point) -> list[Tensor]:
    return [getattr(point, field.name) for field in fields(point)]
