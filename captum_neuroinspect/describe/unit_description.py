"""What photos say of a unit: phrases, and the evidence for them on photos that did not choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.texts import shown

if TYPE_CHECKING:
    from captum_neuroinspect.describe.ablation import AblationEffect
    from captum_neuroinspect.describe.senses import Sense


@dataclass(frozen=True)
class UnitDescription:
    """The phrases that go with one unit; the first five tuples run in parallel.

    Attributes:
        unit: its number.
        phrases: best first; none for a unit that says nothing (see ``note``).
        scores: by which they were chosen, in -1..1: the correlation with the unit's squared
            activation, on the photos that choose.
        correlations: the same on the photos that were held out.
        average_precisions: area under precision and recall in 0..1, held out, of finding the photos
            that show the concept by the unit's activation.
        chances: what a unit that tells nothing reaches there: the share of these photos.
        could_be: phrases that came first on resampled photos, together nine times of ten; the
            more there are, the less the first is certain.
        combination: signed phrases that together go with the unit best; ``(1, "grass")`` is its
            part, ``(-1, "sky")`` is what must be missing.
        combination_correlation: their correlation with the unit, held out.
        is_certain: whether the first phrase stands, see :func:`describe_units`.
        note: why there are no phrases, or that the unit equals another; else empty.
        areas: area under the ROC curve in 0..1, held out, a number a phrase as
            ``average_precisions``; chance is 0.5. It is beside the others for comparison with
            published numbers: it hardly notices missing labels.
        senses: what its most active photos fall into, when there is more than one thing
            (:func:`find_senses`).
        ablation: which classes lose probability without it (:func:`ablation_effects`), or ``None``.
    """

    unit: int
    phrases: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    correlations: tuple[float, ...] = ()
    average_precisions: tuple[float, ...] = ()
    chances: tuple[float, ...] = ()
    could_be: tuple[str, ...] = ()
    combination: tuple[tuple[int, str], ...] = ()
    combination_correlation: float = 0.0
    is_certain: bool = False
    note: str = ""
    areas: tuple[float, ...] = ()
    senses: tuple[Sense, ...] = ()
    ablation: AblationEffect | None = None

    def __str__(self) -> str:
        return f"unit {self.unit}: {self.text()}"

    def text(self) -> str:
        """The phrases with their held-out correlations, and what is to be known of them.

        Examples::

            >>> UnitDescription(3, ("grass",), (0.5,), (0.48,)).text()
            'uncertain: grass (0.48)'
        """
        pairs = zip(self.phrases, self.correlations, strict=True)
        words = ", ".join(f"{shown(phrase)} ({value:.2f})" for phrase, value in pairs)
        if not words:
            return self.note
        note = f" ({self.note})" if self.note else ""
        return f"{'' if self.is_certain else 'uncertain: '}{words}{note}"

    def formula(self) -> str:
        """The combination in one line.

        Examples::

            >>> UnitDescription(3, combination=((1, "grass"), (-1, "sky"))).formula()
            'grass - sky'
        """
        terms = [f"{'+' if sign > 0 else '-'} {shown(phrase)}" for sign, phrase in self.combination]
        return " ".join(terms).removeprefix("+ ")


class UnitDescriptions(list[UnitDescription]):
    """Descriptions of several units, in their order.

    Examples::

        >>> found = UnitDescriptions([UnitDescription(7, note="the same on all photos")])
        >>> found.of(7).text()
        'the same on all photos'
    """

    def of(self, unit: int) -> UnitDescription:
        """The description of one unit.

        Raises:
            KeyError: when the unit was not described.
        """
        for description in self:
            if description.unit == unit:
                return description
        raise KeyError(f"unit={unit} was not described, expected one of {[d.unit for d in self]}")

    def find(self, phrase: str) -> UnitDescriptions:
        """Units of which a phrase is said, largest correlation first; capitals do not count.

        Args:
            phrase: a whole phrase or a part of one.
        """
        wanted = phrase.casefold()
        found = [
            (max(hits), description)
            for description in self
            if (
                hits := [
                    value
                    for said, value in zip(
                        description.phrases, description.correlations, strict=True
                    )
                    if wanted in said.casefold()
                ]
            )
        ]
        return UnitDescriptions(d for _, d in sorted(found, key=lambda pair: -pair[0]))

    def rows(self) -> list[dict[str, str | int | float | bool]]:
        """One dictionary a unit and phrase, ready for ``pandas.DataFrame``."""
        return [
            {
                "unit": d.unit,
                "rank": rank,
                "phrase": phrase,
                "score": d.scores[rank - 1],
                "correlation": d.correlations[rank - 1],
                "average_precision": d.average_precisions[rank - 1],
                "chance": d.chances[rank - 1],
                "is_certain": d.is_certain and rank == 1,
            }
            for d in self
            for rank, phrase in enumerate(d.phrases, start=1)
        ]

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_html_(self) -> str:
        columns = ["unit", "phrases (correlation, held out)", "could also be", "together"]
        return html_table(
            columns,
            [(d.unit, d.text(), ", ".join(map(shown, d.could_be[1:])), d.formula()) for d in self],
        )
