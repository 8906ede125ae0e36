"""Whether words read from illusions are the neuron's, or those that the illusion was asked for.

Random neurons of EfficientNet-Lite0, each rendered in the same random classes, with the packaged
encoder as a guide and without it; and once without a class. The same encoder then reads them:
`describe_neurons` with the built-in words and ImageNet's class names. A class that was drawn at
random says nothing of a neuron: its word must not come first more often than by chance, which is
one of the classes drawn when only their words are compared, and about 0 among all phrases.

*Own*: correlation, over all phrases, of the illusions' scores with what photos say of the neuron
(``--keep``, written by ``describe_units.py``; features of Lite0 are needed).

Run with the package installed: ``python tests/benchmarks/describe_illusions.py``.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from describe_units import interval
from safetensors.torch import load_file
from torch import Tensor

from captum_neuroinspect import render_illusions
from captum_neuroinspect.describe import word_list
from captum_neuroinspect.describe._embedding import embed_images, embed_phrases
from captum_neuroinspect.describe.agreement import standardised, strengths
from captum_neuroinspect.describe.matching import TEMPLATES, contrasted
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.models import imagenet_class_names, load_efficientnet_lite

# Embeddings (J, M, D) of J neurons in M classes, and texts (P, D) -> scores (J, M, P).
Contrast = Callable[[Tensor, Tensor], Tensor]


def alone(embeddings: Tensor, texts: Tensor) -> Tensor:
    return embeddings @ texts.T


def half_of_all(embeddings: Tensor, texts: Tensor) -> Tensor:
    """What `describe_neurons` does without a background: less half of the others' mean."""
    return contrasted(embeddings.flatten(0, 1), texts).unflatten(0, embeddings.shape[:2])


def others_of_the_class(embeddings: Tensor) -> Tensor:
    """``(J, M, D)`` mean of the other neurons' illusions of the same class."""
    return (embeddings.sum(0) - embeddings) / (len(embeddings) - 1)


def less_others(embeddings: Tensor, texts: Tensor) -> Tensor:
    return (embeddings - others_of_the_class(embeddings)) @ texts.T


def projected(embeddings: Tensor, texts: Tensor) -> Tensor:
    """Without the direction of the others' mean, and then less the mean of all."""
    direction = F.normalize(others_of_the_class(embeddings), dim=2)
    left = F.normalize(
        embeddings - (embeddings * direction).sum(2, keepdim=True) * direction, dim=2
    )
    return (left - left.mean((0, 1))) @ texts.T


def over_classes(embeddings: Tensor, texts: Tensor) -> Tensor:
    """The neuron's mean over its classes, less the other neurons' mean over theirs."""
    means = embeddings.mean(1, keepdim=True)
    return less_others(means, texts).expand(-1, embeddings.shape[1], -1)


CONTRASTS: dict[str, Contrast] = {
    "nothing": alone,
    "half of all others": half_of_all,
    "the others of the class": less_others,
    "projected on the others of the class": projected,
    "mean over the classes, less the others": over_classes,
}


def drawn(n_neurons: int, n_classes: int, seed: int) -> tuple[list[int], list[int]]:
    rng = random.Random(seed)
    return rng.sample(range(1280), n_neurons), rng.sample(range(1000), n_classes)


def cells(scores: Tensor, classes: list[int], names: list[str], words: list[str]) -> list[str]:
    """How often the class's word is first of all, among five, and first of those drawn."""
    position = {word: row for row, word in enumerate(words)}
    columns = torch.tensor([position[names[c]] for c in classes])
    order = scores.sort(dim=2, descending=True, stable=True).indices
    first, five, of_drawn = [], [], []
    for j in range(len(scores)):
        for m in range(len(classes)):
            best = order[j, m, :5].tolist()
            first.append(best[0] == int(columns[m]))
            five.append(int(columns[m]) in best)
            of_drawn.append(int(scores[j, m, columns].argmax()) == m)
    return [interval(first), interval(five), interval(of_drawn)]


def from_photos(kept: dict[str, Tensor], neurons: list[int], texts: Tensor) -> Tensor:
    """``(J, P)`` correlations of the phrases with the neurons on photos."""
    concepts = standardised(kept["embeddings"] @ texts.T)
    return strengths(kept["features0"][:, neurons]).T @ concepts / len(concepts)


def likeness(scores: Tensor, photos: Tensor | None) -> str:
    if photos is None:
        return ""
    mean = scores.mean(1)  # over the classes
    mean, photos = (F.normalize(t - t.mean(1, keepdim=True), dim=1) for t in (mean, photos))
    values = (mean * photos).sum(1)
    return f"{float(values.mean()):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neurons", type=int, default=5)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--size", type=int, default=96, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="numbers of photos, with features of Lite0")
    options = parser.parse_args()
    names = imagenet_class_names()
    neurons, classes = drawn(options.neurons, options.classes, options.seed)
    encoder = LabelSpaceEncoder.pretrained(image_size=options.size)
    words = list(word_list(class_names=list(dict.fromkeys(names))))
    kept = {} if options.keep is None else load_file(options.keep)
    texts = kept.get("texts")
    if texts is None:
        texts = embed_phrases(words, encoder, TEMPLATES, progress=False)
    model = load_efficientnet_lite(0)
    pairs = [(j, c) for j in neurons for c in classes]

    def embeddings(with_class: bool, guide: LabelSpaceEncoder | None) -> Tensor:
        """``(J, M, D)``; without a class the same illusion stands for all of them."""
        made = render_illusions(
            model,
            [j for j, _ in pairs] if with_class else neurons,
            [c for _, c in pairs] if with_class else None,
            encoder=guide,
            class_names=names,
            size=options.size,
            n_steps=options.steps,
            seed=options.seed,
            progress=False,
        )
        embedded = embed_images(list(made.images), encoder, 8, progress=False)
        return embedded.view(len(neurons), -1, embedded.shape[1]).expand(-1, len(classes), -1)

    photos = from_photos(kept, neurons, texts) if kept else None
    n = len(pairs)
    print(f"{n} pairs of {len(neurons)} neurons and {len(classes)} classes, {options.size} px, ")
    print(f"{options.steps} steps, {len(words)} phrases; chance among the drawn classes: ", end="")
    print(f"{100 / len(classes):.0f} %\n")
    print("| illusion | less | class first, % | among five, % | first of the drawn, % | own |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way, arguments in {
        "class and encoder": (True, encoder.softened()),
        "class, no encoder": (True, None),
        "no class, no encoder": (False, None),
    }.items():
        start = time.perf_counter()
        found = embeddings(*arguments)
        seconds = time.perf_counter() - start
        for contrast, of in CONTRASTS.items():
            scores = of(found, texts)
            told = cells(scores, classes, names, words)
            print(f"| {way} | {contrast} | {' | '.join(told)} | {likeness(scores, photos)} |")
        print(f"<!-- {seconds:.0f} s -->", flush=True)


if __name__ == "__main__":
    main()
