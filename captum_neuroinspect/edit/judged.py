"""What judges an edit: the same samples before and after it, and what chance explains of that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect.edit._outcomes import logits_of, with_logits_of


@dataclass(frozen=True, eq=False)
class Judged:
    """Samples that were used for nothing else, before an edit and after it; row i is one sample.

    Logits, labels, indices and groups; the features, which take room, are left out. Of more than
    1,000 classes ``before`` shares the logits of the set that judged, where these are the
    original head's: ``after`` is the only copy, N x C x 4 bytes.

    Attributes:
        before: what the original head says of them.
        after: what heads say that were neither fitted to a sample nor chosen by it: the edited
            head, or for each sample one that was made in the same way without it.
        how: in words: "60 photos that were used for nothing else", or "60 photos, cross-fitted
            over 5 folds".

    Raises:
        ValueError: when the two are not of the same samples.
    """

    before: FeatureSet
    after: FeatureSet
    how: str

    def __post_init__(self) -> None:
        before, after = self.before, self.after
        if len(before) != len(after) or not torch.equal(before.labels, after.labels):
            raise ValueError(
                f"before has {len(before)} samples and after {len(after)}, expected the same "
                "samples in the same order"
            )

    def __len__(self) -> int:
        return len(self.before)

    def __repr__(self) -> str:
        return (
            f"Judged({self.how}: accuracy {self.before.accuracy():.3f} -> "
            f"{self.after.accuracy():.3f})"
        )


def judged_by(original: nn.Linear, head: nn.Linear, test: FeatureSet) -> Judged:
    """Both heads on samples that are test photos and nothing else.

    Examples::

        >>> z, labels = torch.eye(2), torch.tensor([0, 1])
        >>> heads = [nn.Linear(2, 2) for _ in range(2)]
        >>> judged_by(*heads, FeatureSet(z, heads[0](z).detach(), labels)).how
        '2 photos that were used for nothing else'
    """
    before = _bare(with_logits_of(test, original))
    logits = logits_of(test, head, original)
    after = replace(before, logits=logits, head_fingerprint=head_fingerprint(head))
    return Judged(before, after, f"{n_photos(len(test))} that were used for nothing else")


def judged_in_folds(
    original: nn.Linear, heads: Sequence[nn.Linear], held_out: FeatureSet, folds: Tensor
) -> Judged:
    """Each sample by the head that was made without its fold.

    Args:
        original: the head before.
        heads: one a fold.
        held_out: N samples.
        folds: ``(N,)`` fold of each.
    """
    logits = torch.empty(len(held_out), original.out_features)
    for fold, head in enumerate(heads):
        logits[folds == fold] = logits_of(held_out.subset(folds == fold), head, original)
    after = replace(_bare(held_out), logits=logits, head_fingerprint=None)
    how = f"{n_photos(len(held_out))}, cross-fitted over {len(heads)} folds"
    return Judged(_bare(with_logits_of(held_out, original)), after, how)


def n_photos(n: int) -> str:
    return f"{n:,} photo{'' if n == 1 else 's'}"


def _bare(data: FeatureSet) -> FeatureSet:
    return replace(data, features=data.features[:, :0])


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
        >>> found.n_corrected, found.n_broken
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
    def n_corrected(self) -> int:
        return int((~self.was_right & self.is_right).sum())

    @property
    def n_broken(self) -> int:
        return int((self.was_right & ~self.is_right).sum())

    @property
    def change(self) -> Estimate:
        """Of the share that is right; NaN without samples."""
        return paired_change(self.n_corrected, self.n_broken, len(self))


def paired_change(n_corrected: int, n_broken: int, n: int) -> Estimate:
    """By how much the share of right samples changed, with a 95 % interval.

    The adjusted Wald interval of Bonett and Price, "Adjusted Wald Confidence Interval for a
    Difference of Binomial Proportions Based on Paired Data" (2012), which adds one sample to
    each of the two ways to change sides. Fagerland, Lydersen and Laake, "Recommended tests and
    confidence intervals for paired binomial proportions" (2014), recommend it also for few
    samples. It seldom tells a change from none where the exact McNemar test does not: with none
    of 60 broken both need six corrected.

    Args:
        n_corrected: samples that were wrong and are right.
        n_broken: samples that were right and are wrong.
        n: all samples, also those that stayed what they were.

    Raises:
        ValueError: for counts below 0, or more changes than samples.

    Examples::

        >>> change = paired_change(6, 0, 60)
        >>> f"{change.value:.3f} ({change.low:.3f} to {change.high:.3f})"
        '0.100 (0.011 to 0.183)'
    """
    _check_counts(n_corrected, n_broken)
    if n_corrected + n_broken > n:
        raise ValueError(
            f"{n_corrected} corrected and {n_broken} broken of n={n}, expected at most n"
        )
    if not n:
        return Estimate(math.nan, math.nan, math.nan)
    gained, lost = (n_corrected + 1) / (n + 2), (n_broken + 1) / (n + 2)
    centre = gained - lost
    half = _Z * math.sqrt((gained + lost - centre**2) / (n + 2))
    value = (n_corrected - n_broken) / n
    return Estimate(value, max(-1.0, centre - half), min(1.0, centre + half))


def mcnemar(
    n_corrected: int,
    n_broken: int,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
) -> float:
    """The p-value of the exact McNemar test: if either change were as likely as the other.

    ``scipy.stats.binomtest`` on the samples that changed sides; 1 where none did.

    Args:
        n_corrected: samples that were wrong and are right.
        n_broken: samples that were right and are wrong.
        alternative: ``"greater"``: more are corrected; ``"less"``: more are broken.

    Raises:
        ValueError: for counts below 0.

    Examples::

        >>> round(mcnemar(9, 1), 4)
        0.0215
    """
    _check_counts(n_corrected, n_broken)
    if not n_corrected + n_broken:
        return 1.0
    from scipy.stats import binomtest  # half a second, for those who judge

    return float(
        binomtest(n_corrected, n_corrected + n_broken, 0.5, alternative=alternative).pvalue
    )


def _check_counts(*counts: int) -> None:
    if min(counts) < 0:
        raise ValueError(f"counts of samples are {counts}, expected 0 or more")
