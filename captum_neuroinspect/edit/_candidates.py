"""Settings of an edit that compete, from a coarse grid to the neighbours of its best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

from captum_neuroinspect.edit._options import Scope

# The paper's numbers, and those that move a strong correlation.
_COUNTS = (6, 50)
_STRENGTHS = (1.0, 10.0)
# From narrow to wide: of equals the first is taken.
_SCOPES: tuple[Scope, ...] = ("neurons", "class", "head")

PlainRatio = float | tuple[float, ...] | dict[int, float | tuple[float, ...]]


@dataclass(frozen=True)
class Candidate:
    """Settings of :func:`edit_head` that were tried, and what the head that they gave does.

    Attributes:
        n_neurons: how many were constrained, the most blamed ones.
        strength: lambda3.
        ratio: ``o``, as in :class:`HeadEdit`.
        scope: what was allowed to change.
        epoch: whose head it is; 0: the original, because all others did worse for the target
            or cost the other classes too much.
        target_accuracy: on the data that chooses, 0..1; the mean of several targets.
        others_accuracy: of all other classes together there.
    """

    n_neurons: int
    strength: float
    ratio: PlainRatio
    scope: Scope
    epoch: int
    target_accuracy: float
    others_accuracy: float

    @property
    def rank(self) -> tuple[float, float]:
        """The larger the better: the target's accuracy, then the others'."""
        return self.target_accuracy, self.others_accuracy


class Setting(NamedTuple):
    """What is tried; ``None``: as the caller says."""

    n_neurons: int | None
    strength: float | None
    ratio: float | Literal["rule"] | None
    scope: Scope | None


class Grid(NamedTuple):
    """What is open: the number of ranked neurons if that is, and three yes or no."""

    n_ranked: int | None
    strength: bool
    ratio: bool
    scope: bool

    def coarse(self) -> Iterator[Setting]:
        """Few values of each, all combined; the smallest intervention first."""
        counts: Sequence[int | None] = [None]
        if self.n_ranked is not None:
            counts = sorted({min(n, self.n_ranked) for n in _COUNTS})
        strengths = _STRENGTHS if self.strength else (None,)
        scopes = _SCOPES if self.scope else (None,)
        ratio = 1.0 if self.ratio else None
        for n_neurons, strength, scope in product(counts, strengths, scopes):
            yield Setting(n_neurons, strength, ratio, scope)

    def around(self, best: Setting) -> Iterator[Setting]:
        """Half and twice the neurons, a third and three times the strength; o by rule."""
        n, strength = best.n_neurons, best.strength
        counts: Sequence[int | None] = [n]
        if n is not None and self.n_ranked is not None:
            counts = [max(1, n // 2), n, min(2 * n, self.n_ranked)]
        strengths = [None] if strength is None else [strength / 3, strength, 3 * strength]
        for n_neurons, other in product(counts, strengths):
            yield best._replace(n_neurons=n_neurons, strength=other)
        if self.ratio:
            yield best._replace(ratio="rule")
