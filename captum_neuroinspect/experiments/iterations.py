"""Table V and Fig. 10: what more optimisation steps do to an illusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from captum_neuroinspect.experiments.experiment import Part, ResultTable
from captum_neuroinspect.experiments.illusion_draws import strongest_pairs
from captum_neuroinspect.experiments.illusion_experiment import (
    QUICK,
    IllusionConfig,
    IllusionExperiment,
    PictureRow,
)


@dataclass(frozen=True)
class IterationsConfig(IllusionConfig):
    """Settings of ``iterations``.

    Attributes:
        steps: one row each; ``n_steps`` is not used.
        n_classes: random classes, with the neuron of the largest weight to each.
        is_guided: by the encoder, as in the paper; without it a step costs half.
    """

    steps: tuple[int, ...] = (300, 400, 500, 650)
    n_classes: int = 20
    is_guided: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.steps or min(self.steps) < 1:
            raise ValueError(f"steps={self.steps}, expected one or more numbers from 1")
        if self.n_classes < 1:
            raise ValueError(f"n_classes={self.n_classes}, expected 1 or more")


class IterationsExperiment(IllusionExperiment):
    """The same pairs with few steps and many: activation, what judges see, and time."""

    name = "iterations"
    summary = "activation, recognised classes and time by the number of steps"
    source = "Table V and Fig. 10"
    Config = IterationsConfig
    quick: ClassVar[Mapping[str, Any]] = {**QUICK, "steps": (4, 12), "n_classes": 3}
    config: IterationsConfig

    def picture_rows(self, part: Part) -> list[PictureRow]:
        head = self.networks.head
        draw = strongest_pairs(head, min(self.config.n_classes, head.out_features), part.seed)
        shared = self.guided(part) if self.config.is_guided else self.in_class(part)
        alone = PictureRow(f"FV, {self.config.steps[-1]} steps", draw, self._alone())
        return [
            alone,
            *(PictureRow(f"{n} steps", draw, {**shared, "n_steps": n}) for n in self.config.steps),
        ]

    def published(self) -> ResultTable:
        rows = (
            ("another visualization, its name lost in the text at hand", "-", "25.21", "-"),
            ("CLIP-Illusion", "300", "30.58", "12.33 s"),
            ("", "400", "32.91", "16.45 s"),
            ("", "500", "34.47", "21.82 s"),
            ("", "650", "36.13", "26.49 s"),
        )
        columns = ("visualization", "iterations", "average activation", "average time")
        note = "ResNet-18 on an A6000; activations of another network cannot be compared in size."
        return ResultTable("Table V of the paper", columns, rows, note)

    def _alone(self) -> dict[str, object]:
        return {"is_neuron_alone": True, "n_steps": self.config.steps[-1]}
