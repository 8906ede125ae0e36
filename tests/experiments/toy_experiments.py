"""Small experiments, small photos, and the settings that the tests share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torchvision.transforms.v2.functional import to_pil_image

from captum_neuroinspect.experiments import Count, Experiment, Part, Setup, ShareChange

COLOURS = ((0.8, 0.2, 0.2), (0.2, 0.8, 0.2), (0.2, 0.2, 0.8), (0.7, 0.7, 0.1), (0.1, 0.7, 0.7))


@dataclass(frozen=True)
class ToyConfig:
    n: int = 10
    share: float = 0.5
    scenarios: tuple[str, ...] = ("dog(chair)", "a|b <i>")


class ToyExperiment(Experiment):
    """Numbers that follow from the part; counts what is computed."""

    name = "toy"
    summary = "a toy"
    source = "nothing"
    Config = ToyConfig
    quick: ClassVar[dict[str, Any]] = {"n": 4}
    measures = ("right", "gain", "plain")
    plain = ("plain",)
    computed: ClassVar[list[Part]] = []
    fails_at: ClassVar[int | None] = None
    data: ClassVar[str] = "x"

    def parts(self, seeds: Sequence[int]) -> list[Part]:
        return [Part(scenario, seed) for scenario in self.config.scenarios for seed in seeds]

    def identity(self) -> dict[str, Any]:
        return {"data": self.data}

    def run_part(self, part: Part) -> dict[str, dict[str, Any]]:
        if len(self.computed) == self.fails_at:
            raise KeyboardInterrupt
        self.computed.append(part)
        n, k = self.config.n, part.seed % 4 + len(part.scenario) % 3
        return {
            "before": {"right": Count(min(k, n), n), "plain": k / 7},
            "ours": {"right": Count(min(k + 1, n), n), "gain": ShareChange(1, 0, n), "plain": 0.1},
            "neurons": {"1": float(k)},
        }


def setup(out: Path, data: Path | None = None, **others: Any) -> Setup:
    """A network with random weights that sees photos of 32 pixels."""
    given = {"model": "torchvision:resnet18", "weights": "random", "image_size": 32, **others}
    return Setup(out, data, **given)


def write_photo(path: Path, kind: int, seed: int) -> None:
    """A photo of one colour a kind, with noise."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.tensor(COLOURS[kind % len(COLOURS)])[:, None, None].expand(3, 36, 40)
    image = (image + 0.3 * torch.rand(3, 36, 40, generator=rng)).clamp(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(image).save(path)


def write_classes(folder: Path, names: Sequence[str], n: int, first: int = 0) -> Path:
    for kind, name in enumerate(names):
        for i in range(n):
            write_photo(folder / name / f"{i}.jpg", kind, first + 1000 * kind + i)
    return folder
