"""Partial results over some of the photos that join to the same bits in any order.

Each kind has ``of`` (some photos), ``merged`` (two partial results) and a way to its tensors
(``tensors``, ``from_tensors``), so that it can be kept in a file. ``merged`` is associative and
commutative to the last bit: numbers are counted in integers, sums are :class:`ExactSum`, and the
photos of equal activations are in the order of their identities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.attr import Reference
from captum_neuroinspect.attr.reference import agreement_of_sum, directions, floored
from captum_neuroinspect.scale.exact_sum import ExactSum


class Partial(Protocol):
    """What joins with others of its kind."""

    def merged(self: _P, other: _P) -> _P: ...


_P = TypeVar("_P", bound=Partial)


def combined(partials: Iterable[_P]) -> _P:
    """All partial results as one.

    Raises:
        ValueError: when there is none.

    Examples::

        >>> parts = [PhotoMoments.of(torch.rand(4, 2), torch.rand(4, 3)) for _ in range(3)]
        >>> combined(parts).n
        12
    """
    remaining = iter(partials)
    first = next(remaining, None)
    if first is None:
        raise ValueError("there are no partial results, expected at least one")
    return reduce(lambda one, other: one.merged(other), remaining, first)


class _ByTensors:
    """Equal where all tensors are."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        mine, theirs = _tensors(self), _tensors(other)
        return all(torch.equal(mine[name], theirs[name]) for name in mine)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class ChangeTotals(_ByTensors):
    """What many counterfactual changes say of each neuron, added up.

    Attributes:
        more: sums of the positive changes, and
        less: of the sizes of the negative ones, each over ``F`` neurons.
        more_votes: ``(F,)`` int64 changes that have the neuron among their k largest, and
        less_votes: ``(F,)`` among their k most negative.
        n_voters: changes that count.
        n_right: samples without a change, which are right already.
        n_unfinished: samples whose change does not reach their class; in no sum.
        k: votes of each change in each direction.
    """

    more: ExactSum
    less: ExactSum
    more_votes: Tensor
    less_votes: Tensor
    n_voters: int
    n_right: int
    n_unfinished: int
    k: int

    @classmethod
    def of(cls, w: Tensor, k: int, unfinished: Tensor | None = None) -> ChangeTotals:
        """Count the changes ``(N, F)`` of some samples, N >= 0.

        Args:
            w: the changes.
            k: votes of each in each direction; equal sizes in the order of ``topk``, as in
                ``rank_neurons``.
            unfinished: ``(N,)`` which do not reach their class.

        Raises:
            ValueError: for another shape, values that are not finite, or a ``k`` outside 1..F.
        """
        if w.ndim != 2 or not 1 <= k <= w.shape[1]:
            raise ValueError(f"w {tuple(w.shape)} and k={k}, expected (N, F) and k in 1..F")
        if unfinished is None:
            unfinished = torch.zeros(len(w), dtype=torch.bool)
        changes = w[~unfinished]
        n_voters = int(changes.ne(0).any(1).sum())
        more, less = changes.clamp(min=0), -changes.clamp(max=0)
        return cls(
            ExactSum.of(more),
            ExactSum.of(less),
            _votes(more, k),
            _votes(less, k),
            n_voters,
            len(changes) - n_voters,
            len(w) - len(changes),
            k,
        )

    def merged(self, other: ChangeTotals) -> ChangeTotals:
        """Those of both sets of samples.

        Raises:
            ValueError: when they count other votes, or other neurons.
        """
        if self.k != other.k:
            raise ValueError(f"totals with k={self.k} and k={other.k} votes do not join")
        return ChangeTotals(
            self.more.merged(other.more),
            self.less.merged(other.less),
            self.more_votes + other.more_votes,
            self.less_votes + other.less_votes,
            self.n_voters + other.n_voters,
            self.n_right + other.n_right,
            self.n_unfinished + other.n_unfinished,
            self.k,
        )

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be kept."""
        return _tensors(self)

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> ChangeTotals:
        """Read :meth:`tensors`."""
        return cls(**_fields(cls, kept))


@dataclass(frozen=True, eq=False)
class ChangeDirections(_ByTensors):
    """How far many changes point the same way.

    Attributes:
        total: sums of the changes' directions, each of length 1, over ``F`` neurons.
        n: changes that are not zero.
    """

    total: ExactSum
    n: int

    @classmethod
    def of(cls, w: Tensor) -> ChangeDirections:
        """Those of changes ``(N, F)``.

        Raises:
            ValueError: for values that are not finite.

        Examples::

            >>> ChangeDirections.of(torch.tensor([[3.0, 0.0], [0.0, 2.0]])).agreement()
            0.0
        """
        pointing = directions(w)
        return cls(ExactSum.of(pointing), int(pointing.any(1).sum()))

    def merged(self, other: ChangeDirections) -> ChangeDirections:
        """Those of both sets of changes."""
        return ChangeDirections(self.total.merged(other.total), self.n + other.n)

    def agreement(self) -> float | None:
        """The mean cosine of two changes, at least 0; None for fewer than two changes."""
        return agreement_of_sum(self.total.value(), self.n)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be kept."""
        return _tensors(self)

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> ChangeDirections:
        """Read :meth:`tensors`."""
        return cls(**_fields(cls, kept))


