"""The neurons of EfficientNet-Lite0 in words, as they are published in ``docs/``.

Writes ``neurons-of-efficientnet-lite0.csv``, one row a neuron with its evidence, and the page
``neurons-of-efficientnet-lite0.md`` that says what the rows rest on and sums them up. Numbers and
words only: no photo is copied. Run with the package installed:
``python tests/benchmarks/describe_lite0.py --data clothing --out docs``.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import torch
from describe import SCENES
from describe_units import N_OF_SCENE, _different, groups_of, kept_measures
from torch import Tensor

from captum_neuroinspect import find_head
from captum_neuroinspect.describe import ATTRIBUTES, describe_units, word_list
from captum_neuroinspect.describe._embedding import embed_phrases
from captum_neuroinspect.describe.matching import TEMPLATES
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.models import imagenet_class_names, load_efficientnet_lite

NAME = "neurons-of-efficientnet-lite0"
_N_TOP = 20  # photos of which it is told how many are independent

Row = dict[str, str | int | float]


def described(kept: dict[str, Tensor]) -> list[Row]:
    """One row a neuron."""
    classes = list(dict.fromkeys(imagenet_class_names()))
    words = word_list(class_names=classes)
    texts = embed_phrases(words, LabelSpaceEncoder.pretrained(), TEMPLATES, progress=False)
    names = _different([*ATTRIBUTES, *words])
    kinds = ["attribute"] * len(ATTRIBUTES) + [
        "class" if word in set(classes) else "word" for word in words
    ]
    kind_of = dict(zip(names, kinds, strict=True))
    activations, groups = kept["features0"], groups_of(len(kept["features0"]))
    scores = torch.cat([kept["attributes"], kept["embeddings"] @ texts.T], 1)
    found = describe_units(activations, scores, names, together=groups)
    network = load_efficientnet_lite(0)
    weights = find_head(network, torch.rand(1, 3, 224, 224)).weight.detach()
    raised = weights.topk(3, dim=0).indices.T.tolist()
    all_classes = imagenet_class_names()
    rows: list[Row] = []
    for d in found:
        top = activations[:, d.unit].topk(_N_TOP).indices
        row: Row = {
            "neuron": d.unit,
            "certain": "yes" if d.is_certain else "no",
            "phrase": d.phrases[0] if d.phrases else "",
            "source": kind_of[d.phrases[0]] if d.phrases else "",
            "correlation": round(d.correlations[0], 3) if d.phrases else "",
            "average_precision": round(d.average_precisions[0], 3) if d.phrases else "",
            "chance": round(d.chances[0], 3) if d.phrases else "",
            "other_phrases": "; ".join(d.phrases[1:]),
            "could_be": "; ".join(d.could_be),
            "combination": d.formula(),
            "combination_correlation": round(d.combination_correlation, 3),
            "independent_photos_of_top_20": len(groups[top].unique()),
            "classes_of_largest_weight": "; ".join(all_classes[c] for c in raised[d.unit]),
            "note": d.note,
        }
        rows.append(row)
    return rows


def page(rows: list[Row], n_photos: int) -> str:
    certain = [row for row in rows if row["certain"] == "yes"]
    n_clothes = n_photos - N_OF_SCENE * len(SCENES)
    word2rows: dict[str, list[Row]] = defaultdict(list)
    for row in certain:
        word2rows[str(row["phrase"])].append(row)
    lines = [
        "# The neurons of EfficientNet-Lite0 in words",
        "",
        f"Of the 1,280 inputs of EfficientNet-Lite0's decision layer, **{len(certain)} have a certain word "
        f"({len(certain) / len(rows):.0%})**",
        f"by `describe_units`; the other {len(rows) - len(certain)} are guesses. All rows, with their evidence: "
        f"[{NAME}.csv]({NAME}.csv).",
        "Where the column `certain` says no, the word is a guess: show it grey, or not at all.",
        "",
        "**These photos are too narrow for a network of 1,000 classes.** They are mostly clothes. A neuron that responds to dogs has",
        "nothing to respond to here, and gets the word for what is left: a texture, a colour, a kind of clothes. So a word says what the",
        "neuron goes with *on these photos*. `classes_of_largest_weight` are the classes that the decision layer gives the neuron the",
        "largest weights for: they rest on no photo, and often say something else.",
        "",
        "## What it rests on",
        "",
        "| | |",
        "| --- | --- |",
        "| network | `captum_neuroinspect.models.load_efficientnet_lite(0)`, ImageNet weights, inputs of the decision layer |",
        f"| photos | {n_photos:,}: {n_clothes:,} photos of clothes, and {N_OF_SCENE} crops of each of {len(SCENES)} photos of scikit-image and scikit-learn; 224 pixels, squashed |",
        "| independent | crops of one photo belong `together`: all choose the phrases, or all judge them |",
        "| phrases | 22 attributes of the pixels, ImageNet's class names, and 2,043 common words without those |",
        "| encoder | `LabelSpaceEncoder.pretrained()`: EfficientNet-Lite2 and all-MiniLM-L6-v2; it knows what ImageNet's classes name |",
        "| evidence | of the half of the photos that did not choose the phrase |",
        "",
        "Made by `python tests/benchmarks/describe_lite0.py --data DIR --out docs`. The table holds numbers and words; no photo is part of it.",
        "",
        "## How many",
        "",
        "| | neurons | attribute | class name | other word |",
        "| --- | --- | --- | --- | --- |",
    ]
    for title, part in (
        ("certain", certain),
        ("uncertain", [row for row in rows if row["certain"] == "no"]),
    ):
        counts = [
            sum(row["source"] == kind for row in part) for kind in ("attribute", "class", "word")
        ]
        lines.append(f"| {title} | {len(part)} | {' | '.join(map(str, counts))} |")
    middle = sorted(float(row["correlation"]) for row in rows if row["correlation"] != "")
    few = sum(int(row["independent_photos_of_top_20"]) <= 3 for row in rows)
    silent = sum(row["note"] != "" for row in rows)
    lines += [
        "",
        f"The first phrase's held-out correlation is {middle[len(middle) // 2]:.2f} in the median. The twenty photos that activate a neuron "
        f"most are of three",
        f"photos or fewer for {few} neurons. {silent} neurons have a note: silent, or equal to another.",
        "",
        "How often certain words are right was measured where the truth is known: 76 of 76 on synthetic units from these photos",
        "([measurements](measurements.md#words-for-any-units-describe_units)). For neurons no truth is known.",
        "",
        "## The certain words",
        "",
        "Neurons with the largest correlation first.",
        "",
        "| word | source | neurons | which, and the first one's correlation |",
        "| --- | --- | --- | --- |",
    ]
    for word, of_word in sorted(word2rows.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        ordered = sorted(of_word, key=lambda row: -float(row["correlation"]))
        which = ", ".join(str(row["neuron"]) for row in ordered[:8])
        more = ", ..." if len(ordered) > 8 else ""
        lines.append(
            f"| {word} | {ordered[0]['source']} | {len(ordered)} | {which}{more} ({ordered[0]['correlation']}) |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page")
    parser.add_argument("--keep", type=Path, default=Path("describe_kept.safetensors"))
    options = parser.parse_args()
    kept = kept_measures(options.keep, options.data)
    rows = described(kept)
    with (options.out / f"{NAME}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = page(rows, len(kept["features0"]))
    (options.out / f"{NAME}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
