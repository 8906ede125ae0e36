"""The paper's figures of illusions and its Table V, with the package's defaults.

EfficientNet-Lite0 is inspected, Lite2 with MiniLM guides, Lite1 judges; 224 px. A table for each
part, and a contact sheet with ``--sheets``:

* ``classes`` (Figure 3): neuron 0 in the classes to which it has the largest weights;
* ``terms`` (Figure 4): the neuron alone, with the class, with the encoder;
* ``gamma`` (Figure 9): a neuron in its classes while the logit's weight grows, no encoder;
* ``steps`` (Table V): activation and time by the number of steps, no encoder;
* ``clothes`` and ``digits`` (Figure 8): a decision layer that was trained here on photos which are
  not ImageNet's, whose classes the guide does not know. Judge: a decision layer on Lite1's features
  that was trained on the same photos.

``--keep`` is a folder of finished illusions: the same call goes on where it was interrupted. Run
with the package installed: ``python tests/benchmarks/illusion_figures.py --parts classes terms
[--clothing DIR] [--sheets DIR] [--keep DIR]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from illusion_judges import resized, shown
from illusion_looks import looks
from torch import Tensor, nn

from captum_neuroinspect import FeatureSet, find_head
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.experiments.digits_on_textures import (
    DigitsOnTextures,
    DigitsOnTexturesConfig,
)
from captum_neuroinspect.experiments.illusion_draws import Draw, plain, rendered
from captum_neuroinspect.experiments.packaged_photos import crops_of_packaged_photos, folder_photos
from captum_neuroinspect.models import (
    imagenet_class_names,
    load_efficientnet_lite,
    train_decision_layer,
)
from captum_neuroinspect.optvis import Illusions, classes_of_neurons, neurons_of_classes

SIZE, JUDGED_AT = 224, 240
GAMMAS = (0.1, 0.25, 0.5, 1.0)
STEPS = (150, 300, 650)  # the paper's Table V has 300 to 650
NEURON = 0  # Figure 3 shows neuron 0 (of ResNet-18)
A_CLASS = 30  # photos of clothes for training; as many others are left for the test
COLUMNS = ("pictures", "pairs", "CPU s a pair", "activation", "logit", "Lite1 says so", "contrast")


@dataclass(frozen=True)
class Case:
    """A network to inspect, and what judges its illusions."""

    model: nn.Module
    head: nn.Linear
    judge: Callable[[Tensor], Tensor]  # images -> the class that it sees in each
    names: Sequence[str]
    natural: Tensor  # (F,) mean of the ten strongest activations on photos
    encoder: LabelSpaceEncoder
    remark: str = ""

    @property
    def plainly(self) -> dict[str, Any]:
        return {"class_names": self.names, "size": SIZE}

    @property
    def guided(self) -> dict[str, Any]:
        return {**self.plainly, "encoder": self.encoder}


@dataclass(frozen=True)
class Row:
    """Illusions that are rendered together."""

    title: str
    draw: Draw
    arguments: dict[str, Any] = field(default_factory=dict)


def imagenet(encoder: LabelSpaceEncoder) -> Case:
    model, judge = load_efficientnet_lite(0), load_efficientnet_lite(1)
    head = find_head(model, torch.rand(1, 3, SIZE, SIZE))

    def sees(images: Tensor) -> Tensor:
        return shown(judge, resized(images, JUDGED_AT)).logits.argmax(1)

    natural = strongest(shown(model, crops_of_packaged_photos()).features)
    return Case(model, head, sees, imagenet_class_names(), natural, encoder)


def strongest(features: Tensor) -> Tensor:
    return features.topk(10, dim=0).values.mean(0)


def elsewhere(
    encoder: LabelSpaceEncoder,
    names: Sequence[str],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
) -> Case:
    """Lite0 with a new decision layer, and one on Lite1's features to judge."""
    heads, shares, features = [], [], []
    for number in (0, 1):
        network = load_efficientnet_lite(number)
        sets = [
            FeatureSet(
                shown(network, photos).features, torch.zeros(len(labels), len(names)), labels
            )
            for photos, labels in (train, test)
        ]
        heads.append(train_decision_layer(*sets))
        logits = heads[-1](sets[1].features)
        shares.append(float((logits.argmax(1) == test[1]).float().mean()))
        features.append(sets[0].features)
    model, judge = load_efficientnet_lite(0), load_efficientnet_lite(1)
    model[1]._fc = heads[0]

    def sees(images: Tensor) -> Tensor:
        return heads[1](shown(judge, resized(images, JUDGED_AT)).features).argmax(1)

    remark = f"accuracy on other photos: {shares[0]:.0%}, of the judge {shares[1]:.0%}"
    return Case(model, heads[0], sees, names, strongest(features[0]), encoder, remark)


