"""The neurons of EfficientNet-Lite0 in words, as they are published in ``docs/``.

Writes a CSV file, one row a neuron with its evidence, and prints the tables of the page
``neurons-of-efficientnet-lite0.md``. The photos are those of clothes; with ``--scenes`` also crops
of the packaged photos. Numbers and words only: no photo is copied. Run with the package installed:
``python tests/benchmarks/describe_lite0.py --data clothing --out docs/FILE.csv``.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

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

Row = dict[str, str | int | float]


def described(kept: dict[str, Tensor], with_scenes: bool) -> list[Row]:
    """One row a neuron."""
    groups = groups_of(len(kept["features0"]))
    if not with_scenes:
        n_clothes = len(groups) - N_OF_SCENE * len(SCENES)
        kept = {name: values[:n_clothes] for name, values in kept.items()}
        groups = groups[:n_clothes]
    classes = list(dict.fromkeys(imagenet_class_names()))
    words = word_list(class_names=classes)
    texts = embed_phrases(words, LabelSpaceEncoder.pretrained(), TEMPLATES, progress=False)
    names = _different([*ATTRIBUTES, *words])
    kinds = ["attribute"] * len(ATTRIBUTES) + [
        "class" if word in set(classes) else "word" for word in words
    ]
    kind_of = dict(zip(names, kinds, strict=True))
    scores = torch.cat([kept["attributes"], kept["embeddings"] @ texts.T], 1)
    found = describe_units(kept["features0"], scores, names, together=groups)
    network = load_efficientnet_lite(0)
    weights = find_head(network, torch.rand(1, 3, 224, 224)).weight.detach()
    raised = weights.topk(3, dim=0).indices.T.tolist()
    all_classes = imagenet_class_names()
    rows: list[Row] = []
    for d in found:
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
            "classes_of_largest_weight": "; ".join(all_classes[c] for c in raised[d.unit]),
            "note": d.note,
        }
        rows.append(row)
    return rows


def print_tables(rows: list[Row]) -> None:
    certain = [row for row in rows if row["certain"] == "yes"]
    uncertain = [row for row in rows if row["certain"] == "no"]
    print("| | neurons | attribute | class name | other word |\n| --- | --- | --- | --- | --- |")
    for title, part in (("certain", certain), ("uncertain", uncertain)):
        kinds = Counter(row["source"] for row in part)
        counts = " | ".join(str(kinds[kind]) for kind in ("attribute", "class", "word"))
        print(f"| {title} | {len(part)} | {counts} |")
    correlations = [float(row["correlation"]) for row in rows if row["correlation"] != ""]
    print(f"\nmedian held-out correlation of the first phrase: {median(correlations):.2f}")
    print(f"rows with a note: {sum(row['note'] != '' for row in rows)}")
    print("\n| word | source | neurons | which | largest correlation |")
    print("| --- | --- | --- | --- | --- |")
    word2rows: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(certain, key=lambda row: -float(row["correlation"])):
        word2rows[str(row["phrase"])].append(row)
    for word, of_word in sorted(word2rows.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        which = ", ".join(str(row["neuron"]) for row in of_word)
        first = of_word[0]
        cells = [word, first["source"], len(of_word), which, f"{first['correlation']:.2f}"]
        print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--out", type=Path, required=True, help="the CSV file")
    parser.add_argument("--scenes", action="store_true", help="crops of packaged photos as well")
    parser.add_argument("--keep", type=Path, default=Path("describe_kept.safetensors"))
    options = parser.parse_args()
    kept = kept_measures(options.keep, options.data)
    rows = described(kept, options.scenes)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print_tables(rows)


if __name__ == "__main__":
    main()
