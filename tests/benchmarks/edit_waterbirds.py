"""Waterbirds as published (Sagawa et al. 2020, arXiv 1911.08731): both kinds of birds as scenarios.

The published validation photos are those of deployment, as half of them lack the cue. Download:
``neuroinspect experiment waterbirds --download``, or https://github.com/kohpangwei/group_DRO
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from edit_cases import EditCase, case_of
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from captum_neuroinspect.experiments.waterbirds_photos import (
    CLASSES,
    TEST,
    TRAIN,
    VALIDATION,
    Bird,
    read_birds,
)

NAME = "waterbirds"
_OF_TRAIN = 5  # one of so many training photos is for validation


class Features(Protocol):
    """Where features come from: ``Collector``."""

    def named(self, name: str, data: Dataset[tuple[Tensor, int]]) -> Tensor: ...


class Waterbirds(Dataset[tuple[Tensor, int]]):
    """Photos of one part; groups are ``2 * label + has cue``, as in the other scenarios."""

    classes = CLASSES

    def __init__(self, birds: list[Bird], target: int) -> None:
        self.birds, self.target = birds, target
        self.labels = torch.tensor([bird.label for bird in birds])
        self.groups = 2 * self.labels + torch.tensor([bird.place == bird.label for bird in birds])
        self._view = v2.Compose(
            [
                v2.Resize(256, antialias=True),
                v2.CenterCrop(224),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.birds)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        bird = self.birds[index]
        with Image.open(bird.path) as picture:
            return self._view(picture.convert("RGB")), bird.label


def waterbird_cases(features: Features, folder: Path, seed: int) -> Iterator[EditCase]:
    """Landbirds and waterbirds in turn are the class that is edited."""
    birds = read_birds(folder)
    of_train = [bird for bird in birds if bird.split == TRAIN]
    order = torch.randperm(len(of_train), generator=torch.Generator().manual_seed(seed)).tolist()
    n_validation = len(of_train) // _OF_TRAIN
    parts = {
        "train": [of_train[i] for i in sorted(order[n_validation:])],
        "validation": [of_train[i] for i in sorted(order[:n_validation])],
        "deployment": [bird for bird in birds if bird.split == VALIDATION],
        "test": [bird for bird in birds if bird.split == TEST],
    }
    for target in (0, 1):
        splits = {name: Waterbirds(part, target) for name, part in parts.items()}
        found = {
            name: features.named(
                f"waterbirds-{name}" + (f"-{seed}" if name in ("train", "validation") else ""), data
            )
            for name, data in splits.items()
        }
        units = torch.arange(len(splits["deployment"]))
        yield case_of(NAME, splits, found, units, seed)
