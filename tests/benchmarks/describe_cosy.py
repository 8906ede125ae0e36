"""Do images of a described concept activate the neuron? As CoSy asks, with images made here.

The units are neurons of EfficientNet-Lite0, drawn at random. The concepts are classes of ImageNet
of which there are photos. Each method says one concept of each unit, by half of the photos. Then
images of that concept are shown to the network, and the unit's activations A are compared with
those on control images (CoSy, Kopf et al. 2024, https://arxiv.org/abs/2405.20331):

- AUROC: probability that an image of the concept activates the unit more than a control image;
- MAD, the mean activation difference: (mean of A on the concept - mean on control) / standard
  deviation on control.

CoSy draws images of a concept with a diffusion model. Here they are, first, photos of the other
half that EfficientNet-Lite1 takes for the class, among which no crops of a photo that chose are;
and second, class illusions of Lite1: images that raise a class, made without the unit, without
Lite0 and without the encoder, few, small and of few steps. Control: photos of the other half that
Lite1 takes for something else, and illusions of the other classes. The first row and the last are
chosen with hindsight by the AUROC itself.

Run with the package installed: ``python tests/benchmarks/describe_cosy.py --data clothing``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from describe_references import mean_cosine
from describe_units import groups_of, kept_measures
from safetensors.torch import load_file, save_file
from scipy.stats import rankdata
from torch import Tensor

from captum_neuroinspect import collect_features, find_head, render_illusions
from captum_neuroinspect.describe import describe_units
from captum_neuroinspect.describe._embedding import embed_phrases
from captum_neuroinspect.describe.matching import TEMPLATES, contrasted
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.experiments.soft_wpmi import soft_wpmi
from captum_neuroinspect.models import imagenet_class_names, load_efficientnet_lite
from captum_neuroinspect.optvis import IllusionOptions

_LEAST = 5  # photos of a concept in either half
_N_TOP, _N_BACKGROUND = 6, 64  # photos of describe_neurons


def halves(groups: Tensor) -> Tensor:
    """``(N,)`` whether a photo is of the half that describes; groups stay whole."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(int(groups.max()) + 1, generator=rng)[groups] < 0.5


def said_by_all(
    activations: Tensor, embeddings: Tensor, texts: Tensor, groups: Tensor
) -> dict[str, Tensor]:
    """For each method ``(K,)`` the concept that it says of each unit, -1 for none."""
    cosines = embeddings @ texts.T
    n_units, n_concepts = activations.shape[1], len(texts)
    rng = torch.Generator().manual_seed(0)
    spreads = cosines.std(0).clamp_min(1e-6)
    means = embeddings[activations.topk(_N_TOP, dim=0).indices].mean(0)
    usual = embeddings[torch.randperm(len(embeddings), generator=rng)[:_N_BACKGROUND]]
    names = [str(n) for n in range(n_concepts)]
    found = describe_units(activations, cosines, names, together=groups)
    first = torch.tensor([int(d.phrases[0]) if d.phrases else -1 for d in found])
    is_certain = torch.tensor([d.is_certain for d in found])
    return {
        "a random concept": torch.randint(n_concepts, (n_units,), generator=rng),
        "mean cosine": mean_cosine(activations, cosines).argmax(1),
        "mean cosine, in spreads": (mean_cosine(activations, cosines) / spreads).argmax(1),
        "soft WPMI": soft_wpmi(activations, cosines).argmax(1),
        "describe_neurons, whole photos": contrasted(
            F.normalize(means, dim=1), texts, usual
        ).argmax(1),
        "describe_units": first,
        "of these certain": torch.where(is_certain, first, -1),
    }


def cosy(activations: Tensor, shows: Tensor) -> tuple[Tensor, Tensor]:
    """AUROC and MAD of every unit with every concept.

    Args:
        activations: ``(N, K)`` on images.
        shows: ``(N, C)`` whether an image is one of the concept; the others are control.

    Returns:
        Both ``(K, C)``.
    """
    ranks = torch.from_numpy(rankdata(activations.numpy(), axis=0)).double()
    on, off = shows.double(), (~shows).double()
    n_on, n_off = on.sum(0), off.sum(0)
    areas = (ranks.T @ on - n_on * (n_on + 1) / 2) / (n_on * n_off)
    values = activations.double()
    means = values.T @ off / n_off
    spreads = (values.square().T @ off / n_off - means.square()).clamp_min(1e-12).sqrt()
    return areas, (values.T @ on / n_on - means) / spreads


