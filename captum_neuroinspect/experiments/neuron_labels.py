"""Fig. 7: labels for neurons, ours beside soft WPMI's, and how often each is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from captum_neuroinspect._core.fingerprint import tensor_fingerprint
from captum_neuroinspect._core.texts import shown as as_text
from captum_neuroinspect.describe import (
    ConceptScores,
    Descriptions,
    attribute_scores,
    describe_units,
    phrase_scores,
)
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.experiments.experiment import Part, Results, ResultTable
from captum_neuroinspect.experiments.illusion_draws import Draw
from captum_neuroinspect.experiments.illusion_experiment import (
    QUICK,
    IllusionConfig,
    IllusionExperiment,
    PictureRow,
)
from captum_neuroinspect.experiments.illusion_judges import shown
from captum_neuroinspect.experiments.illusion_networks import IllusionNetworks
from captum_neuroinspect.experiments.packaged_photos import folder_photos
from captum_neuroinspect.experiments.soft_wpmi import soft_wpmi
from captum_neuroinspect.experiments.values import Count, Numbers
from captum_neuroinspect.optvis import neurons_of_classes

OURS, THEIRS = "describe_units", "soft WPMI"
_FIVE = 5
_DRAWS = "Of the units. Seeds draw photos, most of which they share."
_SHARE_OF_TOP = 0.05  # of the photos that soft WPMI looks at; CLIP-Dissect takes 100 of many


@dataclass(frozen=True)
class NeuronLabelsConfig(IllusionConfig):
    """Settings of ``neuron-labels``.

    Attributes:
        n_neurons: neurons whose labels and pictures are shown.
        n_photos: that a class needs for its logit to count as a unit of known name.
        n_a_class: photos of each class of a folder, at most.
        share: of the photos that are drawn for each seed.
    """

    n_neurons: int = 6
    n_photos: int = 3
    n_a_class: int = 50
    share: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_neurons", "n_photos", "n_a_class"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected 1 or more")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share}, expected a share of the photos above 0, up to 1")


class _Seen(NamedTuple):
    """What is known of the photos: activations, logits, and how much of each concept is in them."""

    features: Tensor
    logits: Tensor
    concepts: ConceptScores


class NeuronLabelsExperiment(IllusionExperiment):
    """Units whose name is known say who labels right; neurons are labelled and shown."""

    name = "neuron-labels"
    summary = "our words for units beside soft WPMI's, and pictures of the neurons"
    source = "Fig. 7"
    Config = NeuronLabelsConfig
    quick: ClassVar[Mapping[str, Any]] = {**QUICK, "n_neurons": 3}
    config: NeuronLabelsConfig

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "photos": tensor_fingerprint(self._photos)}

    def run_part(self, part: Part) -> Numbers:
        """How often each method names a class's logit by the class, on photos drawn by the seed."""
        rows = self._drawn(part.seed)
        units, names = self._known_units()
        said = self._labels(self._seen.logits[rows][:, units], rows, units)
        return {
            method: {
                "first right": _count(
                    [name == one[0] for name, one in zip(names, words, strict=True)]
                ),
                "one of five right": _count(
                    [name in one for name, one in zip(names, words, strict=True)]
                ),
            }
            for method, words in said.items()
        }

    def picture_rows(self, part: Part) -> list[PictureRow]:
        """The labelled neurons, each in its class."""
        neurons, classes = self._neurons()
        return [PictureRow("CLIP-Illusion", Draw(part.seed, neurons, classes), self.guided(part))]

    def tables(self, results: Results) -> list[ResultTable]:
        everything = torch.arange(len(self._photos))
        neurons, classes = self._neurons()
        activations = self._seen.features[:, neurons]
        found = self._described(activations, everything, neurons)
        theirs = self._of_theirs(activations, everything)
        rows = tuple(
            (
                f"neuron {neuron}",
                as_text(self.networks.class_names[label]),
                ", ".join(map(as_text, ours.phrases[:3])) or ours.note,
                "yes" if ours.is_certain else "no",
                ", ".join(map(as_text, their[:3])),
            )
            for neuron, label, ours, their in zip(neurons, classes, found, theirs, strict=True)
        )
        columns = ("", "speaks for", "describe_units", "certain", "soft WPMI")
        note = "Nobody knows the right words of these; the pictures are in the figure."
        known = self.scenario_table(results, "")
        title = f"Logits of {len(self._known_units()[0])} classes, named by their class"
        return [
            ResultTable(title, known.columns, known.rows, _DRAWS),
            ResultTable("Neurons", columns, rows, note),
        ]

    def notes(self) -> list[str]:
        return [
            *super().notes(),
            "The paper shows three neurons with MILAN's labels, which need its own data. Soft "
            "WPMI is CLIP-Dissect's score, which needs none, computed on the same scores as ours.",
            "A logit is a unit whose name is known, its class; both methods may say all classes. "
            "It is easier than a neuron, whose right words nobody knows.",
        ]

    @cached_property
    def _photos(self) -> Tensor:
        if self.setup.data is None:
            return self.networks.photos
        return folder_photos(self.setup.data, self.config.n_a_class)[0]

    @cached_property
    def _seen(self) -> _Seen:
        return look_at(self.networks, self._photos)

    def _known_units(self) -> tuple[list[int], list[str]]:
        """Classes that the network sees in some photos, and their names."""
        wins = self._seen.logits.argmax(1).bincount(minlength=self._seen.logits.shape[1])
        units = (wins >= self.config.n_photos).nonzero()[:, 0].tolist()
        if not units:
            raise ValueError(
                f"n_photos={self.config.n_photos}: the network sees no class in so many of the "
                f"{len(self._photos)} photos, expected a smaller number or other photos"
            )
        return units, [self.networks.class_names[unit] for unit in units]

    def _neurons(self) -> tuple[list[int], list[int]]:
        """The neuron of the largest weight of the classes that are seen most, each once."""
        wins = self._seen.logits.argmax(1).bincount(minlength=self._seen.logits.shape[1])
        order = wins.argsort(descending=True, stable=True)[: self.config.n_neurons].tolist()
        neurons, classes = neurons_of_classes(self.networks.head, order, n=1)
        return list(neurons), list(classes)

    def _drawn(self, seed: int) -> Tensor:
        n = max(round(self.config.share * len(self._photos)), 1)
        rng = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self._photos), generator=rng)[:n].sort().values

    def _labels(self, activations: Tensor, rows: Tensor, units: Sequence[int]) -> dict[str, Any]:
        found = self._described(activations, rows, units)
        # A unit of which nothing is said has no first phrase.
        return {
            OURS: [one.phrases[:_FIVE] or ("",) for one in found],
            THEIRS: self._of_theirs(activations, rows),
        }

    def _described(self, activations: Tensor, rows: Tensor, units: Sequence[int]) -> Descriptions:
        concepts = self._seen.concepts
        return describe_units(activations, concepts.scores[rows], concepts.phrases, units=units)

    def _of_theirs(self, activations: Tensor, rows: Tensor) -> list[list[str]]:
        concepts = self._seen.concepts
        n = max(round(_SHARE_OF_TOP * len(rows)), 1)
        scores = soft_wpmi(activations, concepts.scores[rows], n_photos=n)
        return [
            [concepts.phrases[p] for p in best[:_FIVE].tolist()]
            for best in scores.sort(dim=1, descending=True, stable=True).indices
        ]


def look_at(networks: IllusionNetworks, photos: Tensor) -> _Seen:
    """What the inspected network and the encoder find in photos."""
    found = shown(networks.model, photos)
    # Guides of illusions have flatter probabilities than words want.
    guide = networks.guide
    encoder = guide.softened(1.0) if isinstance(guide, LabelSpaceEncoder) else guide
    names = tuple(dict.fromkeys(networks.class_names))
    tiny = len(names) < _FIVE * 2
    words = phrase_scores(
        photos, encoder, phrases=names if tiny else None, class_names=() if tiny else names
    )
    return _Seen(found.features, found.logits, words.joined(attribute_scores(photos)))


def _count(holds: Sequence[bool]) -> Count:
    return Count(sum(holds), len(holds))
