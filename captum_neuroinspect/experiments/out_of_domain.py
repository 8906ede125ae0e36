"""Fig. 8: illusions of a classifier whose classes the guide does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import tensor_fingerprint
from captum_neuroinspect.experiments.digits_on_textures import (
    DigitsOnTextures,
    DigitsOnTexturesConfig,
)
from captum_neuroinspect.experiments.experiment import Part
from captum_neuroinspect.experiments.illusion_draws import strongest_pairs
from captum_neuroinspect.experiments.illusion_experiment import (
    QUICK,
    IllusionConfig,
    IllusionExperiment,
    PictureRow,
)
from captum_neuroinspect.experiments.illusion_judges import shown
from captum_neuroinspect.experiments.illusion_networks import (
    TINY,
    IllusionNetworks,
    NamedJudge,
    named_judge,
    strongest,
)
from captum_neuroinspect.experiments.packaged_photos import folder_photos
from captum_neuroinspect.features import find_head
from captum_neuroinspect.models import replace_layer, train_decision_layer

DIGITS, FOLDER = "digits", "photos"
_TINY_SIZES = {"n_train": 6, "n_validation": 4, "n_deployment": 1, "n_test": 1, "size": 32}


@dataclass(frozen=True)
class OutOfDomainConfig(IllusionConfig):
    """Settings of ``out-of-domain``.

    Attributes:
        n_classes: random classes, with the neuron of the largest weight to each.
        n_photos: of each class of a folder that train the decision layer; as many others
            choose its epoch.
    """

    n_classes: int = 4
    n_photos: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_classes", "n_photos"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected 1 or more")


@dataclass(frozen=True, eq=False)
class _OtherData:
    """Photos of classes that the guide does not know."""

    class_names: tuple[str, ...]
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]


class OutOfDomainExperiment(IllusionExperiment):
    """Digits on textures, or photos of one's own, in place of the paper's Lego bricks."""

    name = "out-of-domain"
    summary = "a classifier of digits, or of --data FOLDER, whose classes the guide does not know"
    source = "Fig. 8"
    Config = OutOfDomainConfig
    quick: ClassVar[Mapping[str, Any]] = {**QUICK, "n_classes": 3}
    config: OutOfDomainConfig

    def parts(self, seeds: Sequence[int]) -> list[Part]:
        scenario = DIGITS if self.setup.data is None else FOLDER
        return [Part(scenario, seed) for seed in seeds]

    def identity(self) -> dict[str, Any]:
        data = self._data
        pixels = tensor_fingerprint(torch.cat([data.train[0], data.validation[0]]))
        return {**super().identity(), "photos": pixels, "classes": list(data.class_names)}

    @cached_property
    def networks(self) -> IllusionNetworks:
        return elsewhere(super().networks, self._data)

    def picture_rows(self, part: Part) -> list[PictureRow]:
        head = self.networks.head
        draw = strongest_pairs(head, min(self.config.n_classes, head.out_features), part.seed)
        return [
            PictureRow("no CLIP", draw, self.in_class(part)),
            PictureRow("CLIP-Illusion", draw, self.guided(part)),
        ]

    def notes(self) -> list[str]:
        return [
            *super().notes(),
            "The paper takes Lego bricks, and shows pictures and no numbers. Judges have a "
            "decision layer on their own features that was trained on the same photos.",
        ]

    @cached_property
    def _data(self) -> _OtherData:
        if self.setup.data is not None:
            return _photos_of(self.setup.data, self.config.n_photos)
        sizes = _TINY_SIZES if self.config.networks == TINY else {}
        config = DigitsOnTexturesConfig(**sizes)  # type: ignore[arg-type]  # whole numbers
        train, validation = (DigitsOnTextures(one, config) for one in ("train", "validation"))
        return _OtherData(
            tuple(train.classes),
            *((one.images.float() / 255, one.labels) for one in (train, validation)),
        )


def elsewhere(known: IllusionNetworks, data: _OtherData) -> IllusionNetworks:
    """The same backbones with decision layers that are trained here, for other classes."""
    model, head, share, ours = _with_new_head(known.model, data)
    judges, shares = [], [f"accuracy of the inspected decision layer {share:.0%}"]
    for one in known.judges:
        network, _, right, theirs = _with_new_head(one.network, data)
        judges.append(_judge(one, network, head, ours, theirs))
        shares.append(f"of {one.name}'s {right:.0%}")
    remark = f"{', '.join(shares)}, on the photos that chose the epoch. {known.remark}".strip()
    return IllusionNetworks(
        *(known.name, model, head, data.class_names, known.guide, tuple(judges)),
        *(strongest(ours), data.train[0], remark[0].upper() + remark[1:]),
    )


def _judge(
    like: NamedJudge, network: nn.Module, head: nn.Linear, ours: Tensor, theirs: Tensor
) -> NamedJudge:
    return named_judge(like.name, network, like.size, like.is_guide, head, ours, lambda: theirs)


def _with_new_head(
    network: nn.Module, data: _OtherData
) -> tuple[nn.Module, nn.Linear, float, Tensor]:
    """The network for the data's classes, its decision layer, accuracy, and training features."""
    sets = []
    for photos, labels in (data.train, data.validation):
        features = shown(network, photos).features
        logits = torch.zeros(len(labels), len(data.class_names))
        sets.append(FeatureSet(features, logits, labels, class_names=data.class_names))
    head = train_decision_layer(*sets)
    share = sets[1].with_head(head).accuracy()
    copy = deepcopy(network)
    old = find_head(copy, data.train[0][:1].to(next(copy.parameters())))
    new = head.to(old.weight)
    return replace_layer(copy, old, new), new, share, sets[0].features


def _photos_of(folder: Path, n: int) -> _OtherData:
    """The first photos of each class train, the next ones choose."""
    photos, labels = folder_photos(folder, 2 * n)
    names = tuple(sorted(place.name for place in folder.iterdir() if place.is_dir()))
    place = torch.zeros_like(labels)
    for label in labels.unique():
        place[labels == label] = torch.arange(int((labels == label).sum()))
    few = [name for c, name in enumerate(names) if int((labels == c).sum()) < 2]
    if few or len(names) < 2:
        raise ValueError(
            f"data={str(folder)!r} has fewer than two classes, or fewer than two photos of "
            f"{few}: expected one subfolder of photos a class"
        )
    half = torch.tensor([min(n, int((labels == label).sum()) // 2) for label in labels])
    first = place < half
    return _OtherData(names, (photos[first], labels[first]), (photos[~first], labels[~first]))
