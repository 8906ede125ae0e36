"""The cards of a report: what is shown of each neuron."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from PIL.Image import Image
from torch import Tensor

from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.inspection.report.card_data import (
    ClassWeight,
    IllusionPicture,
    NeuronCard,
    Phrase,
    SaliencyPicture,
    TopPhoto,
)
from captum_neuroinspect.inspection.report.overlay import overlay
from captum_neuroinspect.inspection.report.pictures import as_image
from captum_neuroinspect.inspection.session.data_parts import Part
from captum_neuroinspect.inspection.session.evidence import (
    Source,
    boxes_of,
    core_relevance_of,
    cut,
    saliency_of,
)
from captum_neuroinspect.optvis import Illusions

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.session.session import NeuroInspect

_N_NEURONS = 6  # cards, when nothing was visualized
_N_SALIENCY = 6  # mistakes a card
_N_WEIGHTS = 8  # classes a card
_ALL_OVER = 0.99  # share of a mask that is not dimmed


def neuron_cards(session: NeuroInspect, found: Explanation) -> tuple[NeuronCard, ...]:
    """A card for each neuron that was visualized, or else for those blamed most."""
    illusions = session.illusions if session.layer is None else None
    shown = found.neurons(_N_NEURONS) if illusions is None else illusions.neurons
    neurons = _as_ranked(dict.fromkeys(shown), found)
    if not neurons:
        return ()
    source, part = session.source, session.material.inspected
    photos = _top_photos(source, part, neurons)
    saliency = _saliency(source, part, found, neurons)
    core = {} if illusions is None else _core(source, illusions, session, found.target)
    words = {d.neuron: d for d in session.descriptions or ()}
    pictures = {} if illusions is None else _pictures(illusions)
    weight, confused = session.head.weight.detach()[:, neurons].float().cpu(), found.confused
    return tuple(
        NeuronCard(
            neuron=neuron,
            illusions=tuple(pictures.get(neuron, ())),
            top_photos=photos[neuron],
            saliency=saliency[neuron],
            phrases=_phrases(words.get(neuron)),
            weights=_weights(weight[:, place], found.target, confused),
            core_relevance=core.get(neuron),
        )
        for place, neuron in enumerate(neurons)
    )


def _as_ranked(shown: dict[int, None], found: Explanation) -> list[int]:
    """In the order of the ranking; what it does not have comes last."""
    place = {neuron: i for i, neuron in enumerate(found.neurons())}
    return sorted(shown, key=lambda neuron: place.get(neuron, len(place)))


def _pictures(illusions: Illusions) -> dict[int, list[IllusionPicture]]:
    """The illusions of each neuron; all are dimmed once."""
    found = defaultdict[int, list[IllusionPicture]](list)
    dimmed = None if illusions.masks is None else illusions.masked()
    for i, (neuron, place) in enumerate(
        zip(illusions.neurons, illusions.classes or (), strict=False)
    ):
        found[neuron].append(
            IllusionPicture(
                class_index=place,
                picture=illusions.images[i],
                masked=None if dimmed is None or _is_all_over(illusions, i) else dimmed[i],
                activation=_number(illusions.activations, i),
                logit=_number(illusions.logits, i),
                similarity=_number(illusions.similarities, i),
            )
        )
    return found


def _number(values: Tensor | None, i: int) -> float | None:
    value = None if values is None else float(values[i])
    return None if value is None or value != value else value


def _top_photos(
    source: Source, part: Part, neurons: Sequence[int]
) -> dict[int, tuple[TopPhoto, ...]]:
    top, boxes = boxes_of(source, part, neurons)
    whole: dict[int, Image] = {}  # a photo may excite many neurons

    def photo(row: int, column: int) -> TopPhoto:
        index = int(top.indices[row, column])
        image = part.photos.image(index)
        label = int(part.features.labels[top.rows[row, column]])
        activation = float(top.activations[row, column])
        crop = as_image(cut(image, boxes[row, column]))
        if index not in whole:
            whole[index] = as_image(image)
        return TopPhoto(whole[index], part.photos.name(index), label, activation, crop)

    columns = range(top.indices.shape[1])
    return {n: tuple(photo(row, i) for i in columns) for row, n in enumerate(neurons)}


def _saliency(
    source: Source, part: Part, found: Explanation, neurons: Sequence[int]
) -> dict[int, tuple[SaliencyPicture, ...]]:
    """Each neuron on the mistakes whose counterfactual changes it most."""
    mistakes, maps = saliency_of(source, part, found.mistakes, neurons)
    names, predictions = part.names(mistakes), mistakes.predictions.tolist()
    photo_of = cache(lambda row: part.photos.image(int(mistakes.indices[row])))

    def picture(row: int, column: int) -> SaliencyPicture:
        image = photo_of(row)
        drawn = as_image(overlay(image, maps[row, column].float()))
        return SaliencyPicture(drawn, names[row], found.target, predictions[row], image)

    change = found.w[: len(mistakes)].abs()
    return {
        neuron: tuple(
            picture(row, column)
            for row in change[:, neuron]
            .argsort(descending=True, stable=True)[:_N_SALIENCY]
            .tolist()
        )
        for column, neuron in enumerate(neurons)
    }


def _core(
    source: Source, illusions: Illusions, session: NeuroInspect, target: int
) -> dict[int, float | None]:
    """The score of each neuron's illusion in the inspected class; none where a mask hides nothing.

    With and without it the picture is the same, and 0 would look like a finding.
    """
    if illusions.classes is None:
        return {}
    features = session.material.train.features
    photos = [session.material.train.fingerprint, features.indices.tolist()]
    key: dict[str, object] = {"illusions": illusions.settings, "photos": photos}
    key |= {"neurons": list(illusions.neurons), "classes": list(illusions.classes)}
    scores = core_relevance_of(source, illusions, features, key)
    pairs = zip(illusions.neurons, illusions.classes, scores, strict=True)
    return {
        neuron: None if _is_all_over(illusions, i) else score
        for i, (neuron, place, score) in enumerate(pairs)
        if place == target
    }


def _is_all_over(illusions: Illusions, i: int) -> bool:
    """Whether the neuron is active everywhere in an illusion, so that its mask dims nothing."""
    return illusions.masks is not None and float(illusions.masks[i].mean()) > _ALL_OVER


def _phrases(description: object) -> tuple[Phrase, ...]:
    if description is None:
        return ()
    pairs = zip(description.phrases, description.scores, strict=True)  # type: ignore[attr-defined]
    return tuple(Phrase(text, score) for text, score in pairs)


def _weights(column: Tensor, target: int, confused: int) -> tuple[ClassWeight, ...]:
    """The two classes in question, and those with the largest weights.

    Args:
        column: ``(C,)`` weights of the neuron.
        target: the class that was missed.
        confused: the one that it was mostly taken for.
    """
    largest = column.abs().argsort(descending=True, stable=True)[:_N_WEIGHTS].tolist()
    wanted = list(dict.fromkeys([target, confused, *largest]))[:_N_WEIGHTS]
    wanted.sort(key=lambda i: -float(column[i]))
    return tuple(ClassWeight(i, float(column[i])) for i in wanted)