@dataclass(frozen=True, eq=False)
class ClassTotals(_ByTensors):
    """Sums of the activations of samples that a model gets right, class by class.

    Attributes:
        sums: over ``(C, F)``, and
        squares: over ``(F,)``, of all classes.
        counts: ``(C,)`` int64 samples.
    """

    sums: ExactSum
    squares: ExactSum
    counts: Tensor

    @classmethod
    def of(cls, samples: FeatureSet) -> ClassTotals:
        """Those of the correct ones among some samples.

        Raises:
            ValueError: for multi-hot labels.
        """
        if samples.is_multi_hot:
            raise ValueError("samples have multi-hot labels, expected samples of one class each")
        right = samples.is_correct
        rows, labels = samples.features[right], samples.labels[right]
        return cls(
            ExactSum.of_groups(rows, labels, samples.n_classes),
            ExactSum.of(rows.double().square()),  # exact, of float32
            labels.bincount(minlength=samples.n_classes),
        )

    def merged(self, other: ClassTotals) -> ClassTotals:
        """Those of both sets of samples."""
        return ClassTotals(
            self.sums.merged(other.sums),
            self.squares.merged(other.squares),
            self.counts + other.counts,
        )

    def reference(self, effect: float | None = None) -> Reference:
        """Level and spread, as ``Reference.of`` measures them with less exact sums.

        Raises:
            ValueError: for fewer than two correct samples.

        Examples::

            >>> z = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
            >>> samples = FeatureSet(z, z, torch.tensor([0, 0, 1]))
            >>> ClassTotals.of(samples).reference().level
            tensor([[2., 0.],
                    [0., 2.]])
        """
        n = int(self.counts.sum())
        if n < 2:
            raise ValueError(f"reference has {n} correct sample(s), expected at least 2")
        sums = self.sums.value()
        total = sums.sum(0)
        level = sums / self.counts.clamp(min=1)[:, None]
        level[self.counts == 0] = total / n
        variance = (n * self.squares.value() - total.square()).clamp(min=0) / (n * (n - 1))
        return Reference(level.float(), floored(variance.sqrt().float()), effect)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be kept."""
        return _tensors(self)

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> ClassTotals:
        """Read :meth:`tensors`."""
        return cls(**_fields(cls, kept))


@dataclass(frozen=True, eq=False)
class TopActivations:
    """The photos on which each unit is most active: ties by the photo's identity.

    Attributes:
        values: ``(K, U)`` float32, largest first; -inf behind the last photo.
        photos: ``(K, U)`` identities; empty behind the last photo.
    """

    values: np.ndarray
    photos: np.ndarray

    @classmethod
    def of(cls, activations: Tensor, photos: Sequence[str], k: int) -> TopActivations:
        """Those of some photos.

        Args:
            activations: ``(N, U)``.
            photos: N identities, each different from all others of the data.
            k: how many are kept of each unit.

        Raises:
            ValueError: when lengths differ, an identity is empty or occurs twice, values are
                not finite, or ``k`` is below 1.

        Examples::

            >>> top = TopActivations.of(torch.tensor([[1.0], [3.0], [3.0]]), ["a", "c", "b"], 2)
            >>> top.photos[:, 0].tolist()
            ['b', 'c']
        """
        if activations.ndim != 2 or len(activations) != len(photos):
            raise ValueError(
                f"activations {tuple(activations.shape)} for {len(photos)} photos, expected (N, U)"
            )
        if k < 1:
            raise ValueError(f"k={k}, expected at least 1")
        if len(set(photos)) != len(photos) or "" in photos:
            raise ValueError("photos have an identity twice, or an empty one")
        if not bool(activations.isfinite().all()):
            raise ValueError("activations have NaN or infinity")
        order = sorted(range(len(photos)), key=lambda i: photos[i])
        rows = activations.detach().cpu().float().numpy()[order]
        names = np.array([photos[i] for i in order], dtype=object)
        best = np.argsort(-rows, axis=0, kind="stable")[:k]
        n_missing = ((0, k - len(best)), (0, 0))
        return cls(
            np.pad(np.take_along_axis(rows, best, 0), n_missing, constant_values=-np.inf),
            np.pad(names[best], n_missing, constant_values=""),
        )

    def merged(self, other: TopActivations) -> TopActivations:
        """Those of both sets of photos, which share none.

        Raises:
            ValueError: when they are of other units or another K.
        """
        if self.values.shape != other.values.shape:
            raise ValueError(f"top photos {self.values.shape} do not fit {other.values.shape}")
        values = np.concatenate([self.values, other.values])
        photos = np.concatenate([self.photos, other.photos])
        place = np.unique(photos.astype(str), return_inverse=True)[1]
        # The last key sorts first.
        order = np.lexsort((place.reshape(photos.shape), -values), axis=0)[: len(self.values)]
        return TopActivations(
            np.take_along_axis(values, order, 0), np.take_along_axis(photos, order, 0)
        )

    def of_unit(self, unit: int) -> list[tuple[str, float]]:
        """Photos and activations of one unit, the most active first."""
        return [
            (str(photo), float(value))
            for photo, value in zip(self.photos[:, unit], self.values[:, unit], strict=True)
            if photo
        ]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TopActivations)
            and np.array_equal(self.values, other.values)
            and np.array_equal(self.photos, other.photos)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class PhotoMoments(_ByTensors):
    """Sums over photos that correlate units with phrases.

    Activations ``a`` (N, U) and scores ``s`` (N, V) are float32, whose products are exact in
    float64: so are all the sums.

    Attributes:
        a: sums over ``(U,)``,
        a_squared: ``(U,)``,
        s: ``(V,)``,
        s_squared: ``(V,)``,
        a_s: ``(U, V)``.
        n: photos.
    """

    a: ExactSum
    a_squared: ExactSum
    s: ExactSum
    s_squared: ExactSum
    a_s: ExactSum
    n: int

    @classmethod
    def of(cls, activations: Tensor, scores: Tensor) -> PhotoMoments:
        """Those of some photos.

        Raises:
            TypeError: when either is not float32.
            ValueError: when the numbers of photos differ.
        """
        for name, one in (("activations", activations), ("scores", scores)):
            if one.dtype != torch.float32:
                raise TypeError(f"{name} have dtype {one.dtype}, expected float32")
        if activations.ndim != 2 or scores.ndim != 2 or len(activations) != len(scores):
            raise ValueError(
                f"activations {tuple(activations.shape)} and scores {tuple(scores.shape)}, "
                "expected (N, U) and (N, V)"
            )
        a, s = activations.double(), scores.double()
        return cls(
            ExactSum.of(a),
            ExactSum.of(a.square()),
            ExactSum.of(s),
            ExactSum.of(s.square()),
            ExactSum.of_products(activations, scores),
            len(a),
        )

    def merged(self, other: PhotoMoments) -> PhotoMoments:
        """Those of both sets of photos."""
        return PhotoMoments(
            self.a.merged(other.a),
            self.a_squared.merged(other.a_squared),
            self.s.merged(other.s),
            self.s_squared.merged(other.s_squared),
            self.a_s.merged(other.a_s),
            self.n + other.n,
        )

    def correlation(self) -> Tensor:
        """``(U, V)`` float64 Pearson correlation; NaN where a unit or a phrase never changes."""
        n = self.n
        a, s = self.a.value()[:, None], self.s.value()[None]
        covariance = n * self.a_s.value() - a * s
        spreads = [
            n * square.value() - total.square()
            for square, total in ((self.a_squared, a[:, 0]), (self.s_squared, s[0]))
        ]
        scale = (spreads[0][:, None] * spreads[1][None]).clamp(min=0).sqrt()
        return torch.where(scale > 0, (covariance / scale).clamp(-1, 1), torch.nan)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be kept."""
        return _tensors(self)

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> PhotoMoments:
        """Read :meth:`tensors`."""
        return cls(**_fields(cls, kept))


def _votes(size: Tensor, k: int) -> Tensor:
    """``(F,)`` how many changes have the neuron among their k largest; a zero is no vote."""
    if not len(size):
        return torch.zeros(size.shape[1], dtype=torch.int64)
    strongest = size.topk(k, dim=1)
    votes = torch.zeros(size.shape, dtype=torch.int64)
    return votes.scatter_(1, strongest.indices, (strongest.values > 0).long()).sum(0)


def _tensors(partial: Any) -> dict[str, Tensor]:
    found = {}
    for one in fields(partial):
        value = getattr(partial, one.name)
        if isinstance(value, ExactSum):
            found[f"{one.name}.lowest"] = torch.tensor(value.lowest)
            value = torch.from_numpy(value.limbs)
        found[one.name] = torch.as_tensor(value)
    return found


def _fields(kind: Any, kept: Mapping[str, Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in fields(kind):
        value = kept[one.name]
        if one.type == "ExactSum":  # annotations are texts here
            found[one.name] = ExactSum(value.numpy(), int(kept[f"{one.name}.lowest"]))
        else:
            found[one.name] = int(value) if one.type == "int" else value
    return found
