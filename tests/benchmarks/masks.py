"""Which map of a neuron localises what it looks for, where ReLU6 saturates.

EfficientNet-Lite0. An object is scaled to ``SIDE`` pixels and pasted at a random place of a photo
that shows something else: a crop of a packaged photo that the network is sure of, whose neurons
are those that contribute most to its class; or an illusion of a (neuron, class) pair. Then maps of
the neuron are compared in the same pictures. A row for each map:

* pointing: how often the highest pixel lies in the object (chance: the object's share of the area);
* inside: how much of the mask lies in the object; IoU of mask and object;
* area: the mask's mean share of the picture; 10-60 %: how often it is in between;

In the table "own" the picture is the illusion as it is, and only the area counts. The last table is
the core relevance of illusions with the masks of two of these maps: its size, its spread, and how
often it says nothing (below 0.005).

Run with the package installed: ``python tests/benchmarks/masks.py [--pairs N] [--seed N]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_neuroinspect import collect_features, render_illusions
from captum_neuroinspect.analysis import core_relevance
from captum_neuroinspect.experiments.packaged_photos import crops_of_packaged_photos
from captum_neuroinspect.models import load_efficientnet_lite
from captum_neuroinspect.optvis import activation_mask

SIZE, SIDE = 224, 96
GROUP = 4  # neurons of a class
OTHERS = 20  # a class's neurons that are the contrast


class Pasted(NamedTuple):
    """Pictures ``(N, 3, H, W)``, where the object is, bool ``(N, H, W)``, neurons and classes."""

    images: Tensor
    inside: Tensor
    neurons: Tensor
    classes: Tensor


class Passed(NamedTuple):
    """What layers of Lite0 give; ``before`` and ``after`` its last rectifier."""

    early: Tensor  # (N, 112, 14, 14)
    late: Tensor  # (N, 320, 7, 7)
    before: Tensor  # (N, 1280, 7, 7)
    after: Tensor
    others: Tensor  # (N, OTHERS) neurons of the class


def passed(model: nn.Module, images: Tensor, classes: Tensor) -> Passed:
    network = model[1]
    layers = (network._blocks[10], network._blocks[-1], network._bn1, network._swish)
    kept: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: object, output: Tensor) -> Tensor:
        kept[module] = output
        return output.clone()  # what follows may work in place

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    model(images.requires_grad_())
    for hook in hooks:
        hook.remove()
    others = network._fc.weight[classes].topk(OTHERS, dim=1).indices
    return Passed(*(kept[layer] for layer in layers), others)


def of_neuron(maps: Tensor, neurons: Tensor) -> Tensor:
    return maps[torch.arange(len(maps)), neurons]


def contrast(maps: Tensor, found: Passed, neurons: Tensor) -> Tensor:
    """A neuron's map less the mean of the others of its class, each in its own spread."""
    scaled = (maps - maps.mean((2, 3), keepdim=True)) / maps.std((2, 3), keepdim=True).clamp(
        min=1e-6
    )
    others = torch.stack([m[row] for m, row in zip(scaled, found.others, strict=True)]).mean(1)
    return of_neuron(scaled, neurons) - others


