"""Where a model is wrong: its worst classes, and which classes it confuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.shares import share_with_interval
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.texts import shown

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["ClassErrors", "Confusion", "Confusions", "WorstClasses", "confusions", "worst_classes"]


@dataclass(frozen=True)
class ClassErrors:
    """The accuracy of a model on the samples of one class.

    Attributes:
        index: the class.
        name: its name.
        n_samples: how many there are, at least 1.
        n_wrong: how many of them are taken for something else.
    """

    index: int
    name: str
    n_samples: int
    n_wrong: int

    @property
    def accuracy(self) -> float:
        """Share of right predictions, 0..1."""
        return 1 - self.n_wrong / self.n_samples

    def cells(self) -> tuple[str, ...]:
        share = share_with_interval(self.n_samples - self.n_wrong, self.n_samples)
        return self.name, str(self.n_samples), str(self.n_wrong), share


@dataclass(frozen=True)
class Confusion:
    """How many samples of one class are taken for another.

    Attributes:
        label: the right class.
        predicted: another class.
        label_name: name of the right class.
        predicted_name: name of the other.
        n_samples: how many, at least 1.
        share: of the samples of the right class, 0..1.
        n_of_class: samples of the right class.
    """

    label: int
    predicted: int
    label_name: str
    predicted_name: str
    n_samples: int
    share: float
    n_of_class: int

    def cells(self) -> tuple[str, ...]:
        share = share_with_interval(self.n_samples, self.n_of_class)
        return self.label_name, self.predicted_name, str(self.n_samples), share


T = TypeVar("T", ClassErrors, Confusion)


class _Table(Sequence[T], Generic[T]):
    """Rows that print as a table, also in a notebook."""

    _columns: tuple[str, ...] = ()
    _caption = ""

    def __init__(self, rows: Sequence[T]) -> None:
        self._rows: tuple[T, ...] = tuple(rows)

    @overload
    def __getitem__(self, which: int) -> T: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[T]: ...
    def __getitem__(self, which: int | slice) -> T | Sequence[T]:
        return self._rows[which] if isinstance(which, int) else type(self)(self._rows[which])

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> list[dict[str, object]]:
        """One dictionary a row, ready for ``pandas.DataFrame``."""
        return [vars(row).copy() for row in self._rows]

    def __repr__(self) -> str:
        lines = [self._columns, *(tuple(map(shown, row.cells())) for row in self._rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        return html_table(self._columns, (row.cells() for row in self._rows), self._caption)


class WorstClasses(_Table[ClassErrors]):
    """Classes with their accuracy, the worst first."""

    _columns = ("class", "photos", "wrong", "accuracy")
    _caption = "Worst classes"


class Confusions(_Table[Confusion]):
    """Pairs of classes that are confused, the most frequent first."""

    _columns = ("photos of", "taken for", "number", "share of class")
    _caption = "Confusions"


def worst_classes(features: FeatureSet, n: int | None = 10) -> WorstClasses:
    """The classes with the lowest accuracy; classes without samples are left out.

    Args:
        features: with one class a sample.
        n: how many; ``None``: all.

    Returns:
        The lowest accuracy first; of equal ones that with more mistakes, then the earlier. In
        print, a share of fewer than 20 samples stands as a count with its 95 % interval.

    Raises:
        ValueError: for multi-hot labels or ``n`` below 1.

    Examples::

        >>> import torch
        >>> logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> worst_classes(FeatureSet(logits, logits, torch.tensor([0, 1, 1])))
        class    photos  wrong  accuracy
        class 1  2       1      1 of 2 (95 %: 0.09 to 0.91)
        class 0  1       0      1 of 1 (95 %: 0.21 to 1.00)
    """
    _check(n)
    table = features.confusion()
    counts = zip(table.sum(axis=1).tolist(), table.diagonal().tolist(), strict=True)
    rows = [
        ClassErrors(i, features.class_name(i), total, total - right)
        for i, (total, right) in enumerate(counts)
        if total
    ]
    return WorstClasses(sorted(rows, key=lambda row: (row.accuracy, -row.n_wrong))[:n])


def confusions(
    features: FeatureSet, n: int | None = 10, *, target: int | None = None
) -> Confusions:
    """Which class is taken for which other one.

    Args:
        features: with one class a sample.
        n: how many pairs; ``None``: all.
        target: only the samples of this class.

    Raises:
        ValueError: for multi-hot labels, a class out of range, or ``n`` below 1.

    Examples::

        >>> import torch
        >>> logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> confusions(FeatureSet(logits, logits, torch.tensor([0, 1, 1])))
        photos of  taken for  number  share of class
        class 1    class 0    1       1 of 2 (95 %: 0.09 to 0.91)
    """
    _check(n)
    if target is not None:
        features.of_class(target)  # refuses what is out of range
    table = features.confusion()
    totals, name = table.sum(axis=1).tolist(), features.class_name
    rows = [
        Confusion(i, j, name(i), name(j), count, count / totals[i], totals[i])
        for i, j, count in counted_pairs(table)
        if i != j and target in (None, i)
    ]
    return Confusions(sorted(rows, key=lambda row: (-row.n_samples, -row.share))[:n])


def counted_pairs(table: csr_array) -> Iterator[tuple[int, int, int]]:
    """Row, column and number of each entry of a table of counts that is not 0, row by row."""
    pairs = table.tocoo()
    yield from zip(pairs.row.tolist(), pairs.col.tolist(), pairs.data.tolist(), strict=True)


def _check(n: int | None) -> None:
    if n is not None and n < 1:
        raise ValueError(f"n={n}, expected at least 1, or None for all")
