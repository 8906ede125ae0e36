"""Class logits in words that are no class names: are they kinds of that class?

The units are EfficientNet-Lite0's logits on photos: what each stands for is known. The phrases are
the built-in words without any that is a class name, and the attributes of the pixels. Right: a word
for what the class is a kind of (``imagenet_superclasses``, written down before measuring). Beside
it the cosine of the first phrase and the class name by all-MiniLM-L6-v2; the encoder that scores
the photos embeds words by the same network, so that number flatters all methods but the first two.

*There*: classes that Lite0 predicts for at least ``_NEEDED`` photos; of the others nothing is in
the photos, and what goes with their logits is something else.

``--keep`` is a file with ``logits0``, ``embeddings`` and ``attributes`` of the photos; it is made
when it is not there. Run with the package installed:
``python tests/benchmarks/describe_logits.py --data clothing``.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from describe_references import mean_cosine
from describe_units import _different, groups_of, interval, kept_measures
from imagenet_superclasses import superclasses
from torch import Tensor

from captum_neuroinspect.describe import ATTRIBUTES, describe_units, word_list
from captum_neuroinspect.describe._embedding import embed_phrases
from captum_neuroinspect.describe.matching import TEMPLATES, contrasted
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.experiments.soft_wpmi import soft_wpmi
from captum_neuroinspect.models import imagenet_class_names, load_minilm

_NEEDED = 15
_N_TOP, _N_BACKGROUND = 6, 64  # photos of describe_neurons


def said_by_all(
    activations: Tensor, kept: dict[str, Tensor], words: list[str], texts: Tensor
) -> dict[str, list[list[str]]]:
    """For each method five phrases a unit, best first.

    Args:
        activations: ``(N, K)``.
        kept: ``embeddings`` and ``attributes`` of the N photos.
        words: that may be said besides the attributes.
        texts: their embeddings.
    """
    cosines = kept["embeddings"] @ texts.T
    scores = torch.cat([kept["attributes"], cosines], 1)
    names = _different([*ATTRIBUTES, *words])
    rng = random.Random(0)
    rows = {"a random word": [rng.sample(words, 5) for _ in activations.T]}
    # The encoder's scores alone: cosines and attributes have no common unit.
    for method, agreement in {
        "mean cosine": mean_cosine,
        "mean cosine, in spreads": lambda a, s: mean_cosine(a, s) / s.std(0).clamp_min(1e-6),
        "soft WPMI": soft_wpmi,
    }.items():
        rows[method] = _first_five(agreement(activations, cosines), words)
    top = activations.topk(_N_TOP, dim=0).indices
    means = F.normalize(kept["embeddings"][top].mean(0), dim=1)
    usual = torch.randperm(len(cosines), generator=torch.Generator().manual_seed(0))[:_N_BACKGROUND]
    contrast = contrasted(means, texts, kept["embeddings"][usual])
    rows["describe_neurons, whole photos"] = _first_five(contrast, words)
    found = describe_units(activations, scores, names, together=groups_of(len(activations)))
    rows["describe_units"] = [list(d.phrases) for d in found]
    alone = describe_units(activations, scores, names)
    rows["describe_units, crops taken for photos"] = [list(d.phrases) for d in alone]
    certain = [list(d.phrases) if d.is_certain else [] for d in found]
    rows["of these certain"] = certain
    return rows


def _first_five(agreement: Tensor, words: list[str]) -> list[list[str]]:
    order = agreement.sort(dim=1, descending=True, stable=True).indices[:, :5]
    return [[words[p] for p in best] for best in order.tolist()]


def with_constant(
    rows: dict[str, list[list[str]]], right: list[frozenset[str]], words: list[str]
) -> dict[str, list[list[str]]]:
    """The rows, and the five words that are right most often, said of every unit."""
    counts = {word: sum(word in of_unit for of_unit in right) for word in words}
    best = sorted(words, key=lambda word: -counts[word])[:5]
    first = {
        "a random word": rows["a random word"],
        "the best constant five": [best for _ in right],
    }
    return first | rows


def print_table(
    rows: dict[str, list[list[str]]],
    right: list[frozenset[str]],
    nearness: Callable[[str, int], float],
) -> None:
    print(
        "| method | units | first right, % | one of five, % | cosine of the first with the name |"
    )
    print("| --- | --- | --- | --- | --- |")
    for method, said in rows.items():
        judged = [(k, words) for k, words in enumerate(said) if words]
        if not judged:
            print(f"| {method} | 0 | | | |")
            continue
        first = [words[0] in right[k] for k, words in judged]
        five = [bool(right[k] & set(words)) for k, words in judged]
        near = np.array([nearness(words[0], k) for k, words in judged])
        drawn = np.random.default_rng(0).choice(near, (2000, len(near))).mean(1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        cosine = f"{near.mean():.2f} ({low:.2f} to {high:.2f})"
        print(f"| {method} | {len(judged)} | {interval(first)} | {interval(five)} | {cosine} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--keep", type=Path, default=Path("describe_kept.safetensors"))
    options = parser.parse_args()
    kept = kept_measures(options.keep, options.data)
    classes = imagenet_class_names()
    taken = {name.casefold() for name in classes}
    words = [word for word in word_list() if word.casefold() not in taken]
    texts = embed_phrases(words, LabelSpaceEncoder.pretrained(), TEMPLATES, progress=False)
    sayable = {*words, *ATTRIBUTES}
    of_class = [names & sayable for names in superclasses()]
    encode = load_minilm()
    embedded = {
        name: vector
        for group in ([*sayable], list(dict.fromkeys(classes)))
        for name, vector in zip(group, F.normalize(encode(group), dim=1), strict=True)
    }
    wins = kept["logits0"].argmax(1).bincount(minlength=len(classes))
    for title, chosen in {
        "There": [c for c in range(len(classes)) if wins[c] >= _NEEDED and of_class[c]],
        "Hardly there or not at all": [
            c for c in range(len(classes)) if wins[c] < _NEEDED and of_class[c]
        ],
    }.items():
        print(
            f"\n{title}: {len(chosen)} classes, {len(kept['logits0'])} photos, {len(words)} words\n"
        )
        right = [of_class[c] for c in chosen]
        rows = said_by_all(kept["logits0"][:, chosen], kept, words, texts)

        def nearness(word: str, k: int, chosen: list[int] = chosen) -> float:
            word = word.removesuffix(" (word)")
            return float(embedded[word] @ embedded[classes[chosen[k]]])

        print_table(with_constant(rows, right, words), right, nearness)
        if title == "There":
            for c, said in zip(chosen[:15], rows["describe_units"], strict=False):
                print(f"  {classes[c]}: {', '.join(said)}")


if __name__ == "__main__":
    main()