def gradient(unit: Tensor, layer: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(unit.sum(), layer, retain_graph=True)
    return (found * layer).sum(1).relu()


def both(found: Passed, neurons: Tensor) -> Tensor:
    """Before the rectifier, and the finer gradient x activation of it, in equal spread."""
    coarse = of_neuron(found.before, neurons)
    fine = gradient(coarse, found.early)
    coarse = F.interpolate(coarse.unsqueeze(1), fine.shape[1:], mode="bilinear").squeeze(1)
    return standard(coarse) + standard(fine)


def standard(maps: Tensor) -> Tensor:
    centred = maps - maps.mean((1, 2), keepdim=True)
    return centred / maps.std((1, 2), keepdim=True).clamp(min=1e-6)


MAPS: dict[str, Callable[[Passed, Tensor], Tensor]] = {
    "activation (paper)": lambda p, n: of_neuron(p.after, n),
    "before the rectifier": lambda p, n: of_neuron(p.before, n),
    "gradient x activation, 7 x 7": lambda p, n: gradient(of_neuron(p.after, n), p.late),
    "gradient x activation, 14 x 14": lambda p, n: gradient(of_neuron(p.after, n), p.early),
    "the same of what comes before": lambda p, n: gradient(of_neuron(p.before, n), p.early),
    "before, and that": both,
    "contrast of activations": lambda p, n: contrast(p.after, p, n),
    "contrast before the rectifier": lambda p, n: contrast(p.before, p, n),
}


def pasted(objects: Tensor, photos: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Objects on photos, and where they are."""
    small = F.interpolate(objects, SIDE, mode="bilinear", antialias=True).clamp(0, 1)
    images, inside = photos.clone(), torch.zeros(len(photos), SIZE, SIZE, dtype=torch.bool)
    for i, one in enumerate(small):
        top, left = torch.randint(SIZE - SIDE + 1, (2,), generator=rng).tolist()
        images[i, :, top : top + SIDE, left : left + SIDE] = one
        inside[i, top : top + SIDE, left : left + SIDE] = True
    return images, inside


def photo_objects(model: nn.Module, n: int, rng: torch.Generator) -> tuple[Tensor, Pasted]:
    """Crops that the network is sure of, on crops of other classes; the crops too."""
    crops = crops_of_packaged_photos()
    crops = crops[torch.randperm(len(crops), generator=rng)[: 6 * n]]
    with torch.no_grad():
        sure, classes = torch.cat([model(part).softmax(1) for part in crops.split(32)]).max(1)
        chosen = sure.topk(n // GROUP).indices
        features = model[1]._avg_pooling(model[1].extract_features(model[0](crops[chosen])))
    speaks = model[1]._fc.weight[classes[chosen]] * features.flatten(1)
    neurons = speaks.topk(GROUP, dim=1).indices.flatten()
    rows = chosen.repeat_interleave(GROUP)
    photos = crops[other_photos(classes, classes[rows], rng)]
    images, inside = pasted(crops[rows], photos, rng)
    return crops, Pasted(images, inside, neurons, classes[rows])


def other_photos(of_photos: Tensor, classes: Tensor, rng: torch.Generator) -> Tensor:
    """A photo of another class for each."""
    weights = (of_photos.unsqueeze(0) != classes.unsqueeze(1)).float()
    return torch.multinomial(weights, 1, generator=rng).flatten()


def illusion_objects(
    model: nn.Module, crops: Tensor, n: int, n_steps: int, rng: torch.Generator
) -> tuple[Pasted, Pasted]:
    """Illusions on photos, and the illusions as they are."""
    head = model[1]._fc
    classes = torch.randperm(1000, generator=rng)[: n // GROUP].repeat_interleave(GROUP)
    neurons = head.weight[classes[::GROUP]].topk(GROUP, dim=1).indices.flatten()
    made = render_illusions(
        model, neurons, classes, size=SIZE, n_steps=n_steps, seed=7, progress=False
    ).images
    photos = crops[torch.randint(len(crops), (n,), generator=rng)]
    whole = torch.ones(n, SIZE, SIZE, dtype=torch.bool)
    return Pasted(*pasted(made, photos, rng), neurons, classes), Pasted(
        made, whole, neurons, classes
    )


def judged(maps: Tensor, inside: Tensor) -> dict[str, float]:
    """Numbers of maps ``(N, h, w)`` of pictures whose object is at ``inside``."""
    large = F.interpolate(maps.unsqueeze(1), SIZE, mode="bilinear").flatten(1)
    inside = inside.flatten(1)
    mask = activation_mask(maps, SIZE, floor=0.0).flatten(1) > 0.5
    area = mask.float().mean(1)
    both = (mask & inside).sum(1)
    return {
        "pointing": inside.gather(1, large.argmax(1, keepdim=True)).float().mean().item(),
        "inside": (both / mask.sum(1).clamp(min=1)).mean().item(),
        "IoU": (both / (mask | inside).sum(1)).mean().item(),
        "area": area.mean().item(),
        "10-60 %": ((area >= 0.1) & (area <= 0.6)).float().mean().item(),
    }


def core_relevances(
    model: nn.Module, crops: Tensor, case: Pasted, n_steps: int
) -> dict[str, Tensor]:
    """Scores ``(N,)`` of illusions in classes that the crops show, by what masks are made of."""
    head = model[1]._fc
    made = render_illusions(
        model, case.neurons, case.classes, size=SIZE, n_steps=n_steps, seed=7, progress=False
    )
    with torch.no_grad():
        labels = torch.cat([model(part).argmax(1) for part in crops.split(32)])
    features = collect_features(model, (crops, labels), head, progress=False)
    found = passed(model, made.images.clone(), case.classes)
    scores = {}
    for name in ("activation (paper)", "before the rectifier"):
        maps = MAPS[name](found, case.neurons).detach()
        masked = replace(made, masks=activation_mask(maps, SIZE))
        scores[name] = core_relevance(model, head, masked, features, score="difference")
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    model, rng = load_efficientnet_lite(0).requires_grad_(False), torch.Generator()
    rng.manual_seed(asked.seed)
    crops, photos = photo_objects(model, asked.pairs, rng)
    on_photos, own = illusion_objects(model, crops, asked.pairs, asked.steps, rng)
    print(f"object: {(SIDE / SIZE) ** 2:.0%} of the area; {asked.pairs} pairs, seed {asked.seed}")
    for title, case in {"photos": photos, "illusions": on_photos, "own": own}.items():
        print(f"\n| {title} | pointing | inside | IoU | area | 10-60 % |\n" + "| --- " * 6 + "|")
        found = passed(model, case.images, case.classes)
        for name, make in MAPS.items():
            numbers = judged(make(found, case.neurons).detach(), case.inside)
            print(f"| {name} | " + " | ".join(f"{value:.0%}" for value in numbers.values()) + " |")
    core = core_relevances(model, crops, Pasted(*(v[:12] for v in photos)), asked.steps)
    print("\n| core relevance | mean size | spread | says nothing |\n" + "| --- " * 4 + "|")
    for name, scores in core.items():
        size, silent = scores.abs().mean(), (scores.abs() < 0.005).float().mean()
        print(f"| {name} | {size:.3f} | {scores.std():.3f} | {silent:.0%} |")


if __name__ == "__main__":
    main()
