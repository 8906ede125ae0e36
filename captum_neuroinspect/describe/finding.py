"""Which units answer to a concept: the search from words to units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from captum_neuroinspect._core.checks import check_seed
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.describe.agreement import (
    average_precision,
    in_float32,
    most_active,
    standardised,
    strengths,
)
from captum_neuroinspect.describe.units import (
    check_given,
    checked_activations,
    checked_groups,
    unit_numbers,
)

_UNITS_AT_A_TIME = 256
_N_SHUFFLES = 200
_CHANCE = 0.05
_TOP_SHARE = 0.05
_SHOWN = 20  # units in print


@dataclass(frozen=True)
class FoundUnit:
    """How a unit answers to a concept.

    Attributes:
        unit: its number.
        correlation: of the concept's score with the unit's squared activation, on all photos.
        average_precision: of finding the photos that show the concept by the unit's activation.
        chance: what a unit that tells nothing reaches there: the share of these photos.
        is_beyond_chance: whether the correlation is above what the best of all units reaches in
            19 of 20 cases when the concept's photos are shuffled.
    """

    unit: int
    correlation: float
    average_precision: float
    chance: float
    is_beyond_chance: bool


Found = TypeVar("Found", bound=FoundUnit)


class FoundUnits(list[Found], Generic[Found]):
    """Units that a concept was looked for in, best first.

    Args:
        found: one a unit.
        phrase: the concept.
        rests_on: photos, and who scored them, in one line for people.
    """

    def __init__(self, found: Iterable[Found] = (), phrase: str = "", rests_on: str = "") -> None:
        super().__init__(found)
        self.phrase, self.rests_on = phrase, rests_on

    @property
    def units(self) -> tuple[int, ...]:
        return tuple(one.unit for one in self)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a unit, ready for ``pandas.DataFrame``."""
        return [asdict(one) for one in self]

    def __str__(self) -> str:
        n_beyond = sum(one.is_beyond_chance for one in self)
        lines = [shown(f"{self.phrase!r}: {n_beyond} of {len(self)} units beyond chance")]
        lines += _table(self[:_SHOWN])
        return "\n".join([*lines, shown(f"rests on {self.rests_on}")] if self.rests_on else lines)

    def _repr_html_(self) -> str:
        columns, *rows = _cells(self[:_SHOWN]) or [["unit"]]
        caption = ", ".join(text for text in (repr(self.phrase), self.rests_on) if text)
        return html_table(columns, rows, caption)


@undisturbed()
def find_units(
    activations: Tensor,
    scores: Tensor,
    phrase: str = "",
    *,
    units: Sequence[int] | None = None,
    together: Sequence[int] | Tensor | None = None,
    seed: int = 0,
) -> FoundUnits[FoundUnit]:
    """Order units by how they answer to one concept.

    All photos judge, as the concept was not chosen by them.

    Args:
        activations: ``(N, K)`` of K units on N photos.
        scores: ``(N,)`` how much each photo shows the concept, such as ``concepts.of("text")``.
        phrase: names it in print.
        units: the K units' numbers; ``None``: 0 to K - 1.
        together: ``(N,)`` whole numbers, the same for photos that belong together, such as crops
            of one photo: they change places with groups of the same size. Not told of them, chance
            is far too low.
        seed: shuffles photos, for chance.

    Returns:
        All units, the largest correlation first.

    Raises:
        TypeError: for values that are no numbers, or units, groups or a seed that are no whole
            numbers.
        ValueError: for shapes that do not fit, fewer than 20 photos or groups of them, values that
            are not finite, or a concept that is the same on all photos.

    Examples::

        >>> text = torch.rand(100, generator=torch.Generator().manual_seed(0))
        >>> noise = torch.rand(100, generator=torch.Generator().manual_seed(1))
        >>> found = find_units(torch.stack([noise, text], 1), text, "text")
        >>> found.units, [one.is_beyond_chance for one in found]
        ((1, 0), [True, False])
    """
    check_seed("seed", seed)
    check_given(activations, None, units, together)
    values = checked_activations(activations)
    numbers = unit_numbers(units, values)
    concept = _checked_scores(scores, len(values))
    rng = torch.Generator().manual_seed(seed)
    column = standardised(concept[:, None])[:, 0]
    groups = checked_groups(together, len(values))
    columns = torch.stack(
        [column, *(_shuffled(column, groups, rng) for _ in range(_N_SHUFFLES))], 1
    )
    agreement = torch.cat(
        [strengths(part).T @ columns for part in values.split(_UNITS_AT_A_TIME, dim=1)]
    ) / len(values)
    limit = float(agreement[:, 1:].amax(0).quantile(1 - _CHANCE))
    shows = most_active(concept[:, None], _TOP_SHARE)
    order = agreement[:, 0].sort(descending=True, stable=True).indices
    precisions = average_precision(shows.expand(-1, len(order)), values[:, order]).tolist()
    chance = float(shows.float().mean())
    found = [
        FoundUnit(
            numbers[k], float(agreement[k, 0]), precision, chance, bool(agreement[k, 0] > limit)
        )
        for k, precision in zip(order.tolist(), precisions, strict=True)
    ]
    return FoundUnits(found, phrase, f"{len(values):,} photos")


def _shuffled(column: Tensor, groups: Tensor, rng: torch.Generator) -> Tensor:
    """``(N,)`` the concept of other photos: whole groups change places with others of their size.

    A group of a size that no other has stays, which makes chance too high rather than too low.
    """
    sizes = groups.bincount()
    taken_from = torch.arange(len(sizes))
    for size in sizes.unique():
        mine = (sizes == size).nonzero()[:, 0]
        taken_from[mine] = mine[torch.randperm(len(mine), generator=rng)]
    rows = groups.argsort(stable=True)
    starts = sizes.cumsum(0) - sizes
    inside = torch.arange(len(rows)) - starts.repeat_interleave(sizes)
    shuffled = torch.empty_like(column)
    shuffled[rows] = column[rows[starts[taken_from].repeat_interleave(sizes) + inside]]
    return shuffled


def _checked_scores(scores: Tensor, n_photos: int) -> Tensor:
    if not isinstance(scores, Tensor):
        raise TypeError(f"scores is a {type(scores).__name__}, expected a tensor (N,)")
    if scores.ndim != 1 or len(scores) != n_photos:
        raise ValueError(
            f"scores has shape {tuple(scores.shape)}, expected ({n_photos},): one a photo of "
            "activations"
        )
    if scores.is_complex():
        raise TypeError(f"scores holds {scores.dtype}, expected real numbers")
    if not bool(scores.isfinite().all()):
        raise ValueError("scores has NaN or infinite values")
    concept = in_float32(scores.detach().cpu()[:, None])[:, 0]
    if bool((concept == concept[0]).all()):
        raise ValueError("scores are the same on all photos, so they tell no unit from another")
    return concept


def _cells(found: Sequence[FoundUnit]) -> list[list[str]]:
    """Names of the fields and a row a unit, without fields that none of them has.

    Those of a subclass come last; without a run nothing is blamed, for example.
    """
    rows = [asdict(one) for one in found]
    names = [name for name in (rows[0] if rows else ()) if any(r[name] is not None for r in rows)]
    cells = [[_cell(row[name]) for name in names] for row in rows]
    return [[name.replace("_", " ").removeprefix("is ") for name in names], *cells] if rows else []


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _table(found: Sequence[FoundUnit]) -> list[str]:
    """Lines of equal columns, for print."""
    cells = [[shown(cell) for cell in row] for row in _cells(found)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
