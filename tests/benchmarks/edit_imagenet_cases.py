"""ImageNet's decision layer and marked photos: a few to edit with, others to judge by.

The photos have no ImageNet labels: what the network says of the clean photo counts as right. A
mark (writing or a tile) over it then makes the mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from blame_cases import Features, judged, moved_features
from blame_causes import causes
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captum_neuroinspect import (
    FeatureSet,
    NeuronCounterfactual,
    collect_features,
    find_head,
    rank_neurons,
)
from captum_neuroinspect.edit.baselines import with_mistakes
from captum_neuroinspect.experiments.packaged_photos import (
    CROPS_A_PHOTO,
    crops_of_packaged_photos,
    folder_photos,
)
from captum_neuroinspect.models import load_efficientnet_lite

MARKS = ("text/watermark", "text/one line", "tile/chessboard")
PHOTOS_A_CLASS = 30
N_PHOTOS_SEEN = 5  # of the eight that come with installed packages
OTHERS = ", other photos"
SURE = 0.5
PACKAGED, FOLDER = "crops of packaged photos", "photos of a folder"


@dataclass(frozen=True, eq=False)
class MarkedCase:
    """One mark on photos of one source.

    Attributes:
        name: of source and mark.
        head: of the network, never trained here.
        seed: draws the parts.
        train: clean photos to edit with.
        met: the same with the mark.
        held: clean photos that choose among epochs.
        held_met: the same with the mark.
        test: the judges by name: clean and marked photos of the same source, and of others.
    """

    name: str
    head: nn.Linear
    seed: int
    train: FeatureSet
    met: FeatureSet
    held: FeatureSet
    held_met: FeatureSet
    test: dict[str, FeatureSet]

    @property
    def mistakes(self) -> FeatureSet:
        return self.met.mistakes()

    @cached_property
    def selection(self) -> FeatureSet:
        wrong = self.held_met.mistakes()
        return with_mistakes(self.held, wrong if len(wrong) else None)

    @cached_property
    def neurons(self) -> tuple[int, ...]:
        """The most to blame first, by the library's defaults."""
        wrong = self.mistakes
        w = NeuronCounterfactual(self.head, self.head).attribute_features(
            wrong.features, wrong.labels
        )
        rows = rank_neurons(w, features=wrong, reference=self.train).rows()
        return tuple(r["neuron"] for r in sorted(rows, key=lambda r: -r["magnitude"]))

    def judges(self) -> dict[str, FeatureSet]:
        """The test sets, and of the clean ones the photos of which the network was sure."""
        found = dict(self.test)
        for kind in ("", OTHERS):
            clean = found["clean" + kind]
            share = clean.logits.softmax(1).amax(1)
            found["clean, sure" + kind] = clean.subset(share >= SURE)
        return found

    @property
    def missed(self) -> list[int]:
        """Classes with mistakes, the most missed first."""
        classes, counts = self.mistakes.labels.unique(return_counts=True)
        order: list[int] = classes[counts.argsort(descending=True, stable=True)].tolist()
        return order


@dataclass(frozen=True, eq=False)
class Source:
    """Features of the same photos, clean and with each mark; ``units``: (N,) photo of each."""

    features: Features
    units: Tensor


def sources(folder: Path | None, cache: Path | None) -> tuple[dict[str, Source], nn.Linear]:
    """Features of all photos, from the cache folder where it has them, and the head."""
    model = load_efficientnet_lite(0)
    head = find_head(model, torch.zeros(1, 3, 224, 224))
    plants = {k: v for k, v in causes().items() if any(m.startswith(k) for m in MARKS)}

    def features_of(photos: Tensor) -> Tensor:
        labels = torch.zeros(len(photos), dtype=torch.int64)
        return collect_features(model, (photos, labels), head).features

    def collected(name: str, photos: Tensor) -> Features:
        path = None if cache is None else cache / f"imagenet-{name}-{len(photos)}.safetensors"
        if path is not None and path.exists():
            return load_file(path)
        found = moved_features(features_of, photos, plants, MARKS)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(found, path)
        return found

    crops = crops_of_packaged_photos()
    units = torch.arange(len(crops)) // CROPS_A_PHOTO
    found = {PACKAGED: Source(collected("packaged", crops), units)}
    if folder is not None:
        photos, _ = folder_photos(folder, PHOTOS_A_CLASS)
        found[FOLDER] = Source(collected(folder.name, photos), torch.arange(len(photos)))
    return found, head


def marked_cases(every: dict[str, Source], head: nn.Linear, seed: int) -> Iterator[MarkedCase]:
    """Each mark on each source; photos that no part of it saw are the others."""
    for name, source in every.items():
        seen = _seen(source, seed) if name == PACKAGED else torch.ones(len(source.units)) > 0
        rest = [_rows(source, ~seen)] if not seen.all() else []
        rest += [s.features for other, s in every.items() if other != name]
        for mark in MARKS:
            yield _case(f"{name}: {mark}", _rows(source, seen), rest, mark, head, seed)


def _seen(source: Source, seed: int) -> Tensor:
    n_units = int(source.units.max()) + 1
    drawn = torch.randperm(n_units, generator=torch.Generator().manual_seed(seed))
    return torch.isin(source.units, drawn[:N_PHOTOS_SEEN])


def _rows(source: Source, which: Tensor) -> Features:
    return {name: z[which] for name, z in source.features.items()}


def _case(
    name: str, features: Features, rest: list[Features], mark: str, head: nn.Linear, seed: int
) -> MarkedCase:
    """Two fifths of the photos to edit with, one to choose, two to judge."""
    n = len(features["clean"])
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    edit, choose, test = order.split([2 * n // 5, n // 5, n - 2 * n // 5 - n // 5])
    clean, marked = _judged(features, mark, head)
    others = [_judged(one, mark, head) for one in rest]
    return MarkedCase(
        name,
        head,
        seed,
        train=clean.subset(edit),
        met=marked.subset(edit),
        held=clean.subset(choose),
        held_met=marked.subset(choose),
        test={
            "clean": clean.subset(test),
            "marked": marked.subset(test),
            "clean" + OTHERS: _together([one for one, _ in others]),
            "marked" + OTHERS: _together([two for _, two in others]),
        },
    )


def _judged(features: Features, mark: str, head: nn.Linear) -> tuple[FeatureSet, FeatureSet]:
    with torch.no_grad():
        labels = head(features["clean"]).argmax(1)
    return judged(head, features["clean"], labels), judged(head, features[mark], labels)


def _together(sets: list[FeatureSet]) -> FeatureSet:
    first, *more = sets
    for one in more:
        first = with_mistakes(first, one)
    return first
