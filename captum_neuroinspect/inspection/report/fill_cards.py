"""The cards of a report: what is shown of each neuron."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.analysis.top_photos import cut
from captum_neuroinspect.inspection.data.parts import PhotoSet
from captum_neuroinspect.inspection.report.findings import Findings, NeuronEvidence
from captum_neuroinspect.inspection.report.pictures import as_image
from captum_neuroinspect.inspection.report.report_data import (
    ClassWeight,
    IllusionPicture,
    NeuronCard,
    SaliencyPicture,
    TopPhoto,
)

if TYPE_CHECKING:
    from captum_neuroinspect.optvis import Illusions

_N_SALIENCY = 6  # mistakes a card
_N_WEIGHTS = 8  # classes a card
_OPACITY = 0.75


def neuron_cards(findings: Findings) -> tuple[NeuronCard, ...]:
    """A card for each neuron that there is evidence of."""
    evidence, found, illusions = findings.evidence, findings.explanation, findings.illusions
    if evidence is None:
        return ()
    neurons = list(evidence.neurons)
    photos = _top_photos(evidence, findings.data.inspected)
    saliency = _saliency(evidence, findings.data.inspected, found)
    core = {} if illusions is None else _core(evidence, illusions, found.target)
    pictures = {} if illusions is None else _pictures(illusions)
    weight, confused = findings.head_weight[:, neurons].float().cpu(), found.confused
    return tuple(
        NeuronCard(
            neuron=neuron,
            illusions=tuple(pictures.get(neuron, ())),
            top_photos=photos[neuron],
            saliency=saliency[neuron],
            weights=_weights(weight[:, place], found.target, confused),
            core_relevance=core.get(neuron),
        )
        for place, neuron in enumerate(neurons)
    )


def _pictures(illusions: Illusions) -> dict[int, list[IllusionPicture]]:
    """The illusions of each neuron; all are dimmed once."""
    found = defaultdict[int, list[IllusionPicture]](list)
    dimmed = None if illusions.masks is None else illusions.masked()
    failed, remarks = illusions.failed.tolist(), illusions.remarks(dimmed is not None)
    for i, (neuron, place) in enumerate(
        zip(illusions.neurons, illusions.classes or (), strict=False)
    ):
        found[neuron].append(
            IllusionPicture(
                class_index=place,
                picture=None if failed[i] else illusions.images[i],
                masked=None if dimmed is None or remarks[i] else dimmed[i],
                remark=remarks[i],
                activation=_number(illusions.activations, i),
                logit=_number(illusions.logits, i),
                similarity=_number(illusions.similarities, i),
            )
        )
    return found


def _number(values: Tensor | None, i: int) -> float | None:
    value = None if values is None else float(values[i])
    return None if value is None or value != value else value


def _top_photos(evidence: NeuronEvidence, part: PhotoSet) -> dict[int, tuple[TopPhoto, ...]]:
    top, boxes = evidence.top, evidence.boxes
    whole: dict[int, Image] = {}  # a photo may excite many neurons

    def photo(row: int, column: int) -> TopPhoto:
        index = int(top.indices[row, column])
        image = part.photos.image(index)
        label = int(part.features.labels[top.rows[row, column]])
        activation = float(top.activations[row, column])
        piece = cut(image, boxes[row, column])
        crop = as_image(piece) if piece.shape != image.shape else None  # else the photo twice
        if index not in whole:
            whole[index] = as_image(image)
        return TopPhoto(whole[index], part.photos.name(index), label, activation, crop)

    columns = range(top.indices.shape[1])
    return {n: tuple(photo(row, i) for i in columns) for row, n in enumerate(evidence.neurons)}


def _saliency(
    evidence: NeuronEvidence, part: PhotoSet, found: Explanation
) -> dict[int, tuple[SaliencyPicture, ...]]:
    """Each neuron on the mistakes whose counterfactual changes it most."""
    mistakes, maps = evidence.mistakes, evidence.saliency
    names, predictions = part.names(mistakes), mistakes.predictions.tolist()
    photo_of = cache(lambda row: part.photos.image(int(mistakes.indices[row])))

    def picture(row: int, column: int) -> SaliencyPicture:
        image = photo_of(row)
        heat = maps[row, column].float().clamp(min=0)
        # Where the map is the same everywhere it would only be a grey photo.
        drawn = as_image(overlay(image, heat)) if heat.min() < heat.max() else None
        return SaliencyPicture(drawn, names[row], found.target, predictions[row], image)

    change = found.w[: len(mistakes)].abs()
    return {
        neuron: tuple(
            picture(row, column)
            for row in change[:, neuron]
            .argsort(descending=True, stable=True)[:_N_SALIENCY]
            .tolist()
        )
        for column, neuron in enumerate(evidence.neurons)
    }


def overlay(image: Tensor, heat: Tensor) -> Tensor:
    """Draw a map over a greyed photo: bright where the map is large, clear where it is 0.

    Each map is scaled by itself, so colours compare places, not photos.

    Args:
        image: ``(3, H, W)`` in 0..1.
        heat: ``(h, w)``; what is below 0 counts as 0.

    Returns:
        ``(3, H, W)`` in 0..1.

    Examples::

        >>> overlay(torch.rand(3, 8, 8), torch.rand(2, 2)).shape
        torch.Size([3, 8, 8])
    """
    # Imported here: it takes a while, and only those who draw need it.
    from matplotlib import colormaps

    size = image.shape[-2:]
    fine = F.interpolate(heat.clamp(min=0)[None, None], size, mode="bicubic")[0, 0].clamp(min=0)
    share = fine / fine.max() if fine.max() > 0 else fine
    colours = torch.from_numpy(colormaps["inferno"](share.numpy())[..., :3]).float()
    grey = image.mean(0, keepdim=True).expand(3, -1, -1)
    opacity = _OPACITY * share.sqrt()
    return torch.lerp(grey, colours.permute(2, 0, 1), opacity).clamp(0, 1)


def _core(evidence: NeuronEvidence, illusions: Illusions, target: int) -> dict[int, float | None]:
    """The score of each neuron's illusion in the inspected class; none without a telling mask.

    With and without it the picture is about the same, and 0 would look like a finding.
    """
    if illusions.classes is None:
        return {}
    remarks = illusions.remarks(illusions.masks is not None)
    pairs = zip(illusions.neurons, illusions.classes, evidence.core_relevance, strict=True)
    return {
        neuron: None if remarks[i] else score
        for i, (neuron, place, score) in enumerate(pairs)
        if place == target
    }


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
