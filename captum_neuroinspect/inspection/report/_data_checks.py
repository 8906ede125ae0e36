"""What must hold for report data, checked before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from captum_neuroinspect.inspection.report.report_data import (
    Mistake,
    NeuronCard,
    NeuronWords,
    RankedNeuron,
    ReportData,
)


def check_data(data: ReportData) -> None:
    """Refuse what would make a wrong or broken page.

    Raises:
        ValueError: for no classes, a class index outside of them, counts that
            contradict each other, a neuron twice, or a probability outside 0..1.
    """
    if not data.classes:
        raise ValueError("`classes` is empty, expected every class of the model")
    _check_counts(data)
    _check_unique("ranking", (row.neuron for row in data.ranking))
    for place, one in enumerate(data.slices, start=1):
        _check_unique(f"ranking of slice {place}", (row.neuron for row in one.ranking))
        if one.n_mistakes < max(1, len(one.mistakes)):
            raise ValueError(
                f"slice {place} has {one.n_mistakes} mistakes and {len(one.mistakes)} photos of "
                "them, expected at least one mistake and no more photos"
            )
    _check_unique("neurons", (card.neuron for card in data.neurons))
    _check_unique("words", (words.neuron for words in data.words))
    for where, index in _class_indices(data):
        if not 0 <= index < len(data.classes):
            raise ValueError(
                f"{where} is class {index}, expected an index below {len(data.classes)}"
            )
    for where, share in _shares(data):
        # NaN fails this comparison too.
        if not 0 <= share <= 1:
            raise ValueError(f"{where}={share}, expected a share in 0..1")
    for where, number in (*_numbers(data), *_changes(data)):
        if not math.isfinite(number):
            raise ValueError(f"{where}={number}, expected a finite number (or None)")


def _check_counts(data: ReportData) -> None:
    wrong = [0] * len(data.classes)
    for pair in data.confusions:
        if pair.label == pair.predicted or pair.n_photos < 1:
            raise ValueError(f"{pair}: expected two different classes and at least one photo")
        if 0 <= pair.label < len(wrong):
            wrong[pair.label] += pair.n_photos
    for group in data.groups:
        right, rest = group.n_correct_of_class, group.n_photos - group.n_of_class
        if not (0 <= right <= group.n_of_class and 0 <= group.n_correct - right <= rest):
            raise ValueError(f"{group}: expected no more right photos than photos")
        if not group.n_photos:
            raise ValueError(f"{group}: expected at least one photo")
    for result, n_wrong in zip(data.classes, wrong, strict=True):
        if not 0 <= result.n_correct <= result.n_photos - n_wrong:
            raise ValueError(
                f"class {result.name!r} has {result.n_photos} photos, of which "
                f"{result.n_correct} right and {n_wrong} confused"
            )


def _check_unique(where: str, neurons: Iterable[int]) -> None:
    seen: set[int] = set()
    for neuron in neurons:
        if neuron < 0 or neuron in seen:
            raise ValueError(f"`{where}` has neuron {neuron}, expected each once, from 0 up")
        seen.add(neuron)


def _class_indices(data: ReportData) -> Iterator[tuple[str, int]]:
    yield "`target`", data.target
    for mapping in data.mappings:
        for name, index, _ in mapping.rows:
            yield f"{name!r} of {mapping.photos}", index
    for pair in data.confusions:
        yield "`label` of a confusion", pair.label
        yield "`predicted` of a confusion", pair.predicted
    for mistake in _mistakes(data):
        yield f"`label` of {mistake.file!r}", mistake.label
        yield f"`predicted` of {mistake.file!r}", mistake.predicted
    for card in data.neurons:
        yield from _card_indices(card)
    for photo in (*data.cue.most, *data.cue.least) if data.cue else ():
        yield f"`label` of {photo.file!r}", photo.label
    for changed in data.edit.photos if data.edit else ():
        for name in ("label", "before", "after"):
            yield f"`{name}` of {changed.file!r}", getattr(changed, name)


def _card_indices(card: NeuronCard) -> Iterator[tuple[str, int]]:
    for picture in card.illusions:
        yield f"`class_index` of an illusion of neuron {card.neuron}", picture.class_index
    for item in card.weights:
        yield f"`class_index` of a weight of neuron {card.neuron}", item.class_index
    for photo in card.top_photos:
        yield f"`label` of {photo.file!r}", photo.label
    for saliency in card.saliency:
        yield f"`label` of {saliency.file!r}", saliency.label
        yield f"`predicted` of {saliency.file!r}", saliency.predicted


def _mistakes(data: ReportData) -> Iterator[Mistake]:
    yield from data.mistakes
    for one in data.slices:
        yield from one.mistakes


def _ranked(data: ReportData) -> Iterator[RankedNeuron]:
    yield from data.ranking
    for one in data.slices:
        yield from one.ranking


def _changes(data: ReportData) -> Iterator[tuple[str, float]]:
    verdict = None if data.edit is None else data.edit.verdict
    if verdict is None:
        return
    for name in ("target_gain", "others_change", "overall_change"):
        for number in getattr(verdict, name) or ():
            yield f"`{name}` of the verdict", number
    for control in verdict.controls:
        yield f"`overall_change` {control.name}", control.overall_change


def _shares(data: ReportData) -> Iterator[tuple[str, float]]:
    for mistake in _mistakes(data):
        yield f"`probability` of {mistake.file!r}", mistake.probability
        if mistake.label_probability is not None:
            yield f"`label_probability` of {mistake.file!r}", mistake.label_probability
    for row in _ranked(data):
        yield f"`precision` of neuron {row.neuron}", row.precision
    edit = data.edit
    if edit is None:
        return
    calibration = () if edit.calibration is None else (edit.calibration,)
    for change in (edit.overall, *edit.classes, *edit.groups, *edit.groups_of_class, *calibration):
        for name, share in (("before", change.before), ("after", change.after)):
            if share is not None:
                yield f"`{name}` of {change.name!r}", share


def _cue_numbers(data: ReportData) -> Iterator[tuple[str, float]]:
    if data.cue is None:
        return
    yield "`raised` of the cue", data.cue.raised
    for photo in (*data.cue.most, *data.cue.least):
        yield f"`activation` of {photo.file!r}", photo.activation


def _word_numbers(words: NeuronWords) -> Iterator[tuple[str, float]]:
    if words.combination_correlation is not None:
        yield f"`combination_correlation` of {words.neuron}", words.combination_correlation
    for name, change in (*words.losing, *words.gaining):
        yield f"the change of {name!r} without {words.neuron}", change
    for phrase in words.phrases:
        yield f"`score` of {phrase.text!r}", phrase.score
        for name in ("average_precision", "chance"):
            if getattr(phrase, name) is not None:
                yield f"`{name}` of {phrase.text!r}", getattr(phrase, name)


def _numbers(data: ReportData) -> Iterator[tuple[str, float]]:
    for row in _ranked(data):
        known = {"score": row.score, "importance": row.importance}
        yield from ((f"`{k}` of neuron {row.neuron}", v) for k, v in known.items() if v is not None)
    yield from _cue_numbers(data)
    for words in data.words:
        yield from _word_numbers(words)
    for card in data.neurons:
        if card.core_relevance is not None:
            yield f"`core_relevance` of neuron {card.neuron}", card.core_relevance
        for item in card.weights:
            yield f"`weight` of neuron {card.neuron}", item.weight
        for photo in card.top_photos:
            yield f"`activation` of {photo.file!r}", photo.activation
        for picture in card.illusions:
            for name in ("activation", "logit", "similarity"):
                if getattr(picture, name) is not None:
                    yield f"`{name}` in neuron {card.neuron}", getattr(picture, name)
