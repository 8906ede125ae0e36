"""Fig. 9: a neuron in its classes while the weight of the class grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from captum_neuroinspect.experiments.experiment import Part
from captum_neuroinspect.experiments.illusion_draws import GROUP, draw_pairs
from captum_neuroinspect.experiments.illusion_experiment import (
    QUICK,
    IllusionConfig,
    IllusionExperiment,
    PictureRow,
)


@dataclass(frozen=True)
class GammaConfig(IllusionConfig):
    """Settings of ``gamma``.

    Attributes:
        gammas: one row each, in 0..1.
        n_classes: random classes; four neurons of each, so that a judge can be asked which
            neuron a picture is of.
        is_guided: by the encoder; without it gamma alone brings the class in.
    """

    gammas: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0)
    n_classes: int = 5
    is_guided: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.gammas or not all(0 <= gamma <= 1 for gamma in self.gammas):
            raise ValueError(f"gammas={self.gammas}, expected one or more numbers in 0..1")
        if self.n_classes < 1:
            raise ValueError(f"n_classes={self.n_classes}, expected 1 or more")


class GammaExperiment(IllusionExperiment):
    """The class grows clearer with gamma, and the neuron less active: how much of each?"""

    name = "gamma"
    summary = "class against neuron while the weight of the class's logit grows"
    source = "Fig. 9"
    Config = GammaConfig
    quick: ClassVar[Mapping[str, Any]] = {**QUICK, "gammas": (0.1, 1.0), "n_classes": 2}
    config: GammaConfig

    def picture_rows(self, part: Part) -> list[PictureRow]:
        head = self.networks.head
        draw = draw_pairs(head, GROUP * min(self.config.n_classes, head.out_features), part.seed)
        shared = self.guided(part) if self.config.is_guided else self.in_class(part)
        return [
            PictureRow(f"gamma {gamma:g}", draw, {**shared, "gamma": gamma}, True)
            for gamma in self.config.gammas
        ]

    def notes(self) -> list[str]:
        return [
            *super().notes(),
            "The paper shows pictures and no numbers: small gamma gives similar pictures in all "
            "classes, large gamma those of the class, with less activation.",
        ]
