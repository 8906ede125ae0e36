"""What is said of a unit: phrases, the evidence for them, and what that rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.describe.ablation_effect import AblationEffect
from captum_neuroinspect.describe.sense import Sense

_MANY = 20  # units that an error does not list


@dataclass(frozen=True)
class UnitDescription:
    """The phrases that go with one unit.

    ``phrases`` and ``scores`` run in parallel, and so do the three tuples after them, which are
    empty where no photos were held out: words from pictures alone have no evidence.

    Attributes:
        unit: its number.
        phrases: best first; none for a unit that says nothing (see ``note``).
        scores: by which they were chosen, in -1..1: the correlation with the unit's squared
            activation, on the photos that choose; from pictures alone a difference of cosines.
        correlations: the correlation on the photos that were held out.
        average_precisions: area under precision and recall in 0..1, held out, of finding the photos
            that show the concept by the unit's activation.
        chances: what a unit that tells nothing reaches there: the share of these photos.
        could_be: phrases that came first on resampled photos, together nine times of ten; the
            more there are, the less the first is certain.
        combination: signed phrases that together go with the unit best; ``(1, "grass")`` is its
            part, ``(-1, "sky")`` is what must be missing.
        combination_correlation: their correlation with the unit, held out.
        is_certain: whether the first phrase stands, see :func:`describe_units`. Never from
            pictures alone.
        note: why there are no phrases, or that the unit equals another; else empty.
        n_images: photos, or pictures of the unit, that the description rests on.
        n_held_out: how many of them judged and did not choose.
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
    n_images: int = 0
    n_held_out: int = 0
    areas: tuple[float, ...] = ()
    senses: tuple[Sense, ...] = ()
    ablation: AblationEffect | None = None

    def __str__(self) -> str:
        return f"unit {self.unit}: {self.text()}"

    def text(self) -> str:
        """The phrases with their held-out correlations, and what is to be known of them.

        Where nothing was held out, the scores stand in their place.

        Examples::

            >>> UnitDescription(3, ("grass",), (0.5,), (0.48,)).text()
            'uncertain: grass (0.48)'
            >>> UnitDescription(3, ("grass",), (0.5,), n_images=9).text()
            'uncertain: grass (0.50) (9 pictures, no held-out photos)'
        """
        pairs = zip(self.phrases, self.correlations or self.scores, strict=True)
        words = ", ".join(f"{shown(phrase)} ({value:.2f})" for phrase, value in pairs)
        if not words:
            return self.note
        remarks = [self.note] if self.note else []
        if not self.correlations and self.n_images:
            remarks.append(self.rests_on)
        said = "".join(f" ({remark})" for remark in remarks)
        return f"{'' if self.is_certain else 'uncertain: '}{words}{said}"

    @property
    def rests_on(self) -> str:
        """What the description rests on.

        Examples::

            >>> UnitDescription(3, n_images=400, n_held_out=200).rests_on
            '400 photos, 200 of them held out'
        """
        if self.n_held_out:
            return f"{self.n_images:,} photos, {self.n_held_out:,} of them held out"
        plural = "" if self.n_images == 1 else "s"
        return f"{self.n_images:,} picture{plural}, no held-out photos"

    def formula(self) -> str:
        """The combination in one line.

        Examples::

            >>> UnitDescription(3, combination=((1, "grass"), (-1, "sky"))).formula()
            'grass - sky'
        """
        terms = [f"{'+' if sign > 0 else '-'} {shown(phrase)}" for sign, phrase in self.combination]
        return " ".join(terms).removeprefix("+ ")


class Descriptions(list[UnitDescription]):
    """Descriptions of several units, in their order.

    Args:
        descriptions: one a unit.
        rests_on: the photos and the concepts that they all rest on, in one line for people.

    Examples::

        >>> found = Descriptions([UnitDescription(7, note="the same on all photos")])
        >>> found.of(7).text()
        'the same on all photos'
    """

    def __init__(self, descriptions: Iterable[UnitDescription] = (), rests_on: str = "") -> None:
        super().__init__(descriptions)
        self.rests_on = rests_on

    def of(self, unit: int) -> UnitDescription:
        """The description of one unit.

        Raises:
            KeyError: when the unit was not described.
        """
        for description in self:
            if description.unit == unit:
                return description
        units = [d.unit for d in self]
        known = f"{len(units):,} others" if len(units) > _MANY else f"one of {units}"
        raise KeyError(f"unit={unit} was not described, expected {known}")

    def only(self, units: Iterable[int]) -> Descriptions:
        """Those of some units, in the order in which these are given.

        Raises:
            KeyError: when one of them was not described.
        """
        number2one = {one.unit: one for one in self}
        found = (number2one.get(unit) or self.of(unit) for unit in units)
        return Descriptions(found, self.rests_on)

    def find(self, phrase: str) -> Descriptions:
        """Units of which a phrase is said, largest correlation first; capitals do not count.

        For phrases that nothing says yet, see :func:`find_units`.

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
                        description.phrases,
                        description.correlations or description.scores,
                        strict=True,
                    )
                    if wanted in said.casefold()
                ]
            )
        ]
        ordered = sorted(found, key=lambda pair: -pair[0])
        return Descriptions((d for _, d in ordered), self.rests_on)

    def rows(self) -> list[dict[str, str | int | float | bool | None]]:
        """One dictionary a unit and phrase, ready for ``pandas.DataFrame``."""
        return [
            {
                "unit": d.unit,
                "rank": rank,
                "phrase": phrase,
                "score": d.scores[rank - 1],
                "correlation": _at(d.correlations, rank),
                "average_precision": _at(d.average_precisions, rank),
                "chance": _at(d.chances, rank),
                "area": _at(d.areas, rank),
                "is_certain": d.is_certain and rank == 1,
                "n_images": d.n_images,
                "n_held_out": d.n_held_out,
            }
            for d in self
            for rank, phrase in enumerate(d.phrases, start=1)
        ]

    def cosy_rows(self, layer: str) -> list[dict[str, str | int | float | bool | None]]:
        """One dictionary a unit that has a phrase: its first, with the evidence.

        ``layer``, ``unit``, ``description`` and ``similarity`` are the columns in which CoSy (Kopf
        et al. 2024) reads explanations, as CLIP-Dissect writes them; the others are ours.

        Args:
            layer: name that the units' layer has there.
        """
        return [
            {
                "layer": layer,
                "unit": d.unit,
                "description": d.phrases[0],
                "similarity": d.scores[0],
                "is_certain": d.is_certain,
                "correlation": _at(d.correlations, 1),
                "average_precision": _at(d.average_precisions, 1),
                "chance": _at(d.chances, 1),
                "area": _at(d.areas, 1),
                "could_be": "; ".join(d.could_be),
                "n_images": d.n_images,
                "n_held_out": d.n_held_out,
            }
            for d in self
            if d.phrases
        ]

    def __str__(self) -> str:
        lines = list(map(str, self))
        return "\n".join([*lines, shown(f"rests on {self.rests_on}")] if self.rests_on else lines)

    def _repr_html_(self) -> str:
        columns = ["unit", "phrases (correlation, held out)", "could also be", "together"]
        cells = (
            (d.unit, d.text(), ", ".join(map(shown, d.could_be[1:])), d.formula()) for d in self
        )
        return html_table(columns, cells, f"rests on {self.rests_on}" if self.rests_on else "")


def _at(values: tuple[float, ...], rank: int) -> float | None:
    return values[rank - 1] if values else None