def clothes(encoder: LabelSpaceEncoder, folder: Path) -> Case:
    names = sorted(place.name for place in (folder / "train").iterdir())
    train = folder_photos(folder / "train", A_CLASS)
    return elsewhere(encoder, names, train, folder_photos(folder / "validation", A_CLASS))


def digits(encoder: LabelSpaceEncoder) -> Case:
    config = DigitsOnTexturesConfig()
    parts = [DigitsOnTextures(split, config) for split in ("train", "validation")]
    photos = [torch.stack([part[i][0] for i in range(len(part))]) for part in parts]
    train, test = zip(photos, (part.labels for part in parts), strict=True)
    return elsewhere(encoder, parts[0].classes, train, test)


def pairs_of(head: nn.Linear, n: int, seed: int) -> Draw:
    """Classes at random, each with the neuron of its largest weight."""
    order = torch.randperm(head.out_features, generator=torch.Generator().manual_seed(seed))
    classes = order[:n].tolist()
    neurons, _ = neurons_of_classes(head, classes, n=1)
    return Draw(seed, list(neurons), classes)


def rows_of(part: str, case: Case, n: int, seed: int) -> Iterator[Row]:
    several = pairs_of(case.head, min(n, case.head.out_features), seed)
    one = Draw(seed, *map(list, classes_of_neurons(case.head, NEURON, n=n)))
    if part == "classes":
        yield Row("CLIP-Illusion", one, case.guided)
    elif part == "terms":
        yield Row("neuron alone (FV)", several, {"is_neuron_alone": True, "size": SIZE})
        yield Row("neuron + class", several, case.plainly)
        yield Row("neuron + class + CLIP", several, case.guided)
    elif part == "gamma":
        for gamma in GAMMAS:
            yield Row(f"gamma {gamma}", one, {**case.plainly, "gamma": gamma})
    elif part == "steps":
        for n_steps in STEPS:
            yield Row(f"{n_steps} steps", several, {**case.plainly, "n_steps": n_steps})
    else:
        yield Row(f"{part}, no CLIP", several, case.plainly)
        yield Row(f"{part}, CLIP-Illusion", several, case.guided)


def print_row(row: Row, found: Illusions, case: Case) -> None:
    n = len(found)
    activation = (found.activations / case.natural[row.draw.neurons]).mean()
    says = case.judge(found.images) == torch.tensor(row.draw.classes)
    logit = "" if found.logits is None else f"{found.logits.mean():.1f}"
    cells = (
        *(row.title, str(n), f"{found.settings['cpu_seconds'] / n:.1f}", f"{activation:.2f} x"),
        *(logit, f"{int(says.sum())} of {n}", f"{looks(found.images)['contrast']:.3f}"),
    )
    print(f"| {' | '.join(cells)} |", flush=True)


def write_sheet(part: str, rows: list[Row], made: list[Illusions], folder: Path | None) -> None:
    """All rows of a part on one sheet, a row of pictures each."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    labels = [
        f"{row.title}\n{caption}"
        for row, found in zip(rows, made, strict=True)
        for caption in found.captions()
    ]
    images = torch.cat([found.images for found in made])
    activations = torch.cat([found.activations for found in made])
    neurons = tuple(neuron for found in made for neuron in found.neurons)
    together = Illusions(images, None, activations, None, None, neurons)
    n_columns = len(made[0]) if len(made) > 1 else 4
    sheet = together.grid(columns=n_columns, labels=labels).convert("RGB")
    sheet.thumbnail((1280, 4000))
    sheet.save(folder / f"{plain(part)}.jpg", quality=80)


PARTS = ("classes", "terms", "gamma", "steps", "clothes", "digits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS[:-2]))
    parser.add_argument("--pairs", type=int, default=4, help="of each row")
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--clothing", type=Path, help="folders train and validation of clothes")
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each part")
    parser.add_argument("--keep", type=Path, help="folder that keeps finished illusions")
    asked = parser.parse_args()
    if "clothes" in asked.parts and asked.clothing is None:
        parser.error("--parts clothes needs --clothing")
    encoder = LabelSpaceEncoder.pretrained(image_size=SIZE).softened()
    for part in asked.parts:
        if part == "clothes":
            case = clothes(encoder, asked.clothing)
        else:
            case = digits(encoder) if part == "digits" else imagenet(encoder)
        print(f"\n{part}{': ' if case.remark else ''}{case.remark}\n")
        print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
        rows, made = list(rows_of(part, case, asked.pairs, asked.seed)), []
        for row in rows:
            name = f"{part} {row.title} {asked.pairs}"
            made.append(rendered(case.model, row.draw, asked.keep, name, **row.arguments))
            print_row(row, made[-1], case)
        write_sheet(part, rows, made, asked.sheets)


if __name__ == "__main__":
    main()
