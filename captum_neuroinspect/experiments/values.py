"""Numbers that say what they rest on: shares of photos, and means over seeds with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

_N_DRAWS = 10_000
_CONFIDENCE = 0.95


class Count(NamedTuple):
    """A share of photos: so many of so many.

    Attributes:
        right: how many count.
        of: how many there are.
    """

    right: int
    of: int

    @property
    def value(self) -> float:
        """0..1; NaN of no photos."""
        return self.right / self.of if self.of else math.nan


class ShareChange(NamedTuple):
    """What an edit changed on photos: the difference of two shares of the same photos.

    Attributes:
        gained: how many were wrong and are right.
        lost: how many were right and are wrong.
        of: how many there are.
    """

    gained: int
    lost: int
    of: int

    @property
    def value(self) -> float:
        """-1..1; NaN of no photos."""
        return (self.gained - self.lost) / self.of if self.of else math.nan


Value: TypeAlias = float | Count | ShareChange
# Row (such as a method) -> measure -> value: what one part of an experiment found.
Numbers: TypeAlias = Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True)
class MeanWithInterval:
    """A mean with an interval of 95 %, and what both rest on.

    Attributes:
        mean: NaN when there is no value.
        low, high: the interval; NaN when there is none.
        n: how many values the mean is of.
        n_photos: photos behind each value, 0 where that is not known.
        basis: ``"t"``: Student's t over the values; ``"bootstrap"``: of one value, by drawing its
            photos again; ``"none"``: of one value whose photos are not known, or of no value.
    """

    mean: float
    low: float = math.nan
    high: float = math.nan
    n: int = 1
    n_photos: int = 0
    basis: str = "none"
    over: str = "seeds"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: a number that is not finite is ``None``."""
        record = dict(vars(self))
        for name in ("mean", "low", "high"):
            record[name] = record[name] if math.isfinite(record[name]) else None
        return record


def mean_with_interval(values: Iterable[Value]) -> MeanWithInterval:
    """The mean of one value a seed, with its interval.

    Of two values and more Student's t over them. Of one: its photos are drawn again 10,000 times
    (percentile bootstrap), which holds the luck of the test photos, and not that of the seed.

    Args:
        values: of one kind; NaN, as of a class without photos, is left out.

    Examples::

        >>> found = mean_with_interval([0.2, 0.4])
        >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2), found.basis
        (0.3, -0.97, 1.57, 't')
        >>> mean_with_interval([Count(5, 10)]).basis, mean_with_interval([0.5]).basis
        ('bootstrap', 'none')
    """
    known = [one for one in values if not math.isnan(number(one))]
    if not known:
        return MeanWithInterval(math.nan, n=0)
    numbers = [number(one) for one in known]
    mean = sum(numbers) / len(numbers)
    n_photos = min((one.of for one in known if isinstance(one, Count | ShareChange)), default=0)
    if len(known) > 1:
        half = _half_width(numbers)
        return MeanWithInterval(mean, mean - half, mean + half, len(known), n_photos, "t")
    if isinstance(known[0], Count | ShareChange):
        low, high = _bootstrap(known[0])
        return MeanWithInterval(mean, low, high, 1, n_photos, "bootstrap")
    return MeanWithInterval(mean)


def number(value: Value) -> float:
    """A value as a plain number."""
    return value.value if isinstance(value, Count | ShareChange) else float(value)


def as_json(value: Value) -> float | list[int] | None:
    """Two or three whole numbers for a share or a change; ``None`` for NaN."""
    if isinstance(value, Count | ShareChange):
        return list(value)
    return float(value) if math.isfinite(value) else None


def from_json(value: Any) -> Value:
    """What :func:`as_json` gave.

    Raises:
        ValueError: for something else.

    Examples::

        >>> from_json([3, 4]), from_json(None)
        (Count(right=3, of=4), nan)
    """
    if value is None:
        return math.nan
    if isinstance(value, float | int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list) and len(value) in (2, 3) and all(type(i) is int for i in value):
        if min(value) >= 0 and sum(value[:-1]) <= value[-1]:
            return Count(*value) if len(value) == 2 else ShareChange(*value)
    raise ValueError(f"{value!r} is no number, share or change")


def _half_width(numbers: Sequence[float]) -> float:
    from scipy.stats import t as student  # an import that takes a while

    spread = float(np.std(numbers, ddof=1)) / math.sqrt(len(numbers))
    return spread * float(student.ppf((1 + _CONFIDENCE) / 2, len(numbers) - 1))


def _bootstrap(value: Count | ShareChange) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    if isinstance(value, Count):
        drawn = rng.binomial(value.of, value.value, _N_DRAWS) / value.of
    else:
        shares = np.array([value.gained, value.lost, value.of - value.gained - value.lost])
        counts = rng.multinomial(value.of, shares / value.of, _N_DRAWS)
        drawn = (counts[:, 0] - counts[:, 1]) / value.of
    tail = 100 * (1 - _CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)
