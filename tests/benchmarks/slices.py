"""Are the mistakes of a class with several planted causes parted by cause, and those of one not?

EfficientNet-Lite0. *Packaged*: crops of eight photos that come with scikit-image, scikit-learn and
matplotlib; a class is what ImageNet's decision layer says of most clean crops of a photo, its
reference other crops of which it says the same. ``--clothing`` adds a folder with ``train/``, one
subfolder a class: 60 photos a class train a decision layer, 50 others are deployment. One, two or
three causes of six are planted in equal parts of a class's deployment photos that are right when
clean; no photo has two. ``--learned`` takes the heads of ``edit.py`` instead, which learned a
cue: all mistakes of its class have one cause, though digits miss grass on brick and on gravel.
Truth of a cause: the 20 neurons that it moves most, as a z-score over clean photos; and those
through which it lowers the class's logit most against the mean of the others.

Run with the package installed: ``python tests/benchmarks/slices.py [--clothing DIR] [--variant 0]
[--seed 0] [--learned] [--cache DIR]``.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from blame_cases import judged, margin
from blame_causes import Cause, causes
from safetensors.torch import load_file, save_file
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from captum_neuroinspect import (
    FeatureSet,
    NeuronCounterfactual,
    collect_features,
    find_head,
    rank_neurons,
)
from captum_neuroinspect.attr import Reference, slice_mistakes
from captum_neuroinspect.experiments.packaged_photos import crop, folder_photos, packaged_photos
from captum_neuroinspect.models import load_efficientnet_lite, train_decision_layer

N_TRUE, N_JUDGED = 20, 10
FEWEST = 8  # mistakes of each cause
N_CROPS, N_TRAIN, N_DEPLOYMENT = 50, 60, 50

Labels = Callable[[Tensor, FeatureSet, FeatureSet], np.ndarray]


@dataclass(frozen=True, eq=False)
class SlicedCase:
    """Mistakes of a class, the cause of each, and the neurons of each cause.

    Attributes:
        data: where they come from.
        mistakes: M samples.
        causes: ``(M,)`` number of the cause of each.
        truths: of each cause the neurons that it moves, and through which it lowers the class;
            empty where they are not known.
        head: the decision layer.
        reference: what it was trained on, or other samples that it gets right.
    """

    data: str
    mistakes: FeatureSet
    causes: Tensor
    truths: tuple[tuple[frozenset[int], frozenset[int]], ...]
    head: nn.Linear
    reference: FeatureSet

    @property
    def n_causes(self) -> int:
        return int(self.causes.max()) + 1


def planted_cases(data: str, found: dict[str, Tensor], head: nn.Linear | None, seed: int):
    """One, two and three causes in each class."""
    if head is None:
        blank = nn.Linear(found["train"].shape[1], int(found["train labels"].max()) + 1)
        train = judged(blank, found["train"], found["train labels"])
        head = train_decision_layer(*train.split(0.8, seed=seed), seed=seed)
        reference, classes = train.with_head(head), found["labels"]
        is_right = judged(head, found["clean"], classes).is_correct
    else:  # crops have no labels: what the network says of the clean one
        said = head(found["train"]).argmax(1)
        reference, classes = judged(head, found["train"], said), head(found["clean"]).argmax(1)
        is_right = torch.ones(len(classes), dtype=torch.bool)
    keys = sorted(key for key in found if "/" in key)  # a file has an order of its own
    for photo in found["labels"].unique().tolist():
        target = int(classes[found["labels"] == photo].mode().values)
        rows = ((classes == target) & is_right).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
        for n in (1, 2, 3):
            for chosen in itertools.combinations(keys, n):
                case = _planted(data, found, head, reference, target, rows, chosen)
                if case is not None:
                    yield case


def _planted(
    data: str,
    found: dict[str, Tensor],
    head: nn.Linear,
    reference: FeatureSet,
    target: int,
    rows: Tensor,
    chosen: tuple[str, ...],
) -> SlicedCase | None:
    parts = rows.chunk(len(chosen))
    if len(parts) < len(chosen):
        return None
    z = torch.cat([found[key][part] for key, part in zip(chosen, parts, strict=True)])
    cause = torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])
    every = judged(head, z, torch.full((len(z),), target))
    wrong = ~every.is_correct
    if cause[wrong].bincount(minlength=len(chosen)).min() < FEWEST:
        return None
    spread, moves = (
        found["clean"].std(0).clamp(min=1e-6),
        (found[k] - found["clean"] for k in chosen),
    )
    means = [move[rows].mean(0) for move in moves]
    lowers = -margin(head, target)
    truths = tuple((_largest((move / spread).abs()), _largest(move * lowers)) for move in means)
    return SlicedCase(data, every.subset(wrong), cause[wrong], truths, head, reference)


def _largest(size: Tensor) -> frozenset[int]:
    return frozenset(size.topk(N_TRUE).indices.tolist())


def learned_cases(photos: Path | None, cache: Path | None, seed: int) -> Iterator[SlicedCase]:
    from edit_cases import cases

    for case in cases((seed,), photos, cache):
        wrong = case.editing.mistakes(case.target)
        if len(wrong) >= FEWEST:
            one = torch.zeros(len(wrong), dtype=torch.int64)
            yield SlicedCase(f"learned: {case.data}", wrong, one, (), case.head, case.train)


def plants(variant: int) -> dict[str, Cause]:
    """One variant of each of six causes."""
    return {
        f"{cause}/{name}": plant
        for cause, variants in causes().items()
        for name, plant in (list(variants.items())[variant],)
    }


def collect(photos: tuple[Tensor, Tensor, Tensor, Tensor], variant: int) -> dict[str, Tensor]:
    """Features of train photos, and of deployment photos clean and with each cause: the slow part.

    Args:
        photos: of train, their labels, of deployment, their labels.
        variant: of each cause.
    """
    model = load_efficientnet_lite(0)
    head = find_head(model, torch.zeros(1, 3, 224, 224))

    def features_of(given: Tensor) -> Tensor:
        labels = torch.zeros(len(given), dtype=torch.int64)
        return collect_features(model, (given, labels), head).features

    train, train_labels, deployment, labels = photos
    found = {"train": features_of(train), "train labels": train_labels, "labels": labels}
    found["clean"] = features_of(deployment)
    return found | {key: features_of(plant(deployment)) for key, plant in plants(variant).items()}


def packaged(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(7 + seed)
    crops = [[crop(photo, rng) for _ in range(2 * N_CROPS)] for photo in packaged_photos()]
    labels = torch.arange(len(crops)).repeat_interleave(N_CROPS)
    train = torch.stack([one for photo in crops for one in photo[:N_CROPS]])
    others = torch.stack([one for photo in crops for one in photo[N_CROPS:]])
    return train, labels, others, labels.clone()


def clothing(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    photos, labels = folder_photos(folder / "train", N_TRAIN + N_DEPLOYMENT)
    place = torch.cat([torch.arange(int((labels == c).sum())) for c in labels.unique()])
    train = place < N_TRAIN
    return photos[train], labels[train], photos[~train], labels[~train]


def ways() -> dict[str, Labels]:
    """By name: rows compared (unit contrasts), mistakes and reference in, a slice a mistake out."""
    return {
        "auto: a gap that evenly spread mistakes lack": lambda w, wrong, right: slice_mistakes(
            w, wrong, right
        ).labels.numpy(),
        "k-means, largest silhouette above 0.25": by_silhouette,
        "Gaussian mixture of 5 components, by BIC": by_bic,
        "two, always": lambda w, wrong, right: slice_mistakes(
            w, wrong, right, n_slices=2
        ).labels.numpy(),
        "one, always: the pooled ranking": lambda w, wrong, right: np.zeros(len(w), dtype=int),
    }


def by_silhouette(w: Tensor, wrong: FeatureSet, right: FeatureSet) -> np.ndarray:
    rows = _unit_contrast(w, wrong, right)
    tried = [KMeans(k, n_init=10, random_state=0).fit(rows).labels_ for k in (2, 3, 4)]
    scores = [silhouette_score(rows, labels, metric="cosine") for labels in tried]
    best = int(np.argmax(scores))
    return tried[best] if scores[best] > 0.25 else np.zeros(len(rows), dtype=int)


def by_bic(w: Tensor, wrong: FeatureSet, right: FeatureSet) -> np.ndarray:
    rows = _unit_contrast(w, wrong, right)
    u, s, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    places = (u * s)[:, :5] / s[:5].mean() * len(rows) ** 0.5
    mixtures = [
        GaussianMixture(k, covariance_type="diag", reg_covar=1e-2, n_init=3, random_state=0)
        for k in (1, 2, 3, 4)
    ]
    best = min((mixture.fit(places) for mixture in mixtures), key=lambda one: one.bic(places))
    return best.predict(places)


def _unit_contrast(w: Tensor, wrong: FeatureSet, right: FeatureSet) -> np.ndarray:
    contrast = Reference.of(right).for_mistakes(w).contrast(w, wrong.features, wrong.labels)
    return torch.nn.functional.normalize(contrast).double().numpy()


def precision(case: SlicedCase, w: Tensor, labels: np.ndarray) -> np.ndarray:
    """P@10 of a cause's neurons, by both truths, in the ranking of the slice with most of it."""
    first = {}
    for one in np.unique(labels):
        rows = torch.from_numpy(labels == one)
        part = case.mistakes.subset(rows)
        ranking = rank_neurons(w[rows], features=part, reference=case.reference)
        first[one] = [int(row["neuron"]) for row in ranking.by_magnitude()[:N_JUDGED]]
    found = []
    for cause, truths in enumerate(case.truths):
        mine = np.bincount(labels[case.causes.numpy() == cause]).argmax()
        found.append([len(truth & set(first[mine])) / N_JUDGED for truth in truths])
    return np.mean(found, axis=0)


