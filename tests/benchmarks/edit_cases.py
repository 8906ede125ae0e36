"""Heads that learned a false correlation, and what a user would have to mend them.

Two data sets, five scenarios each (every class in turn is the one with the cue): digits on
textures, from installed packages, and a tile planted in photos of a folder. Features are those of
EfficientNet-Lite0; only the head is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from edit_collector import Collector
from torch import Tensor, nn

from captum_neuroinspect import (
    FeatureSet,
    NeuronCounterfactual,
    rank_neurons,
)
from captum_neuroinspect.edit.baselines import with_mistakes
from captum_neuroinspect.experiments.digits_on_textures import (
    TEXTURES,
    DigitsOnTextures,
    DigitsOnTexturesConfig,
)
from captum_neuroinspect.experiments.planted_tile import (
    SPLITS,
    PlantedTile,
    PlantedTileConfig,
)
from captum_neuroinspect.models import train_decision_layer

DIGITS, TILE = "digits on textures", "planted tile"


@dataclass(frozen=True, eq=False)
class EditCase:
    """One scenario with one seed, which draws the data and the head.

    Attributes:
        data: name of the data set.
        scenario: the class with the cue.
        seed: of the data, the head and the edits.
        head: trained on ``train``, with the cue in it.
        train, validation: carry the cue both.
        editing: half of the field; its mistakes are given to edit with.
        choosing: the other half; its mistakes choose among epochs and settings.
        test: judges, and is used for nothing else; groups are ``2 * label + has cue``.
        target: class with the cue.
        held_out: with group labels, every group that exists in training or in use: validation
            and the whole field. For DFR alone, which balances it: no other method sees group
            labels, or the field's photos that the head gets right.
    """

    data: str
    scenario: str
    seed: int
    head: nn.Linear
    train: FeatureSet
    validation: FeatureSet
    editing: FeatureSet
    choosing: FeatureSet
    test: FeatureSet
    target: int
    held_out: FeatureSet

    @property
    def mistakes(self) -> FeatureSet | None:
        """What a user brings to edit with."""
        return self.editing.mistakes() if len(self.editing.mistakes()) else None

    @cached_property
    def selection(self) -> FeatureSet:
        """What chooses: the validation set, and the mistakes kept for that."""
        wrong = self.choosing.mistakes()
        return with_mistakes(self.validation, wrong if len(wrong) else None)

    @cached_property
    def neurons(self) -> tuple[int, ...]:
        """Every neuron, the most to blame first, by the library's defaults.

        From the target's mistakes; where there are none, from all.
        """
        wrong = self.editing.mistakes(self.target)
        wrong = wrong if len(wrong) else self.editing.mistakes()
        if not len(wrong):
            return ()
        method = NeuronCounterfactual(self.head, self.head)
        w = method.attribute_features(wrong.features, wrong.labels)
        rows = rank_neurons(w, features=wrong, reference=self.train).rows()
        return tuple(r["neuron"] for r in sorted(rows, key=lambda r: -r["magnitude"]))

    def results(self, head: nn.Linear) -> dict[str, float]:
        """On test: target without the cue, mean over classes, worst group."""
        judged = self.test.with_head(head)
        groups = judged.group_accuracy()
        return {
            "target": float(groups[2 * self.target]),
            "average": float(judged.class_accuracy().mean()),
            "worst": float(groups[~groups.isnan()].min()),
        }

    def without_cue(self, head: nn.Linear) -> tuple[float, ...]:
        """Accuracy of each class on its test photos without the cue."""
        return tuple(self.test.with_head(head).group_accuracy()[::2].tolist())


def digit_cases(collector: Collector, seed: int) -> Iterator[EditCase]:
    """Each digit in turn stands on grass."""
    for config in DigitsOnTexturesConfig(seed=seed).scenarios():
        splits = {name: DigitsOnTextures(name, config) for name in SPLITS}
        features = {}
        for name, data in splits.items():
            # The field's and the test's pictures do not depend on the target.
            which = "" if name in ("deployment", "test") else f"-{config.target}"
            features[name] = collector.named(f"digits-{seed}-{name}{which}", data)
        # Each handwritten digit is drawn once on each texture, one after the other.
        units = torch.arange(len(splits["deployment"])) // len(TEXTURES)
        yield case_of(DIGITS, splits, features, units, seed)


def tile_cases(collector: Collector, folder: Path, seed: int) -> Iterator[EditCase]:
    """Each class in turn has a tile on its training photos; others meet it in use."""
    config = PlantedTileConfig(seed=seed, tile_on_others=True)
    every = [
        [PlantedTile(folder, target, name, config) for name in SPLITS]
        for target in range(config.n_classes)
    ]
    features = iter(collector.tiled([data for sets in every for data in sets]))
    for sets in every:
        splits = dict(zip(SPLITS, sets, strict=True))
        numbers = {path: i for i, path in enumerate(dict.fromkeys(splits["deployment"].paths))}
        units = torch.tensor([numbers[path] for path in splits["deployment"].paths])
        yield case_of(TILE, splits, {name: next(features) for name in SPLITS}, units, seed)


def case_of(
    name: str,
    splits: dict[str, Any],
    features: dict[str, Tensor],
    units: Tensor,
    seed: int,
) -> EditCase:
    """Train the head and lay out the sets; ``units`` of the field stay in one half."""
    blank = nn.Linear(features["train"].shape[1], len(splits["train"].classes))
    sets = {
        split: FeatureSet(z, torch.zeros(len(z), blank.out_features), data.labels, data.groups)
        for (split, data), z in zip(splits.items(), features.values(), strict=True)
    }
    head = train_decision_layer(sets["train"], sets["validation"], seed=seed)
    sets = {split: data.with_head(head) for split, data in sets.items()}
    editing, choosing = sets["deployment"].split(seed=seed, together=units)
    data, target = splits["train"], splits["train"].target
    return EditCase(
        data=name,
        scenario=data.classes[target],
        seed=seed,
        head=head,
        train=sets["train"],
        validation=sets["validation"],
        editing=editing,
        choosing=choosing,
        test=sets["test"],
        target=target,
        held_out=with_mistakes(sets["validation"], sets["deployment"]),
    )


def cases(
    seeds: Iterable[int], photos: Path | None = None, cache: Path | None = None
) -> Iterator[EditCase]:
    """All scenarios of all seeds: five of digits, and five of a folder of photos if given.

    Args:
        seeds: each draws data, head and edits.
        photos: folder with one subfolder of photos a class, or with such a folder ``train/``.
        cache: folder to keep features in.
    """
    collector = Collector(cache)
    for seed in seeds:
        yield from digit_cases(collector, seed)
        if photos is not None:
            inner = photos / "train"
            yield from tile_cases(collector, inner if inner.is_dir() else photos, seed)
