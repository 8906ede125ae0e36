"""How many of the neurons through which a planted cause works `find_units` finds by its name.

Photos of clothes, half of them with a cause (text, stripes, blur, dots, fog, a frame). Truth: the
twenty neurons of Lite0 that the cause moves most upward, in units of their spread. Found: the first
twenty by :func:`find_units` with the attribute of that name, by an encoder's phrase with
``--encoder``, and the first twenty of ``Descriptions.find``, which searches chosen words only.

Run with the package installed: ``python tests/benchmarks/find_units.py --data clothing``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from describe_units import photos_of, planted
from torch import Tensor

from captum_neuroinspect import collect_features
from captum_neuroinspect.describe import SeenPhotos, describe_units, find_units
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.models import load_efficientnet_lite

N = 20
NAMES = {  # attribute and phrase, written down before measuring
    "text": ("text", "text"),
    "blur": ("blurred", "a blurry photo"),
    "stripes": ("stripes", "stripes"),
    "dots": ("dots", "dots"),
    "fog": ("pale", "fog"),
    "frame": ("frame", "a frame"),
}


def features_of(model: torch.nn.Module, photos: Tensor) -> Tensor:
    labels = torch.zeros(len(photos), dtype=torch.int64)
    return collect_features(model, (photos, labels), progress=False).features


def share(found: Iterable[int], truth: set[int]) -> float:
    return len(set(list(found)[:N]) & truth) / N


def print_table(photos: list[Tensor], encoder: LabelSpaceEncoder | None) -> None:
    model = load_efficientnet_lite(0)
    first, second = torch.stack(photos).chunk(2)
    of_first, of_second = features_of(model, first), features_of(model, second)
    columns = [
        "find_units, attribute",
        "Descriptions.find",
        *(["find_units, phrase"] * bool(encoder)),
    ]
    print(f"\n| cause | variant | {' | '.join(columns)} | random |")
    print("|" + " --- |" * (len(columns) + 3))
    totals = torch.zeros(len(columns))
    n = 0
    for name, variants in planted().items():
        attribute, phrase = NAMES[name]
        for variant, cause in variants.items():
            shown = cause(second)
            features = torch.cat([of_first, features_of(model, shown)])
            shift = (features[len(first) :] - of_second).mean(0)
            shift = shift / features.std(0).clamp_min(1e-6)
            truth = set(shift.argsort(descending=True)[:N].tolist())
            seen = SeenPhotos.of([*first, *shown], encoder)
            concepts = seen.concepts()
            said = describe_units(features, concepts).find(attribute)
            shares = [
                share(find_units(features, concepts.of(attribute)).units, truth),
                share([one.unit for one in said if attribute in one.phrases], truth),
            ]
            if encoder is not None:
                of_phrase = seen.scored([phrase], encoder).of(phrase)
                shares.append(share(find_units(features, of_phrase).units, truth))
            cells = [f"{value:.2f}" for value in shares]
            chance = f"{N / features.shape[1]:.2f}"
            print(f"| {name} | {variant} | {' | '.join(cells)} | {chance} |", flush=True)
            totals, n = totals + torch.tensor(shares), n + 1
    means = zip(columns, (totals / n).tolist(), strict=True)
    print(f"\nmean of {n} causes: " + ", ".join(f"{name} {value:.2f}" for name, value in means))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--encoder", action="store_true", help="phrases by Lite2 and MiniLM too")
    options = parser.parse_args()
    encoder = LabelSpaceEncoder.pretrained() if options.encoder else None
    print_table(photos_of(options.data, options.photos)[: options.photos], encoder)


if __name__ == "__main__":
    main()
