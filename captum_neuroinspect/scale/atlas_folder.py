"""An atlas's folder, read while it grows as well as afterwards."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from captum_neuroinspect._core.files import read_text
from captum_neuroinspect.optvis import Illusions
from captum_neuroinspect.scale._plan import read_plan
from captum_neuroinspect.scale.committed import CommittedParts

INDEX = "index.json"
_PARTS, _FEATURES, _NEAR, _SUFFIX = "pairs", "features", "near.json", ".safetensors"


def pairs_of(folder: Path) -> CommittedParts:
    """The illusion of each pair."""
    return CommittedParts(folder / _PARTS, _SUFFIX)


def features_of(folder: Path) -> CommittedParts:
    """The features of each batch's pictures, in the model that is shown."""
    return CommittedParts(folder / _FEATURES, _SUFFIX)


def near_path(folder: Path) -> Path:
    """Which neurons have like weights; the model is not needed again to know it."""
    return folder / _NEAR


@dataclass(frozen=True)
class AtlasFolder:
    """What of an atlas is there.

    Attributes:
        folder: that :func:`~captum_neuroinspect.scale.render_atlas` began.
        plan: what was asked for.
        records: of each pair, ``None`` where it is not there yet.
    """

    folder: Path
    plan: dict[str, Any] = field(repr=False)
    records: tuple[dict[str, Any] | None, ...] = field(repr=False)

    @classmethod
    def read(cls, folder: str | Path) -> AtlasFolder:
        """Read a folder, finished or not.

        Raises:
            OSError: when no atlas was begun there.
            ValueError: when its plan is damaged, or of something else.
        """
        folder = Path(folder)
        plan = read_plan(folder)
        if not {"pairs", "settings", "class_names", "model"} <= plan.keys():
            raise ValueError(f"{folder} holds other work than an atlas")
        parts = pairs_of(folder)
        records = (parts.record(pair, check=False) for pair in range(len(plan["pairs"])))
        return cls(folder, plan, tuple(records))

    @property
    def neurons(self) -> list[int]:
        """Each once, in the order of the plan."""
        return list(dict.fromkeys(neuron for neuron, _ in self.plan["pairs"]))

    def illusion(self, pair: int) -> Illusions:
        """One pair's picture, mask and numbers."""
        return Illusions.load(pairs_of(self.folder).path(pair))

    def near_by_weights(self) -> dict[int, list[list[float]]]:
        """Neurons with like weights, each with its cosine, of every neuron."""
        path = near_path(self.folder)
        found = json.loads(read_text(path)) if path.exists() else {}
        return {int(neuron): near for neuron, near in found.items()}

    def features(self) -> dict[int, Tensor]:
        """Of every neuron with a picture, the mean features ``(F,)`` of its pictures, float64."""
        parts, found = features_of(self.folder), dict[int, list[Tensor]]()
        pairs = self.plan["pairs"]
        size = self.plan["settings"]["pairs_per_batch"]
        for batch in range(math.ceil(len(pairs) / size)):
            record = parts.record(batch, check=False)
            if record is None:
                continue
            rows = load_file(parts.path(batch))["features"].double()
            for pair, row in zip(record["pairs"], rows, strict=True):
                found.setdefault(pairs[pair][0], []).append(row)
        return {neuron: torch.stack(rows).mean(0) for neuron, rows in found.items()}
