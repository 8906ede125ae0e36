"""The words of a report: of every described neuron, and one sentence on those behind mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from captum_neuroinspect.inspection.report.report_data import NeuronWords, Phrase

if TYPE_CHECKING:
    from captum_neuroinspect.describe import ClassEffect, Descriptions, UnitDescription


def neuron_words(descriptions: Descriptions | None) -> tuple[NeuronWords, ...]:
    """All that were described."""
    return tuple(map(_words, descriptions or ()))


def words_summary(descriptions: Descriptions | None, neurons: Sequence[int]) -> str:
    """What the neurons behind the mistakes answer to, counted from certain words only.

    Args:
        descriptions: of these neurons and others.
        neurons: behind the mistakes, those that the report shows.

    Examples::

        >>> from captum_neuroinspect.describe import Descriptions, UnitDescription
        >>> found = Descriptions(
        ...     UnitDescription(n, ("grass",), (0.6,), (0.6,), is_certain=n < 2) for n in range(3)
        ... )
        >>> words_summary(found, [0, 1, 2])
        '2 of the 3 neurons behind these mistakes answer to “grass”; 1 has no certain word.'
    """
    if not descriptions or not neurons:
        return ""
    known = {one.unit: one for one in descriptions}
    certain = [known[n].phrases[0] for n in neurons if n in known and known[n].is_certain]
    n, which = len(neurons), "neuron" if len(neurons) == 1 else "neurons"
    if not certain:
        return f"None of the {n} {which} behind these mistakes has a certain word."
    # Of equally frequent words the one of the first neuron.
    (first, n_first), *others = Counter(certain).most_common()
    text = f"{n_first} of the {n} {which} behind these mistakes {_answer(n_first)} “{first}”"
    text += "".join(f", {n_of} to “{phrase}”" for phrase, n_of in others)
    n_left = n - len(certain)
    left = f"; {n_left} {'has' if n_left == 1 else 'have'} no certain word" if n_left else ""
    return f"{text}{left}."


def _answer(n: int) -> str:
    return "answers to" if n == 1 else "answer to"


def _words(one: UnitDescription) -> NeuronWords:
    has_evidence = bool(one.correlations)
    phrases = tuple(
        Phrase(
            text,
            one.correlations[place] if has_evidence else one.scores[place],
            one.average_precisions[place] if has_evidence else None,
            one.chances[place] if has_evidence else None,
        )
        for place, text in enumerate(one.phrases)
    )
    return NeuronWords(
        neuron=one.unit,
        phrases=phrases,
        is_certain=one.is_certain,
        could_be=one.could_be,
        combination=one.formula() if len(one.combination) > 1 else "",
        combination_correlation=one.combination_correlation if len(one.combination) > 1 else None,
        rests_on=one.rests_on,
        note=one.note,
        losing=_changes(one.ablation.losing if one.ablation else ()),
        gaining=_changes(one.ablation.gaining if one.ablation else ()),
    )


def _changes(effects: Sequence[ClassEffect]) -> tuple[tuple[str, float], ...]:
    return tuple((effect.class_name, effect.change) for effect in effects)
