"""What the page needs that the data do not say outright: orders, shares, the script's block."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.inspection.report.report_data import (
    ClassResult,
    ConfusedPair,
    GroupResult,
    NeuronCard,
    NeuronWords,
    RankedNeuron,
    ReportData,
)

_N_PAIRS = 10
_MAX_ROWS = 1000  # classes; a browser is slow with tens of thousands
_MAX_MATRIX = 30  # classes; a larger matrix is a carpet
_OUTCOMES = ("broken", "corrected", "still wrong")
_KINDS = ("insufficient", "excessive", "both")


class Choice(NamedTuple):
    """An entry of a filter."""

    value: str
    name: str
    n_items: int


class Cell(NamedTuple):
    """An entry of the confusion matrix; ``share`` of the row's photos."""

    n_photos: int
    share: float
    is_right: bool


@dataclass(frozen=True)
class PageValues:
    """What the templates read beside the data.

    Attributes:
        classes: index and result, worst accuracy first, classes without photos last; of many
            classes the first thousand, and the inspected one.
        n_hidden: classes that are not among them.
        max_rows: of a table of classes.
        groups: worst accuracy first, of the inspected class if it has some in them.
        groups_cross: whether a group has photos of the inspected class and of others.
        pairs: the most frequent confusions.
        matrix: a row for each class; None when it would say nothing or too much.
        predicted: classes the mistakes are taken for, most frequent first.
        outcomes: what became of the photos that an edit changed, as far as they are shown.
        counts: the true number of each, "25 broken, 24 of 37 corrected".
        ranked: the ranking by neuron.
        words: by neuron.
        kinds: kinds that the cards have.
        sorts: orders that the cards have values for.
        block: what the script reads.
    """

    classes: list[tuple[int, ClassResult]]
    n_hidden: int
    max_rows: int
    groups: list[GroupResult]
    groups_cross: bool
    pairs: list[ConfusedPair]
    matrix: list[list[Cell]] | None
    predicted: list[Choice]
    outcomes: list[Choice]
    counts: str
    ranked: dict[int, RankedNeuron]
    words: dict[int, NeuronWords]
    kinds: list[str]
    sorts: list[tuple[str, str]]
    block: dict[str, Any]


def page_values_of(data: ReportData) -> PageValues:
    """Work it out."""
    ranked = {row.neuron: row for row in data.ranking}
    words = {one.neuron: one for one in data.words}
    entries = [
        _entry(data, card, ranked.get(card.neuron), words.get(card.neuron)) for card in data.neurons
    ]
    classes = _classes(data)
    return PageValues(
        classes=classes,
        n_hidden=len(data.classes) - len(classes),
        max_rows=_MAX_ROWS,
        groups=sorted(data.groups, key=_worst_group_first)[:_MAX_ROWS],
        groups_cross=any(0 < group.n_of_class < group.n_photos for group in data.groups),
        pairs=sorted(data.confusions, key=lambda pair: -pair.n_photos)[:_N_PAIRS],
        matrix=_matrix(data),
        predicted=_predicted(data),
        outcomes=_outcomes(data),
        counts=_counts(data),
        ranked=ranked,
        words=words,
        kinds=[kind for kind in _KINDS if any(entry["kind"] == kind for entry in entries)],
        sorts=_sorts(entries),
        block={
            "run": data.run,
            "target": data.target,
            "report": data.digest or _digest(data),
            "neurons": entries,
            "command": list(data.command),
            "words": _words_block(data),
            "ranks": {row.neuron: f"{row.kind}, rank {row.rank}" for row in data.ranking},
        },
    )


def _digest(data: ReportData) -> str:
    """A name of what the page is about, without its edit: ticks outlive one."""
    record = [
        [asdict(result) for result in data.classes],
        [(m.file, m.label, m.predicted) for m in data.mistakes],
        [(row.neuron, row.kind, row.n_mistakes) for row in data.ranking],
    ]
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]


