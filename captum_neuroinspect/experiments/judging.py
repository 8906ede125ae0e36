"""What an edited head does on test photos, as counts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.experiments.values import Count, ShareChange, Value

BEFORE = "before"
Fit = Callable[[], nn.Linear]


def count(judged: FeatureSet, which: Tensor | None = None) -> Count:
    """How many of the samples are right, of all or of those that ``which`` (N,) marks."""
    right = judged.is_correct if which is None else judged.is_correct[which]
    return Count(int(right.sum()), len(right))


def change(before: FeatureSet, after: FeatureSet, which: Tensor | None = None) -> ShareChange:
    """What is right now and was wrong, and the other way round.

    Examples::

        >>> z, other = torch.eye(2), torch.eye(2).flip(0)
        >>> labels = torch.tensor([0, 0])
        >>> change(FeatureSet(z, z, labels), FeatureSet(z, other, labels))
        ShareChange(gained=1, lost=1, of=2)
    """
    was, now = before.is_correct, after.is_correct
    if which is not None:
        was, now = was[which], now[which]
    return ShareChange(int((now & ~was).sum()), int((was & ~now).sum()), len(now))


def lowest(judged: FeatureSet, parts: Tensor) -> Count:
    """The count of the class or group with the lowest accuracy, the first of equals.

    Args:
        judged: N samples.
        parts: ``(N,)`` class or group of each.
    """
    every = [count(judged, parts == one) for one in parts.unique(sorted=True)]
    return min(every, key=lambda one: one.value)


def outcomes(
    fits: Mapping[str, Fit],
    head: nn.Linear,
    measure: Callable[[nn.Linear], dict[str, Value]],
) -> dict[str, dict[str, Value]]:
    """What each way to edit a head measures, the original first."""
    found = {BEFORE: measure(head)}
    for name, fit in fits.items():
        with quiet_edits():
            edited = fit()
        found[name] = measure(edited)
    return found


@contextmanager
def quiet_edits() -> Iterator[None]:
    """Without warnings that the original head is better or was kept: the table shows it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def random_neurons(n: int, n_features: int, seed: int) -> tuple[int, ...]:
    """A control: as many neurons, drawn."""
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randperm(n_features, generator=rng)[:n].tolist())
