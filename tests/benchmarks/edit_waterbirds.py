"""Waterbirds as published (Sagawa et al. 2020, arXiv 1911.08731): both kinds of birds as scenarios.

The archive ``waterbird_complete95_forest2water2`` has photos and ``metadata.csv`` with the columns
``img_filename``, ``y`` (1: waterbird), ``split`` (0: training, 1: validation, 2: test) and
``place`` (1: water). In training 95 % of each kind stand before their own place, which is the cue;
in the published validation and test photos half do. It is downloaded by hand:
https://github.com/kohpangwei/group_DRO
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from edit_cases import EditCase, case_of
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

NAME, COLUMNS = "waterbirds", ("img_filename", "y", "split", "place")
TRAIN, DEPLOYMENT, TEST = 0, 1, 2
_OF_TRAIN = 5  # one of so many training photos is for validation


class Features(Protocol):
    """Where features come from: ``Collector``."""

    def named(self, name: str, data: Dataset[tuple[Tensor, int]]) -> Tensor: ...


@dataclass(frozen=True)
class Row:
    """One photo: its file, label, part and place."""

    path: Path
    label: int
    split: int
    place: int


class Waterbirds(Dataset[tuple[Tensor, int]]):
    """Photos of one part; groups are ``2 * label + has cue``, as in the other scenarios."""

    classes = ("landbird", "waterbird")

    def __init__(self, rows: list[Row], target: int) -> None:
        self.rows, self.target = rows, target
        self.labels = torch.tensor([row.label for row in rows])
        self.groups = 2 * self.labels + torch.tensor([row.place == row.label for row in rows])
        self._view = v2.Compose(
            [
                v2.Resize(256, antialias=True),
                v2.CenterCrop(224),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = self.rows[index]
        with Image.open(row.path) as picture:
            return self._view(picture.convert("RGB")), row.label


def read_metadata(folder: Path) -> list[Row]:
    """All photos of the archive.

    Raises:
        FileNotFoundError: without ``metadata.csv``; says what belongs there.
        ValueError: for missing columns, other values, or a photo that is not there.
    """
    path = folder / "metadata.csv"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing, expected the unpacked archive waterbird_complete95_forest2water2"
        )
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        if missing := set(COLUMNS) - set(table.fieldnames or ()):
            raise ValueError(f"{path} lacks the columns {sorted(missing)}")
        lines = list(table)
    rows = [
        Row(folder / line["img_filename"], *(int(line[c]) for c in ("y", "split", "place")))
        for line in lines
    ]
    for row in rows:
        if row.label not in (0, 1) or row.place not in (0, 1) or row.split not in (0, 1, 2):
            raise ValueError(f"{path}: y={row.label}, split={row.split}, place={row.place}")
    if absent := [row.path for row in rows if not row.path.is_file()]:
        raise ValueError(f"{len(absent)} of {len(rows)} photos are missing, such as {absent[0]}")
    return rows


def waterbird_cases(features: Features, folder: Path, seed: int) -> Iterator[EditCase]:
    """Landbirds and waterbirds in turn are the class that is edited."""
    rows = read_metadata(folder)
    of_train = [row for row in rows if row.split == TRAIN]
    order = torch.randperm(len(of_train), generator=torch.Generator().manual_seed(seed)).tolist()
    n_validation = len(of_train) // _OF_TRAIN
    parts = {
        "train": [of_train[i] for i in sorted(order[n_validation:])],
        "validation": [of_train[i] for i in sorted(order[:n_validation])],
        "deployment": [row for row in rows if row.split == DEPLOYMENT],
        "test": [row for row in rows if row.split == TEST],
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
