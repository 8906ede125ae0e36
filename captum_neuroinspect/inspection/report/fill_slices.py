"""The slices of a report: mistakes by their causes, each with its photos and neurons."""

from __future__ import annotations

from collections.abc import Iterator

from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.inspection.data.parts import PhotoSet
from captum_neuroinspect.inspection.report.fill_mistakes import mistake_photos, ranked_neurons
from captum_neuroinspect.inspection.report.report_data import MistakeSlice

_N_PHOTOS = 12
_N_RANKED = 10  # lines of a slice's ranking


def slices_of(part: PhotoSet, found: Explanation, with_card: set[int]) -> tuple[MistakeSlice, ...]:
    """One a slice; none where the mistakes are in one.

    Args:
        part: the photos.
        found: of the mistakes.
        with_card: neurons that the report has a card of.
    """
    parts = found.of_slices()
    return tuple(_slices(part, parts, with_card)) if len(parts) > 1 else ()


def _slices(
    part: PhotoSet, parts: tuple[Explanation, ...], with_card: set[int]
) -> Iterator[MistakeSlice]:
    firsts = [set(one.neurons(_N_RANKED)) for one in parts]
    for place, one in enumerate(parts):
        others = set().union(*firsts[:place], *firsts[place + 1 :])
        yield MistakeSlice(
            sentence=_sentence(one, len(firsts[place] & others)),
            n_mistakes=len(one.mistakes),
            mistakes=tuple(mistake_photos(part, one.mistakes, most=_N_PHOTOS)),
            ranking=tuple(ranked_neurons(one, with_card, _N_RANKED)),
        )


def _sentence(found: Explanation, n_shared: int) -> str:
    """What most of these were taken for, the first neuron, and whether other slices have it."""
    n, name = len(found.mistakes), found.mistakes.class_name
    n_confused = int((found.mistakes.predictions == found.confused).sum())
    verb = "is" if n_confused == 1 else "are"
    words = f"{n_confused} of {n} {verb} taken for \u201c{name(found.confused)}\u201d."
    neurons = found.neurons(_N_RANKED)
    if not neurons:
        return words
    kinds = {int(row["neuron"]): str(row["kind"]) for row in found.rows()}
    how = {"insufficient": "not active enough", "excessive": "too active"}
    said = how.get(kinds[neurons[0]], "too active in some and not active enough in others")
    shared = "none" if not n_shared else str(n_shared)
    return (
        f"{words} Neuron {neurons[0]} is {said}. Of the first {len(neurons)} neurons {shared} "
        f"{'are' if n_shared != 1 else 'is'} among the first of another slice."
    )