def purity(case: SlicedCase, labels: np.ndarray) -> float:
    """Share of the mistakes that have the most frequent cause of their slice."""
    of = case.causes.numpy()
    return sum(np.bincount(of[labels == one]).max() for one in np.unique(labels)) / len(of)


Found = dict[tuple[str, str, int], list[tuple[int, float, np.ndarray]]]


def measured(every: list[SlicedCase]) -> Found:
    """Data, way and number of causes -> number of slices, purity and P@10 of each case."""
    found = defaultdict(list)
    for case in every:
        solver = NeuronCounterfactual(case.head, case.head)
        w = solver.attribute_features(case.mistakes.features, case.mistakes.labels)
        by_way = {name: way(w, case.mistakes, case.reference) for name, way in ways().items()}
        if case.truths:
            by_way["the true causes"] = case.causes.numpy()
        for name, labels in by_way.items():
            p_at_10 = precision(case, w, labels) if case.truths else np.full(2, np.nan)
            n = len(np.unique(labels))
            found[case.data, name, case.n_causes].append((n, purity(case, labels), p_at_10))
    return found


def print_table(found: Found) -> None:
    titles = ("data", "slices", "causes", "cases", "right number", "too many", "purity")
    titles += ("P@10, moved", "P@10, lower the class")
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    for (data, name, n_causes), rows in sorted(
        found.items(), key=lambda item: (item[0][0], item[0][2])
    ):
        numbers = np.array([row[0] for row in rows])
        exact, more = (numbers == n_causes).mean(), (numbers > n_causes).mean()
        pure, p_at_10 = (np.mean([row[i] for row in rows], axis=0) for i in (1, 2))
        cells = f"{100 * exact:.0f} % | {100 * more:.0f} % | {pure:.2f}"
        cells += "".join(" | " if np.isnan(p) else f" | {p:.2f}" for p in p_at_10)
        print(f"| {data} | {name} | {n_causes} | {len(rows)} | {cells} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clothing", type=Path, help="folder with train/")
    parser.add_argument("--variant", type=int, default=0, choices=(0, 1, 2), help="of each cause")
    parser.add_argument("--seed", type=int, default=0, help="draws crops, parts and heads")
    parser.add_argument("--learned", action="store_true", help="heads that learned one cue")
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    arguments = parser.parse_args()

    def kept(name: str, photos: Callable[[], tuple[Tensor, Tensor, Tensor, Tensor]]):
        path = arguments.cache and arguments.cache / f"{name}.safetensors"
        if path and path.exists():
            return load_file(path)
        found = collect(photos(), arguments.variant)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({key: one.contiguous() for key, one in found.items()}, path)
        return found

    seed, variant = arguments.seed, arguments.variant
    if arguments.learned:
        print_table(measured(list(learned_cases(arguments.clothing, arguments.cache, seed))))
        return
    imagenet = find_head(load_efficientnet_lite(0), torch.zeros(1, 3, 224, 224))
    found = kept(f"slices-crops-{variant}-{seed}", lambda: packaged(seed))
    every = list(planted_cases("packaged photos", found, imagenet, seed))
    if arguments.clothing is not None:
        found = kept(f"slices-clothing-{variant}", lambda: clothing(arguments.clothing))
        every += planted_cases("clothing", found, None, seed)
    print_table(measured(every))


if __name__ == "__main__":
    main()
