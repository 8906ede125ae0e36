"""Which method names the neurons that a known cause works through?

EfficientNet-Lite0 on real photos. Causes are planted in photos (text, tiles, colour casts,
textures, blur, stripes: three variants each; truth: the 20 neurons that the cause moves most,
as a z-score over clean photos), or learned by a decision layer trained here (a texture under one
digit; with ``--clothing`` also tiles and text on all training photos of a class; truth: the 20
neurons through which the cue moves the class's margin). Photos come from installed packages;
``--clothing`` adds a folder with ``train/``, ``validation/`` and ``test/``, one subfolder a class.
``--unseen`` takes other causes (noise, frames, large pixels, fog) instead, which nobody looked at
while the library's formula was chosen.

Run with the package installed: ``python tests/benchmarks/blame.py [--clothing DIR]``.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from blame_cases import (
    TRAINING_PHOTOS_A_CLASS,
    Case,
    digit_sets,
    judged,
    learned_cues,
    learned_texture,
    moved_features,
    planted,
)
from blame_causes import causes, unseen_causes
from blame_methods import methods
from torch import Tensor, nn
from tqdm import tqdm

from captum_neuroinspect import collect_features, find_head
from captum_neuroinspect.experiments.digits_on_textures import DigitsOnTexturesConfig
from captum_neuroinspect.experiments.packaged_photos import crops_of_packaged_photos, folder_photos
from captum_neuroinspect.models import load_efficientnet_lite, train_decision_layer

CUES = ("tile/chessboard", "tile/brick", "tile/dots", "text/watermark")
TARGET_DIGITS = (4, 1, 8)


def collect(clothing: Path | None, unseen: bool = False) -> dict[str, Any]:
    """All features that the cases are made of: the slow part."""
    plants = unseen_causes() if unseen else causes()
    model = load_efficientnet_lite(0)
    head = find_head(model, torch.zeros(1, 3, 224, 224))

    def features_of(photos: Tensor) -> Tensor:
        labels = torch.zeros(len(photos), dtype=torch.int64)
        return collect_features(model, (photos, labels), head).features

    found: dict[str, Any] = {
        "head": head,
        "crops": moved_features(features_of, crops_of_packaged_photos(), plants),
        "digits": {
            digit: digit_sets(model, head, DigitsOnTexturesConfig(target=digit))
            for digit in (() if unseen else TARGET_DIGITS)
        },
    }
    if clothing is not None:
        photos, labels = folder_photos(clothing / "train", TRAINING_PHOTOS_A_CLASS)
        found["train"] = moved_features(features_of, photos, plants, CUES), labels
        photos, labels = folder_photos(clothing / "validation")
        found["validation"] = features_of(photos), labels
        photos, labels = folder_photos(clothing / "test")
        found["test"] = moved_features(features_of, photos, plants), labels
    return found


def cases(found: dict[str, Any], seed: int) -> Iterator[Case]:
    """Every case of one seed, which draws splits and heads."""
    head, crops = found["head"], found["crops"]
    # Crops have no labels: what the network says of the clean crop counts as right.
    labels = head(crops["clean"]).argmax(1)
    yield from planted("packaged photos", crops, labels, head, None, seed)
    for digit, (sets, textures) in found["digits"].items():
        config = DigitsOnTexturesConfig(target=digit)
        yield from learned_texture(sets, textures, seed, config.digits.index(digit))
    if "train" in found:
        yield from clothing_cases(found, seed)


def clothing_cases(found: dict[str, Any], seed: int) -> Iterator[Case]:
    train, labels = found["train"]
    n_classes = int(labels.max()) + 1
    blank = nn.Linear(train["clean"].shape[1], n_classes)
    clean, validation = judged(blank, train["clean"], labels), judged(blank, *found["validation"])
    head = train_decision_layer(clean, validation, seed=seed)
    test, test_labels = found["test"]
    right = clean.with_head(head).correct()
    yield from planted("clothing", test, test_labels, head, right, seed)
    deployment = judged(
        blank,
        torch.cat([found["validation"][0], test["clean"]]),
        torch.cat([found["validation"][1], test_labels]),
    )
    yield from learned_cues(train, labels, deployment, seed)


def scores(order: list[int], true: set[int]) -> Tensor:
    """P@5, P@10, P@20 and average precision."""
    hits = torch.tensor([float(neuron in true) for neuron in order])
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    at = [hits[:k].sum() / k for k in (5, 10, 20)]
    return torch.tensor([*at, (precision * hits).sum() / len(true)])


def run(found: dict[str, Any], n_seeds: int) -> dict[str, dict[str, list[Tensor]]]:
    """Method -> cause -> scores of each case."""
    results: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    every = [case for seed in range(n_seeds) for case in cases(found, seed)]
    for case in tqdm(every, "cases"):
        for name, method in methods().items():
            results[name][case.cause].append(scores(method(case), case.true_neurons))
    return results


def print_tables(results: dict[str, dict[str, list[Tensor]]]) -> None:
    names = list(next(iter(results.values())))
    print("| method | P@5 | P@10 | P@20 | AP | P@10 of its worst cause |")
    print("| --- | --- | --- | --- | --- | --- |")
    for method, by_cause in results.items():
        means = torch.stack([torch.stack(by_cause[c]).mean(0) for c in names])
        each = torch.stack([s for c in names for s in by_cause[c]]).std(0)
        cells = [f"{m:.2f} ± {s:.2f}" for m, s in zip(means.mean(0), each, strict=True)]
        print(f"| {method} | {' | '.join(cells)} | {means[:, 1].min():.2f} |")
    shown = list(results)
    captum = [m for m in shown if m.startswith("Captum")]
    print("\nP@10 by cause (mean ± spread over variants and seeds)\n")
    print("| cause | cases | ours | paper | best of Captum | which |")
    print("| --- | --- | --- | --- | --- | --- |")
    for cause in names:
        at_10 = {m: torch.stack(results[m][cause])[:, 1] for m in shown}
        best = max(captum, key=lambda m: float(at_10[m].mean()))
        cells = [_cell(at_10[m]) for m in (shown[0], "paper: SGD, top-5 votes", best)]
        print(f"| {cause} | {len(at_10[best])} | {' | '.join(cells)} | {best[8:]} |")


def _cell(values: Tensor) -> str:
    return f"{values.mean():.2f} ± {values.std(correction=0):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clothing", type=Path, help="folder with train/, validation/, test/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--unseen",
        action="store_true",
        help="only causes that played no part when the defaults were chosen",
    )
    arguments = parser.parse_args()
    # DeepLift says that it registers hooks.
    warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
    print_tables(run(collect(arguments.clothing, arguments.unseen), arguments.seeds))


if __name__ == "__main__":
    main()
