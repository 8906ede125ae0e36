"""What a session computes beside its steps, and keeps.

Counterfactuals, top photos and their crops, saliency, core relevance, and how photos come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.kinds import check_kinds
from captum_neuroinspect._core.modules import device_of
from captum_neuroinspect.analysis.core_relevance import core_relevance
from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.analysis.top_photos import TopPhotos, crops, top_photos
from captum_neuroinspect.attr import Counterfactual, NeuronCounterfactual, neuron_saliency
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.inspection.data.parts import InspectionData, PhotoSet
from captum_neuroinspect.inspection.preflight_checks.preprocessing import (
    PreprocessingCheck,
    check_preprocessing,
)
from captum_neuroinspect.inspection.report.findings import NeuronEvidence
from captum_neuroinspect.models.load import LoadedModel
from captum_neuroinspect.optvis import Illusions

Shape = tuple[int | None, ...]

_N_NEURONS = 6  # cards, when nothing was visualized
_N_PHOTOS = 6
_N_CHECKED = 32  # photos whose pixels are looked at
_MAX_MISTAKES = 50  # whose saliency is computed
_CHUNK = 8
_DETAILS = ("w", "converged", "n_steps", "already_correct", "residual", "feasible", "ran_out")
_FINE = 16  # a map of pixels is smoothed to so many places a side


@dataclass(frozen=True, eq=False)
class EvidenceSource:
    """The model that evidence is taken from, and where it is kept.

    Attributes:
        model: with its preprocessing.
        head: its decision layer.
        work: where results are kept.
        key: names model and preprocessing.
        fresh: make again what is kept.
    """

    model: LoadedModel
    head: nn.Linear
    work: WorkFolder
    key: Mapping[str, Any]
    fresh: bool = False

    def kept(
        self, kind: str, key: Mapping[str, Any], make: Any, shapes: Mapping[str, Shape]
    ) -> dict[str, Tensor]:
        """Tensors with these names and shapes, in which ``None`` is any length."""

        def check(tensors: dict[str, Tensor]) -> None:
            found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            if found.keys() != shapes.keys() or not all(
                len(found[name]) == len(shape)
                and all(size in (None, real) for size, real in zip(shape, found[name], strict=True))
                for name, shape in shapes.items()
            ):
                raise ValueError(f"it has tensors of the shapes {found}, expected {dict(shapes)}")

        return self.work.tensors(kind, {**self.key, **key}, make, check=check, fresh=self.fresh)


def neuron_evidence(
    source: EvidenceSource, data: InspectionData, found: Explanation, illusions: Illusions | None
) -> NeuronEvidence | None:
    """Of the neurons that were visualized, or else of the first of the ranking, if any.

    They are in the order of the ranking; those that it does not have come last.
    """
    chosen = found.neurons(_N_NEURONS) if illusions is None else illusions.neurons
    place = {neuron: i for i, neuron in enumerate(found.neurons())}
    neurons = sorted(dict.fromkeys(chosen), key=lambda neuron: place.get(neuron, len(place)))
    if not neurons:
        return None
    top, boxes = boxes_of(source, data.inspected, neurons)
    mistakes, maps = saliency_of(source, data.inspected, found.mistakes, neurons)
    core = () if illusions is None else core_relevance_of(source, illusions, data.train)
    return NeuronEvidence(tuple(neurons), top, boxes, mistakes, maps, tuple(core))


def counterfactuals_of(
    source: EvidenceSource, part: PhotoSet, mistakes: FeatureSet, target: int
) -> Counterfactual:
    """What :class:`NeuronCounterfactual` gives for these mistakes, with its details."""

    def make() -> dict[str, Tensor]:
        method = NeuronCounterfactual(source.head, source.head)
        found = method.attribute_features(mistakes.features, target, return_details=True)
        return {name: getattr(found, name) for name in _DETAILS}

    key = {"photos": part.fingerprint, "indices": mistakes.indices.tolist(), "target": target}
    n = len(mistakes)
    shapes: dict[str, Shape] = {name: (n,) for name in _DETAILS}
    shapes["w"] = (n, mistakes.features.shape[1])
    kept: dict[str, Any] = {**source.kept("counterfactual-details", key, make, shapes)}
    return Counterfactual(**kept)


def boxes_of(
    source: EvidenceSource, part: PhotoSet, neurons: Sequence[int], n_photos: int = _N_PHOTOS
) -> tuple[TopPhotos, Tensor]:
    """The most exciting photos of each neuron, and the box of its region, ``(J, k, 4)``."""
    top = top_photos(part.features, neurons, n_photos)
    boxes = [_boxes(source, part, n, row) for n, row in zip(neurons, top.indices, strict=True)]
    return top, torch.stack(boxes)


def _boxes(source: EvidenceSource, part: PhotoSet, neuron: int, indices: Tensor) -> Tensor:
    def make() -> dict[str, Tensor]:
        images = part.photos.images(indices)
        preprocess = source.model.preprocess
        found = crops(source.model.model, images, neuron, preprocess=preprocess, head=source.head)
        return {"boxes": found.boxes}

    key = {"photos": part.fingerprint, "neuron": neuron, "indices": indices.tolist()}
    return source.kept("crops", key, make, {"boxes": (len(indices), 4)})["boxes"]


def saliency_of(
    source: EvidenceSource, part: PhotoSet, mistakes: FeatureSet, neurons: Sequence[int]
) -> tuple[FeatureSet, Tensor]:
    """Mistakes, the first fifty, and where each neuron is excited in them, ``(M, J, h, w)``."""
    chosen = mistakes.subset(torch.arange(min(len(mistakes), _MAX_MISTAKES)))
    fingerprint = part.fingerprint

    def maps_of(neuron: int) -> Tensor:
        key = {"photos": fingerprint, "neuron": neuron, "indices": chosen.indices.tolist()}
        shapes = {"maps": (len(chosen), None, None)}
        found = source.kept("saliency", key, lambda: {"maps": made()[:, wanted[neuron]]}, shapes)
        return found["maps"]

    # All neurons share the forward passes, which is most of the work, but are kept one by one.
    wanted = {neuron: place for place, neuron in enumerate(neurons)}
    together: list[Tensor] = []

    def made() -> Tensor:
        if not together:
            together.append(_saliency(source, part.images(chosen), list(neurons)))
        return together[0]

    return chosen, torch.stack([maps_of(neuron) for neuron in neurons], dim=1)


def _saliency(source: EvidenceSource, images: Tensor, neurons: list[int]) -> Tensor:
    model = source.model.on_pixels()
    device = device_of(model)
    maps = [_maps(model, source.head, part.to(device), neurons) for part in images.split(_CHUNK)]
    return torch.cat(maps).cpu()


def _maps(model: nn.Module, head: nn.Linear, images: Tensor, neurons: list[int]) -> Tensor:
    try:
        found = neuron_saliency(
            model, head, images, neurons, "gradcam", attribute_to_neuron_input=True
        )
        return found.squeeze(2).clamp(min=0)
    except ValueError:  # no maps to look at: a transformer, or layers without positions
        pass
    found = neuron_saliency(
        model, head, images, neurons, "input_x_gradient", attribute_to_neuron_input=True
    )
    return F.adaptive_avg_pool2d(found.abs().sum(2), _FINE)


def core_relevance_of(
    source: EvidenceSource, illusions: Illusions, train: PhotoSet
) -> list[float | None]:
    """The score of each illusion; ``None`` where there is none."""
    if illusions.maps is None or illusions.masks is None or illusions.classes is None:
        return [None] * len(illusions)

    def make() -> dict[str, Tensor]:
        model, preprocess = source.model.model, source.model.preprocess
        scores = core_relevance(model, source.head, illusions, train.features, preprocess)
        return {"scores": scores}

    photos = [train.fingerprint, train.features.indices.tolist()]
    key: dict[str, object] = {"illusions": illusions.settings, "photos": photos}
    key |= {"neurons": list(illusions.neurons), "classes": list(illusions.classes)}
    key["score"] = "ratio"
    shapes = {"scores": (len(illusions),)}
    scores = source.kept("core-relevance", key, make, shapes)["scores"].tolist()
    return [None if score != score else score for score in scores]


def kept_preprocessing_check(
    source: EvidenceSource, part: PhotoSet, *, compare: bool
) -> PreprocessingCheck:
    """:func:`check_preprocessing` on photos spread evenly over the part, as classes lie in order.

    Args:
        source: the model.
        part: its photos.
        compare: try other normalisations.
    """
    n_rows = len(part.features)
    rows = torch.linspace(0, n_rows - 1, min(n_rows, _N_CHECKED)).round().long()
    chosen = part.features.subset(rows)

    def make() -> dict[str, Any]:
        images, model = part.images(chosen), source.model
        found = check_preprocessing(
            model.model,
            images,
            chosen.labels,
            model.preprocess,
            head=source.head,
            compare=compare,
        )
        return asdict(found)

    key = {**source.key, "photos": part.fingerprint, "n_photos": len(rows), "compare": compare}
    kept = source.work.json("preprocessing", key, make, check=restored_check, fresh=source.fresh)
    return restored_check(kept)


def restored_check(kept: dict[str, Any]) -> PreprocessingCheck:
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in kept.items()}
    check_kinds(values, PreprocessingCheck)
    return PreprocessingCheck(**values)
