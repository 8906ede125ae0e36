"""The same samples judged by two heads: which changed sides, and what chance explains of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from captum_neuroinspect.edit.judged import Judged

_Z = 1.959963984540054  # of a normal distribution, 95 % lie within


class Estimate(NamedTuple):
    """A difference of two shares of the same samples, -1..1, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Paired:
    """Samples that two heads judged.

    Attributes:
        labels: ``(N,)`` class of each.
        was_right: ``(N,)`` whether the first head is right.
        is_right: ``(N,)`` whether the second one is.

    Examples::

        >>> right = torch.tensor([True, False, False])
        >>> found = Paired(torch.tensor([0, 0, 1]), right, ~right)
        >>> found.n_mended, found.n_broken
        (2, 1)
    """

    labels: Tensor
    was_right: Tensor
    is_right: Tensor

    def __post_init__(self) -> None:
        shapes = {tuple(t.shape) for t in (self.labels, self.was_right, self.is_right)}
        if len(shapes) != 1 or self.labels.ndim != 1:
            raise ValueError(f"labels, was_right and is_right have shapes {shapes}, expected (N,)")
        if self.was_right.dtype != torch.bool or self.is_right.dtype != torch.bool:
            raise TypeError(
                f"was_right is {self.was_right.dtype} and is_right {self.is_right.dtype}, "
                "expected torch.bool"
            )

    @classmethod
    def of(cls, judged: Judged) -> Paired:
        """What an edit was judged by.

        Raises:
            ValueError: for multi-hot labels, whose decisions are not independent of each other.
        """
        if judged.before.is_multi_hot:
            raise ValueError("features have multi-hot labels, expected one class a sample")
        return cls(judged.before.labels, judged.before.is_correct, judged.after.is_correct)

    def of_classes(self, classes: Iterable[int]) -> Paired:
        """The samples of these classes."""
        rows = torch.isin(self.labels, torch.tensor(list(classes), dtype=torch.int64))
        return Paired(self.labels[rows], self.was_right[rows], self.is_right[rows])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_mended(self) -> int:
        return int((~self.was_right & self.is_right).sum())

    @property
    def n_broken(self) -> int:
        return int((self.was_right & ~self.is_right).sum())

    @property
    def change(self) -> Estimate:
        """Of the share that is right; NaN without samples."""
        return paired_change(self.n_mended, self.n_broken, len(self))


def paired_change(n_mended: int, n_broken: int, n: int) -> Estimate:
    """By how much the share of right samples changed, with a 95 % interval.

    The adjusted Wald interval of Bonett and Price, "Adjusted Wald Confidence Interval for a
    Difference of Binomial Proportions Based on Paired Data" (2012), which adds one sample to
    each of the two ways to change sides. Fagerland, Lydersen and Laake, "Recommended tests and
    confidence intervals for paired binomial proportions" (2014), recommend it also for few
    samples. It seldom tells a change from none where the exact McNemar test does not: with none
    of 60 broken both need six mended.

    Args:
        n_mended: samples that were wrong and are right.
        n_broken: samples that were right and are wrong.
        n: all samples, also those that stayed what they were.

    Raises:
        ValueError: for counts below 0, or more changes than samples.

    Examples::

        >>> change = paired_change(6, 0, 60)
        >>> f"{change.value:.3f} ({change.low:.3f} to {change.high:.3f})"
        '0.100 (0.011 to 0.183)'
    """
    _check_counts(n_mended, n_broken)
    if n_mended + n_broken > n:
        raise ValueError(f"{n_mended} mended and {n_broken} broken of n={n}, expected at most n")
    if not n:
        return Estimate(math.nan, math.nan, math.nan)
    gained, lost = (n_mended + 1) / (n + 2), (n_broken + 1) / (n + 2)
    centre = gained - lost
    half = _Z * math.sqrt((gained + lost - centre**2) / (n + 2))
    value = (n_mended - n_broken) / n
    return Estimate(value, max(-1.0, centre - half), min(1.0, centre + half))


def mcnemar(
    n_mended: int,
    n_broken: int,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
) -> float:
    """The p-value of the exact McNemar test: if either change were as likely as the other.

    ``scipy.stats.binomtest`` on the samples that changed sides; 1 where none did.

    Args:
        n_mended: samples that were wrong and are right.
        n_broken: samples that were right and are wrong.
        alternative: ``"greater"``: more are mended; ``"less"``: more are broken.

    Raises:
        ValueError: for counts below 0.

    Examples::

        >>> round(mcnemar(9, 1), 4)
        0.0215
    """
    _check_counts(n_mended, n_broken)
    if not n_mended + n_broken:
        return 1.0
    from scipy.stats import binomtest  # half a second, for those who judge

    return float(binomtest(n_mended, n_mended + n_broken, 0.5, alternative=alternative).pvalue)


def _check_counts(*counts: int) -> None:
    if min(counts) < 0:
        raise ValueError(f"counts of samples are {counts}, expected 0 or more")
