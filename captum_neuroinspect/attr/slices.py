"""Mistakes of one class with several causes, which cancel in a mean: one ranking a cause."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.optional import optional
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.attr.elastic_net import Counterfactual
from captum_neuroinspect.attr.neuron_ranking import NeuronRanking, rank_neurons
from captum_neuroinspect.attr.reference import Reference

NSlices = int | Literal["auto"]

_SMALLEST = 5  # mistakes a slice, where their number is not given
_LEVEL = 0.01
_N_FOLDS = 10
_N_DRAWN = 1000
_MOST_DRAWN = 1000  # mistakes in a drawn set: more change the test by nothing
_N_STARTS = 10


@dataclass(frozen=True, eq=False)
class Slice:
    """Mistakes that have a cause in common, and the neurons behind it.

    Attributes:
        members: ``(m,)`` which of the M mistakes, in ascending order.
        mistakes: these mistakes; :func:`cue_direction` of them is the slice's whole cue.
        w: ``(m, F)`` their counterfactual changes.
        ranking: as :func:`rank_neurons` gives it for these mistakes alone.
    """

    members: Tensor
    mistakes: FeatureSet
    w: Tensor
    ranking: NeuronRanking

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"Slice({len(self)} mistakes)"


@dataclass(frozen=True, eq=False)
class Slices(Sequence[Slice]):
    """All slices of the mistakes, the largest first; each mistake is in one.

    Attributes:
        slices: at least one.
        reason: why so many, in a sentence.
        p_value: of the least certain split that was made, or of the one that was not, where the
            number was chosen by it; else ``None``.
    """

    slices: tuple[Slice, ...]
    reason: str
    p_value: float | None = None

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, place: Any) -> Any:
        return self.slices[place]

    def __iter__(self) -> Iterator[Slice]:
        return iter(self.slices)

    @property
    def labels(self) -> Tensor:
        """``(M,)`` the slice of each mistake."""
        found = torch.empty(sum(map(len, self.slices)), dtype=torch.int64)
        for place, one in enumerate(self.slices):
            found[one.members] = place
        return found

    def __repr__(self) -> str:
        return f"Slices({', '.join(str(len(one)) for one in self)} mistakes; {self.reason})"


@undisturbed(keep_autocast=True)
def slice_mistakes(
    w: Tensor | Counterfactual,
    mistakes: FeatureSet,
    reference: FeatureSet | Reference | Tensor,
    *,
    n_slices: NSlices = "auto",
    k: int | None = None,
    importance: Tensor | None = None,
    seed: int = 0,
) -> Slices:
    """Put mistakes together that have a cause in common, and rank the neurons behind each.

    Mistakes are compared by the direction of their contrasted counterfactuals
    (:class:`Reference`), and parted by k-means. ``"auto"`` parts them in two as long as that
    leaves a gap: each tenth of the mistakes is placed on the line between the two centres that the
    others have, and the two groups there have to account for more of the variance than in 99 % of
    sets of as many places drawn evenly, the flattest distribution without a gap. Where causes
    differ by degrees only, the mistakes stay together.

    Args:
        w: ``(M, F)`` counterfactual changes of M mistakes, or their details. Samples whose change
            does not reach their class part nothing; each joins the slice that it resembles most.
        mistakes: the same mistakes, best of one class: other classes' are other directions.
        reference: samples that the model gets right, as in :func:`rank_neurons`.
        n_slices: how many; ``"auto"``: as above, of at least five mistakes each.
        k: votes of each mistake, as in :func:`rank_neurons`.
        importance: ``(F,)`` shown beside each slice's neurons, as in :func:`rank_neurons`.
        seed: of the first centres, the tenths, and the drawn places; 0 or more.

    Raises:
        ImportError: when scikit-learn is not installed.
        TypeError: when ``mistakes`` is no :class:`FeatureSet`, or ``n_slices`` or the seed no whole
            number.
        ValueError: when ``n_slices`` is another text, below 1 or above the number of mistakes
            that differ, the seed is below 0, or changes are not finite; and as
            :func:`rank_neurons`.

    Examples::

        >>> from captum_neuroinspect.attr import cue_direction
        >>> _ = torch.manual_seed(0)
        >>> z, labels = torch.rand(60, 4), torch.zeros(60).long()
        >>> z[:40] += torch.tensor([4.0, 4.0, 0.0, 0.0])  # learned from; two causes take it away
        >>> z[40:50, 0] += 4
        >>> z[50:, 1] += 4
        >>> data = FeatureSet(z, torch.eye(2)[(torch.arange(60) >= 40).long()], labels)
        >>> mistakes, reference = data.mistakes(), data.correct()
        >>> w = torch.tensor([1.0, 1.0, -0.1, -0.1]).expand(20, 4)
        >>> slices = slice_mistakes(w, mistakes, reference)
        >>> [(len(one), one.ranking.insufficient.neurons[0]) for one in slices]
        [(10, 1), (10, 0)]
        >>> cue = cue_direction(slices[0].mistakes, reference)  # what remove_cue takes
        >>> cue.neurons(1)
        (1,)
    """
    changes, voters = _checked(w, mistakes)
    _check_number(n_slices)
    check_whole("seed", seed)
    check_at_least("seed", seed, 0)
    usual = Reference.of(reference).for_mistakes(changes)
    contrast = usual.contrast(changes, mistakes.features, mistakes.labels).double()
    rows = torch.nn.functional.normalize(contrast).cpu().numpy()
    chosen = voters.nonzero()[:, 0].cpu().numpy()
    if n_slices == "auto":
        labels, reason, p_value = _parted(rows[chosen], seed)
    else:
        labels, p_value = _clusters(rows[chosen], int(n_slices), seed), None
        reason = f"{_count(int(n_slices), 'slice')}, as asked"
    every = _with_others(rows, chosen, labels)
    members = [torch.from_numpy(np.flatnonzero(every == one)) for one in np.unique(every)]
    members.sort(key=lambda one: (-len(one), int(one[0])))
    slices = tuple(
        Slice(
            one,
            part := mistakes.subset(one),
            changes[one],
            rank_neurons(
                _rows_of(w, one), k=k, features=part, reference=reference, importance=importance
            ),
        )
        for one in members
    )
    return Slices(slices, reason, p_value)


def _checked(w: Tensor | Counterfactual, mistakes: FeatureSet) -> tuple[Tensor, Tensor]:
    """The changes, and ``(M,)`` those that reach their class."""
    if not isinstance(mistakes, FeatureSet):
        raise TypeError(f"mistakes is {type(mistakes).__name__}, expected a FeatureSet")
    changes = w.w if isinstance(w, Counterfactual) else w
    if not isinstance(changes, Tensor):
        raise TypeError(
            f"w is {type(w).__name__}, expected a tensor (M, F), or the details of attributions"
        )
    if changes.ndim != 2 or changes.shape != mistakes.features.shape:
        raise ValueError(
            f"w has shape {tuple(changes.shape)}, expected {tuple(mistakes.features.shape)} as the "
            "mistakes' features"
        )
    if not changes.isfinite().all():
        raise ValueError("w has NaN or infinite values")
    voters = changes.ne(0).any(1)
    if isinstance(w, Counterfactual):
        voters &= w.converged | w.already_correct
    if not voters.any():
        raise ValueError(
            f"none of the {len(changes)} mistakes has a change that reaches its class: there is "
            "nothing to compare them by"
        )
    return changes, voters


def _check_number(n_slices: object) -> None:
    if isinstance(n_slices, str):
        if n_slices != "auto":
            raise ValueError(f"n_slices={n_slices!r}, expected 'auto' or a whole number")
    elif isinstance(n_slices, bool) or not isinstance(n_slices, Integral):
        raise TypeError(f"n_slices is {type(n_slices).__name__}, expected 'auto' or a whole number")
    elif int(n_slices) < 1:
        raise ValueError(f"n_slices={n_slices}, expected at least 1")


def _parted(rows: np.ndarray, seed: int) -> tuple[np.ndarray, str, float | None]:
    """Slices of the rows, why so many, and how certain that is."""
    labels = np.zeros(len(rows), dtype=np.int64)
    if len(rows) < 2 * _SMALLEST:
        why = f"{_count(len(rows), 'mistake')}, and from {2 * _SMALLEST} on there could be two"
        return labels, f"one slice: {why}", None
    made, refused, waiting = [], [], [np.arange(len(rows))]
    while waiting:
        part = waiting.pop()
        split, p_value = _split(rows[part], seed)
        if p_value >= _LEVEL:
            refused.append(p_value)
            continue
        made.append(p_value)
        sides = part[split == 0], part[split == 1]
        labels[sides[1]] = labels.max() + 1
        waiting += [side for side in sides if len(side) >= 2 * _SMALLEST]
    if made:
        n = _count(len(made) + 1, "slice")
        gap = "a gap lies between them" if len(made) == 1 else "a gap lies between each two"
        return labels, f"{n}: {gap}, which evenly spread mistakes seldom have", max(made)
    return labels, "one slice: no gap lies between parts of the mistakes", min(refused)


def _split(rows: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """``(M,)`` the better half of each row, 0 or 1, and how likely so clear a gap is by chance."""
    labels = _clusters(rows, 2, seed, may_fail=True)
    if np.bincount(labels, minlength=2).min() < _SMALLEST:
        return labels, 1.0
    folds = np.random.default_rng(seed).permutation(len(rows)) % _N_FOLDS
    places = np.zeros(len(rows))
    for fold in range(_N_FOLDS):
        kept, out = folds != fold, folds == fold
        halves = _clusters(rows[kept], 2, seed, may_fail=True)
        if halves.min() == halves.max():
            return labels, 1.0
        centres = np.stack([rows[kept][halves == half].mean(0) for half in (0, 1)])
        if (halves == labels[kept]).mean() < 0.5:  # the same halves by the other's names
            centres = centres[::-1]
        line = centres[1] - centres[0]
        places[out] = (rows[out] - centres.mean(0)) @ line / (line @ line)
    return labels, _chance_of(places, seed)


def _chance_of(places: np.ndarray, seed: int) -> float:
    """How often evenly drawn places fall in two groups as clearly as these: a p-value."""
    n = min(len(places), _MOST_DRAWN)
    drawn = _explained_by_two(np.random.default_rng(seed).random((_N_DRAWN, n)))
    found = _explained_by_two(places[None])[0]
    return float((1 + (drawn >= found).sum()) / (1 + _N_DRAWN))


def _explained_by_two(places: np.ndarray) -> np.ndarray:
    """``(S,)`` share of the variance of ``(S, M)`` places that the best two groups explain."""
    places = np.sort(places, axis=1) - places.mean(1, keepdims=True)
    sums, n = places.cumsum(1)[:, :-1], places.shape[1]
    left = np.arange(1, n)
    between = (sums**2 * (1 / left + 1 / (n - left))).max(1)
    whole = (places**2).sum(1)
    return np.divide(between, whole, out=np.zeros_like(whole), where=whole > 0)


def _clusters(rows: np.ndarray, n: int, seed: int, may_fail: bool = False) -> np.ndarray:
    """``(M,)`` clusters by k-means."""
    if n == 1:
        return np.zeros(len(rows), dtype=np.int64)
    cluster = optional("sklearn.cluster")
    n_different = len(np.unique(rows.round(9), axis=0))
    if n_different < n:
        if may_fail:
            return np.zeros(len(rows), dtype=np.int64)
        raise ValueError(
            f"n_slices={n}, expected at most {n_different}: so many of the {len(rows)} mistakes "
            "differ"
        )
    with warnings.catch_warnings():
        # Rows that differ by rounding alone make fewer clusters, which the caller counts.
        warnings.simplefilter("ignore", optional("sklearn.exceptions").ConvergenceWarning)
        found = cluster.KMeans(n, n_init=_N_STARTS, random_state=seed).fit(rows)
    return np.asarray(found.labels_, dtype=np.int64)


def _with_others(rows: np.ndarray, chosen: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``(M,)`` slices of all rows: those that were not clustered join the most similar one."""
    centres = np.stack([rows[chosen][labels == one].mean(0) for one in np.unique(labels)])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True).clip(1e-12)
    every = np.unique(labels)[(rows @ centres.T).argmax(1)]
    every[chosen] = labels
    return every


def _rows_of(w: Tensor | Counterfactual, members: Tensor) -> Tensor | Counterfactual:
    """The changes or details of some samples."""
    if isinstance(w, Tensor):
        return w[members]
    parts: dict[str, Callable[..., Any] | Tensor] = {
        field.name: value[members]
        for field in fields(w)
        if isinstance(value := getattr(w, field.name), Tensor)
    }
    return replace(w, **parts)  # type: ignore[arg-type]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
