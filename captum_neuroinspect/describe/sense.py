"""One of the things that a unit answers to, as a record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sense:
    """One of the things that a unit answers to; the phrases and their numbers run in parallel.

    Attributes:
        phrases: best first, of the cluster's photos against those on which the unit is silent.
        correlations: with the unit's squared activation on the held-out photos, without those of
            the other clusters.
        exemplars: rows of the photos nearest to the cluster's centre, of both parts, nearest first.
        share: of the unit's most active held-out photos, in 0..1.
    """

    phrases: tuple[str, ...]
    correlations: tuple[float, ...]
    exemplars: tuple[int, ...]
    share: float
