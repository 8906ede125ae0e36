"""Whether hard negatives help `describe_units` to the right phrase. They do not, so it has none.

Hard negatives of a unit: photos that leave it silent (at most its median) and are nearest to its
most active photos in the encoder's space, as many of them. A phrase that they show as much as the
active ones should lose. Units and phrases are those of ``describe_units.py``, whose kept numbers
this script reads; *contrast* is the correlation of a phrase with active against hard negative.

*Mean*: nearest to the mean of the active photos; *max*: nearest to any of them.

Run after ``describe_units.py``: ``python tests/benchmarks/describe_hard_negatives.py --keep FILE``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from describe_offered import Offered
from describe_units import Unit, interval
from torch import Tensor

from captum_neuroinspect.describe import describe_units
from captum_neuroinspect.describe.agreement import standardised, strengths

SHARE = 0.05  # of the photos that are active
WEIGHT = 5.0  # of a hard negative among photos


def hard_negatives(values: Tensor, likeness: Tensor, near: str) -> tuple[Tensor, Tensor]:
    """Rows of the active and of the hard negative photos of one unit ``(n,)``."""
    n = round(SHARE * len(values))
    active = values.topk(n).indices
    to_active = likeness[:, active]
    nearest = to_active.amax(1) if near == "max" else to_active.mean(1)
    is_silent = values <= values.quantile(0.5)
    return active, torch.where(is_silent, nearest, -torch.inf).topk(n).indices


def contrasts(values: Tensor, concepts: Tensor, likeness: Tensor, near: str) -> Tensor:
    """``(P,)`` correlation with being active, over active and hard negative photos."""
    active, hard = hard_negatives(values, likeness, near)
    signs = torch.cat([torch.ones(len(active)), -torch.ones(len(hard))])
    return signs @ standardised(concepts[torch.cat([active, hard])]) / len(signs)


def weighted(values: Tensor, concepts: Tensor, likeness: Tensor, near: str) -> Tensor:
    """``(P,)`` correlation with squares, in which hard negatives count more."""
    _, hard = hard_negatives(values, likeness, near)
    weights = torch.ones(len(values))
    weights[hard] = WEIGHT
    weights /= weights.sum()
    mine = strengths(values[:, None])[:, 0]
    mine, others = mine - weights @ mine, concepts - weights @ concepts
    spreads = (weights @ others.square()).sqrt() * (weights @ mine.square()).sqrt()
    return (weights * mine) @ others / spreads.clamp_min(1e-6)


def rows(activations: Tensor, concepts: Tensor, embeddings: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Each way's scores ``(K, P)``, on the photos that choose."""
    base = strengths(activations).T @ concepts / len(concepts)
    likeness = embeddings @ embeddings.T
    yield "none: `describe_units`", base
    for near in ("max", "mean"):
        contrast, heavier = (
            torch.stack([of(values, concepts, likeness, near) for values in activations.T])
            for of in (contrasts, weighted)
        )
        is_candidate = torch.zeros_like(base).scatter_(1, base.topk(20, 1).indices, 1) > 0
        yield f"{near}: a hard negative counts {WEIGHT:.0f} photos", heavier
        yield f"{near}: less the phrases that contrast at most 0", base - 9 * (contrast <= 0)
        yield f"{near}: score + contrast / 2", base + contrast / 2
        yield f"{near}: the 20 best by contrast", torch.where(is_candidate, contrast, -9)


def print_ways(units: list[Unit], found: dict[str, list[list[str]]]) -> None:
    print("| hard negatives | first right, % | one of five, % |\n| --- | --- | --- |")
    for way, said in found.items():
        first = [words[0] in unit.right for words, unit in zip(said, units, strict=True)]
        five = [bool(unit.right & set(words)) for words, unit in zip(said, units, strict=True)]
        print(f"| {way} | {interval(first)} | {interval(five)} |", flush=True)


@dataclass(frozen=True)
class Certain:
    """A certain first phrase: whether it is right, and what held-out photos say of it."""

    is_right: bool
    correlation: float
    contrasts: dict[str, float]


def print_certain(found: list[Certain]) -> None:
    """As many of the certain phrases by each number, those with the largest."""
    print(f"\n{len(found)} certain phrases; first right, %, of the part with the largest held-out")
    print("| number | all | 80 % | 65 % | 50 % |\n| --- | --- | --- | --- | --- |")
    numbers = {"correlation": [one.correlation for one in found]}
    for way in found[0].contrasts:
        numbers[f"contrast, {way}"] = [one.contrasts[way] for one in found]
    for name, values in numbers.items():
        order = sorted(range(len(found)), key=lambda row: -values[row])
        cells = []
        for share in (1.0, 0.8, 0.65, 0.5):
            part = order[: round(share * len(order))]
            cells.append(f"{interval([found[row].is_right for row in part])}")
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="written by describe_units.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 100, 101], help="of the rules")
    options = parser.parse_args()
    offered = Offered(options.keep)
    scores, names, embeddings = offered.scores, offered.names, offered.embeddings
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
    judging, choosing = (part.sort().values for part in order.chunk(2))
    units: list[Unit] = []
    found: dict[str, list[list[str]]] = {}
    certain: list[Certain] = []
    for seed in options.seeds:
        drawn = offered.units(seed)
        units += drawn
        activations = torch.stack([unit.values for unit in drawn], 1)
        concepts = standardised(scores[choosing])
        for way, values in rows(activations[choosing], concepts, embeddings[choosing]):
            best = values.sort(dim=1, descending=True, stable=True).indices[:, :5]
            found.setdefault(way, []).extend([names[p] for p in row] for row in best.tolist())
        likeness = embeddings[judging] @ embeddings[judging].T
        judged = standardised(scores[judging])
        directions = F.normalize(judged, dim=1)
        by_concepts = directions @ directions.T
        described = describe_units(activations, scores, names)
        for k, (unit, said) in enumerate(zip(drawn, described, strict=True)):
            if said.is_certain:
                column = judged[:, [names.index(said.phrases[0])]]
                spaces = {
                    "mean": (likeness, "mean"),
                    "max": (likeness, "max"),
                    "mean, by concepts": (by_concepts, "mean"),
                }
                found_contrasts = {
                    name: float(contrasts(activations[judging, k], column, *space))
                    for name, space in spaces.items()
                }
                certain.append(
                    Certain(said.phrases[0] in unit.right, said.correlations[0], found_contrasts)
                )
    print(f"{len(units)} units, {len(scores)} photos, {len(names)} phrases\n")
    print_ways(units, found)
    print_certain(certain)


if __name__ == "__main__":
    main()
