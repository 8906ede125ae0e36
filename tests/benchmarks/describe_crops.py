"""Whether scores of the part of a photo in which a unit is active name it better than whole photos.

*Mosaics*: four photos of 224 pixels in one of 448, which the encoder sees at 224. A unit looks at
each of the four with a rule of ``describe_units.py`` and answers with the largest, so that what it
answers to fills a quarter. Its crop is that quarter at 224 pixels, whose numbers are kept.
*Causes*: photos, half of them with text, stripes, blur, dots, fog or a frame, and the neuron of
EfficientNet-Lite0 that the cause moves most. Its crops are those of ``analysis.crops``.

Crops are scored on all photos as whole photos are, by the attributes and the encoder. *Both*: the
sum of the two in standard deviations. *Larger*: the larger of the two.

Run after ``describe_units.py``:
``python tests/benchmarks/describe_crops.py --data DIR --keep FILE``.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from describe import read
from describe_offered import Offered
from describe_units import CAUSE_NAMES, SIDE, interval, planted
from torch import Tensor

from captum_neuroinspect import collect_activations
from captum_neuroinspect.analysis import crops
from captum_neuroinspect.describe import attribute_scores, describe_units
from captum_neuroinspect.describe.agreement import standardised
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.models import load_efficientnet_lite

BATCH = 32
WAYS = ("whole photos", "crops", "both", "larger")


class Scorer:
    """Photos of any size -> scores of all phrases."""

    def __init__(self, offered: Offered) -> None:
        self._encoder, self._texts = LabelSpaceEncoder.pretrained(), offered.texts

    def __call__(self, photos: list[Tensor]) -> Tensor:
        resized = [
            p
            if p.shape[1:] == (SIDE, SIDE)
            else F.interpolate(p[None], (SIDE, SIDE), mode="bilinear", antialias=True)[0]
            for p in photos
        ]
        parts = []
        for start in range(0, len(resized), BATCH):
            with torch.no_grad():
                part = self._encoder.encode_image(torch.stack(resized[start : start + BATCH]))
            parts.append(F.normalize(part, dim=1) @ self._texts.T)
        return torch.cat([attribute_scores(resized).scores, torch.cat(parts)], 1)


def by_ways(whole: Tensor, cropped: Tensor) -> dict[str, Tensor]:
    one, other = standardised(whole), standardised(cropped)
    return dict(zip(WAYS, (whole, cropped, one + other, one.maximum(other)), strict=True))


def first_photos(folder: Path, n: int) -> list[Tensor]:
    """The first of those that ``describe_units.py`` keeps the numbers of, in their order."""
    paths = sorted(folder.glob("*/*/*.jpg"))
    random.Random(0).shuffle(paths)
    return [F.interpolate(read(p)[None], (SIDE, SIDE), mode="area")[0] for p in paths[:n]]


def print_mosaics(offered: Offered, photos: list[Tensor], score: Scorer, seed: int) -> None:
    """Four photos that follow each other are a mosaic."""
    n = len(photos) // 4
    fours = [photos[4 * i : 4 * i + 4] for i in range(n)]
    mosaics = [torch.cat([torch.cat(p[:2], 2), torch.cat(p[2:], 2)], 1) for p in fours]
    whole, of_tiles = score(mosaics), offered.scores[: 4 * n]
    hits: dict[str, list[tuple[bool, bool, bool]]] = {way: [] for way in WAYS}
    for unit in offered.units(seed):
        values, where = unit.values[: 4 * n].view(n, 4).max(1)
        cropped = of_tiles.view(n, 4, -1)[torch.arange(n), where]
        for way, scores in by_ways(whole, cropped).items():
            (said,) = describe_units(values[:, None], scores, offered.names)
            is_right = [phrase in unit.right for phrase in said.phrases] or [False]
            hits[way].append((is_right[0], any(is_right), said.is_certain))
    print(f"\n{n} mosaics, {len(hits['crops'])} units, {len(offered.names)} phrases\n")
    print("| scores of | first right, % | one of five, % | certain | certain: first right, % |")
    print("| --- | --- | --- | --- | --- |")
    for way, found in hits.items():
        first, five, _ = zip(*found, strict=True)
        certain = [is_right for is_right, _, is_certain in found if is_certain]
        told = interval(certain) if certain else ""
        cells = [way, interval(list(first)), interval(list(five)), str(len(certain)), told]
        print(f"| {' | '.join(cells)} |", flush=True)


def print_causes(
    offered: Offered, photos: list[Tensor], score: Scorer, n_variants: int | None
) -> None:
    model = load_efficientnet_lite(0)
    clean = torch.stack(photos)
    first, second = clean.chunk(2)
    whole_first = score(list(first))
    hits: dict[str, list[bool]] = {way: [] for way in WAYS}
    print("\n| cause | variant | " + " | ".join(WAYS) + " |")
    print("| --- " * (2 + len(WAYS)) + "|")
    before = _features(model, clean)
    for name, variants in planted().items():
        for variant, cause in list(variants.items())[:n_variants]:
            shown = cause(second)
            changed = _features(model, shown)
            values = torch.cat([before[: len(first)], changed])
            shift = (changed - before[len(first) :]).mean(0) / values.std(0).clamp_min(1e-6)
            unit = int(shift.argmax())
            cut = crops(model, torch.cat([first, shown]), unit).images
            whole = torch.cat([whole_first, score(list(shown))])
            told = []
            for way, scores in by_ways(whole, score(cut)).items():
                (said,) = describe_units(values[:, [unit]], scores, offered.names)
                hits[way].append(bool(set(said.phrases) & CAUSE_NAMES[name]))
                mark = "**" if hits[way][-1] else ""
                told.append(f"{mark}{', '.join(said.phrases[:2])}{mark}")
            print(f"| {name} | {variant} | {' | '.join(told)} |", flush=True)
    print(f"\n| one of five right, {len(photos)} photos | {' | '.join(WAYS)} |")
    print("| --- " * (1 + len(WAYS)) + "|")
    print(f"| {len(hits['crops'])} causes | {' | '.join(interval(hits[w]) for w in WAYS)} |")


def _features(model: torch.nn.Module, images: Tensor) -> Tensor:
    return collect_activations(model, images, "1._avg_pooling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--keep", type=Path, required=True, help="written by describe_units.py")
    parser.add_argument("--mosaics", type=int, default=400)
    parser.add_argument("--causes", type=int, default=120, help="photos for the planted causes")
    parser.add_argument("--variants", type=int, help="of each cause, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the rules")
    options = parser.parse_args()
    offered = Offered(options.keep)
    score = Scorer(offered)
    n = max(4 * options.mosaics, options.causes)
    photos = first_photos(options.data, n)
    print_mosaics(offered, photos[: 4 * options.mosaics], score, options.seed)
    print_causes(offered, photos[: options.causes], score, options.variants)


if __name__ == "__main__":
    main()