def print_table(said: Mapping[str, Tensor], areas: Tensor, differences: Tensor) -> None:
    constant = int(areas.mean(0).argmax())
    rows = {"the best constant concept": torch.full((len(areas),), constant), **said}
    rows["the best concept for each unit (bound)"] = areas.argmax(1)
    print("| method | units | AUROC | MAD | AUROC, same units by the best constant |")
    print("| --- | --- | --- | --- | --- |")
    for method, concepts in rows.items():
        units = (concepts >= 0).nonzero()[:, 0]
        if not len(units):
            print(f"| {method} | 0 | | | |")
            continue
        cells = [
            _interval(values[units, of_units])
            for values, of_units in (
                (areas, concepts[units]),
                (differences, concepts[units]),
                (areas, torch.full_like(units, constant)),
            )
        ]
        print(f"| {method} | {len(units)} | {' | '.join(cells)} |")


def _interval(values: Tensor) -> str:
    drawn = np.random.default_rng(0).choice(values.numpy(), (2000, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{float(values.mean()):.2f} ({low:.2f} to {high:.2f})"


def class_illusions(classes: list[int], n_each: int, size: int, n_steps: int) -> Tensor:
    """``(C * n_each, 3, size, size)`` images that raise these classes in Lite1, class by class."""
    network = load_efficientnet_lite(1)
    # A logit alone is a direction of the features: its row of the decision layer.
    rows = find_head(network, torch.rand(1, 3, size, size)).weight.detach()
    made = []
    for start in range(0, len(classes), 2):
        wanted = [c for c in classes[start : start + 2] for _ in range(n_each)]
        found = render_illusions(
            network,
            rows[wanted],
            size=size,
            n_steps=n_steps,
            seed=1000 * start,
            options=IllusionOptions(batch_size=len(wanted)),
            progress=False,
        )
        made.append(found.images)
        print(f"illusions of {start + len(wanted) // n_each} of {len(classes)} classes", flush=True)
    return torch.cat(made)


def features_of(images: Tensor) -> Tensor:
    """``(N, 1280)`` of Lite0, which is shown 224 pixels."""
    shown = F.interpolate(images, (224, 224), mode="bilinear", antialias=True).clamp(0, 1)
    unlabelled = torch.zeros(len(shown), dtype=torch.int64)
    return collect_features(load_efficientnet_lite(0), (shown, unlabelled), progress=False).features


def print_recognised(images: Tensor, shown: Tensor) -> None:
    """How often a third network takes the illusions for their class."""
    judge = load_efficientnet_lite(2)
    with torch.no_grad():
        logits = torch.cat([judge(F.interpolate(part, (224, 224))) for part in images.split(16)])
    five = logits.topk(5).indices == shown[:, None]
    print(
        f"\n{len(images)} illusions of {len(shown.unique())} classes: Lite2 takes "
        f"{five[:, 0].float().mean():.0%} for their class, {five.any(1).float().mean():.0%} "
        "among its first five"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--units", type=int, default=200, help="neurons of Lite0")
    parser.add_argument("--each", type=int, default=4, help="illusions a class; 0: photos alone")
    parser.add_argument("--size", type=int, default=128, help="of the illusions, pixels")
    parser.add_argument("--steps", type=int, default=64, help="of the illusions")
    parser.add_argument("--keep", type=Path, default=Path("describe_kept.safetensors"))
    parser.add_argument("--keep-images", type=Path, default=Path("describe_cosy.safetensors"))
    options = parser.parse_args()
    kept = kept_measures(options.keep, options.data)
    groups = groups_of(len(kept["logits1"]))
    describes, taken_for = halves(groups), kept["logits1"].argmax(1)
    counts = [taken_for[part].bincount(minlength=1000) for part in (describes, ~describes)]
    classes = ((counts[0] >= _LEAST) & (counts[1] >= _LEAST)).nonzero()[:, 0]
    names = imagenet_class_names()
    texts = embed_phrases(
        [names[c] for c in classes.tolist()],
        LabelSpaceEncoder.pretrained(),
        TEMPLATES,
        progress=False,
    )
    rng = torch.Generator().manual_seed(1)
    units = torch.randperm(kept["features0"].shape[1], generator=rng)[: options.units]
    activations = kept["features0"][:, units]
    said = said_by_all(
        activations[describes], kept["embeddings"][describes], texts, groups[describes]
    )
    print(
        f"{len(units)} neurons, {len(classes)} concepts, {int(describes.sum())} photos describe, "
        f"{int((~describes).sum())} are of the other half"
    )
    print("\nImages of a concept: photos of the other half\n")
    shows = taken_for[~describes, None] == classes
    print_table(said, *cosy(activations[~describes], shows))
    if not options.each:
        return
    if not options.keep_images.exists():
        images = class_illusions(classes.tolist(), options.each, options.size, options.steps)
        save_file({"images": images}, options.keep_images)
    images = load_file(options.keep_images)["images"]
    of_image = classes.repeat_interleave(options.each)
    print_recognised(images, of_image)
    print("\nImages of a concept: illusions of Lite1\n")
    print_table(said, *cosy(features_of(images)[:, units], of_image[:, None] == classes))


if __name__ == "__main__":
    main()
