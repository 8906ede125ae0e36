"""Fig. 3 and 4: one neuron in several classes, and with the terms of the objective one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from captum_neuroinspect.experiments.experiment import Part
from captum_neuroinspect.experiments.illusion_draws import Draw, strongest_pairs
from captum_neuroinspect.experiments.illusion_experiment import (
    QUICK,
    IllusionConfig,
    IllusionExperiment,
    PictureRow,
)
from captum_neuroinspect.optvis import classes_of_neurons

CLASSES, TERMS = "one neuron in its classes", "terms of the objective"


@dataclass(frozen=True)
class ConceptsConfig(IllusionConfig):
    """Settings of ``concepts-in-a-neuron``.

    Attributes:
        neurons: shown in the classes to which each has the largest weights; the paper shows
            neuron 0 of ResNet-18.
        n_classes: of each neuron, and random ones for the terms.
    """

    neurons: tuple[int, ...] = (0,)
    n_classes: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.neurons or min(self.neurons) < 0:
            raise ValueError(f"neurons={self.neurons}, expected one or more from 0")
        if self.n_classes < 1:
            raise ValueError(f"n_classes={self.n_classes}, expected 1 or more")


class ConceptsExperiment(IllusionExperiment):
    """What a neuron stands for in each of its classes, and what each term adds."""

    name = "concepts-in-a-neuron"
    summary = "a neuron in each of its classes; the neuron alone, with the class, with CLIP"
    source = "Fig. 3 and 4"
    Config = ConceptsConfig
    quick: ClassVar[Mapping[str, Any]] = {**QUICK, "n_classes": 3}
    config: ConceptsConfig

    def parts(self, seeds: Sequence[int]) -> list[Part]:
        return [Part(scenario, seed) for scenario in (CLASSES, TERMS) for seed in seeds]

    def picture_rows(self, part: Part) -> list[PictureRow]:
        plain, guided = self.in_class(part), self.guided(part)
        alone = {"is_neuron_alone": True}
        if part.scenario == TERMS:
            draw = self._several(part.seed)
            return [
                PictureRow("neuron alone (FV)", draw, alone),
                PictureRow("neuron + class", draw, plain),
                PictureRow("neuron + class + CLIP", draw, guided),
            ]
        rows = []
        for neuron in self.config.neurons:
            draw = self._one(neuron, part.seed)
            rows += [
                PictureRow(f"neuron {neuron} alone (FV)", draw, alone),
                PictureRow(f"neuron {neuron}, CLIP-Illusion", draw, guided),
            ]
        return rows

    def notes(self) -> list[str]:
        return [
            *super().notes(),
            "The paper shows pictures and no numbers. A network that sees each class says that "
            "pictures are of the class, not that a person reads the neuron's concept in them.",
        ]

    def _one(self, neuron: int, seed: int) -> Draw:
        head = self.networks.head
        n = min(self.config.n_classes, head.out_features)
        return Draw(seed, *map(list, classes_of_neurons(head, neuron, n=n)))

    def _several(self, seed: int) -> Draw:
        head = self.networks.head
        return strongest_pairs(head, min(self.config.n_classes, head.out_features), seed)