def _classes(data: ReportData) -> list[tuple[int, ClassResult]]:
    ordered = sorted(enumerate(data.classes), key=_worst_first)
    return [
        item for place, item in enumerate(ordered) if place < _MAX_ROWS or item[0] == data.target
    ]


def _worst_first(item: tuple[int, ClassResult]) -> tuple[float, int]:
    index, result = item
    return (2.0 if result.accuracy is None else result.accuracy, index)


def _worst_group_first(group: GroupResult) -> tuple[float, float]:
    of_class = group.class_accuracy
    return 2.0 if of_class is None else of_class, group.accuracy


def _matrix(data: ReportData) -> list[list[Cell]] | None:
    n = len(data.classes)
    if n > _MAX_MATRIX or not data.confusions:
        return None
    counts = [[0] * n for _ in range(n)]
    for pair in data.confusions:
        counts[pair.label][pair.predicted] += pair.n_photos
    for i, result in enumerate(data.classes):
        counts[i][i] = result.n_correct
    return [
        [
            Cell(count, count / max(1, result.n_photos), row == column)
            for column, count in enumerate(counts[row])
        ]
        for row, result in enumerate(data.classes)
    ]


def _predicted(data: ReportData) -> list[Choice]:
    counts = Counter(mistake.predicted for mistake in data.mistakes)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Choice(str(i), data.classes[i].name, n) for i, n in ordered]


def _outcomes(data: ReportData) -> list[Choice]:
    photos = data.edit.photos if data.edit else ()
    counts = Counter[str](photo.outcome for photo in photos)
    return [Choice(name, name, counts[name]) for name in _OUTCOMES if counts.get(name)]


def _counts(data: ReportData) -> str:
    """How many photos changed sides; where not all of them are shown, how many are."""
    if data.edit is None:
        return ""
    shown = Counter[str](photo.outcome for photo in data.edit.photos)
    all_of = (data.edit.n_broken, data.edit.n_corrected, data.edit.n_still_wrong)
    texts = []
    for name, n_all in zip(_OUTCOMES, all_of, strict=True):
        n_shown = shown[name]
        n = n_shown if n_all is None else n_all
        texts.append(f"{n:,} {name}" if n == n_shown else f"{n:,} {name}, showing {n_shown:,}")
    return "; ".join(texts)


def _words_block(data: ReportData) -> dict[str, Any]:
    """What the search reads: each phrase once, as thousands of neurons share them.

    A unit is its neuron, whether its first phrase is certain, and pairs of phrase and score.
    """
    numbers: dict[str, int] = {}
    units = [
        [
            one.neuron,
            int(one.is_certain),
            [[numbers.setdefault(p.text, len(numbers)), round(p.score, 3)] for p in one.phrases],
        ]
        for one in data.words
        if one.phrases
    ]
    return {"phrases": [shown(phrase) for phrase in numbers], "units": units}


def _entry(
    data: ReportData, card: NeuronCard, row: RankedNeuron | None, words: NeuronWords | None
) -> dict[str, Any]:
    return {
        "neuron": card.neuron,
        "kind": row and row.kind,
        "score": row and row.score,
        "precision": row and row.precision,
        "core": card.core_relevance,
        "text": _search_text(data, card, row, words),
    }


def _search_text(
    data: ReportData, card: NeuronCard, row: RankedNeuron | None, words: NeuronWords | None
) -> str:
    classes = [picture.class_index for picture in card.illusions]
    classes += [photo.label for photo in card.top_photos]
    texts = [f"neuron {card.neuron}", row.kind if row else ""]
    texts += [phrase.text for phrase in words.phrases] if words else []
    texts += [photo.file for photo in card.top_photos]
    texts += [photo.file for photo in card.saliency]
    texts += [data.classes[i].name for i in dict.fromkeys(classes)]
    return "\n".join(texts).lower()


def _sorts(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    orders = (("score", "score"), ("precision", "precision"), ("core", "core relevance, low first"))
    known = [
        (key, name) for key, name in orders if any(entry[key] is not None for entry in entries)
    ]
    return [("given", "as ranked"), *known, ("neuron", "neuron number")]
