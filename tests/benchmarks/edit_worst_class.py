"""Does any way to mend a head help the worst class of real photos, in which nothing was planted?

A head is trained on EfficientNet-Lite0's features of a folder's ``train/``. The class with the
lowest accuracy on ``validation/`` is the target. Half of the validation photos are those "met in
use", whose mistakes are given to edit with; the other half chooses among epochs. ``test/`` reports
and chooses nothing. A seed draws the head, the halves and the edits; with ``--redraw`` also which
photo is in which folder, in the folders' sizes, so that the intervals hold the luck of the photos.

Run with the package installed:
``python tests/benchmarks/edit_worst_class.py --photos DIR [--seeds 10] [--redraw] [--cache DIR]``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from edit_cases import EditCase
from edit_collector import Collector
from edit_methods import BEFORE, Method, methods
from scipy import stats
from torch import Tensor, nn
from tqdm import tqdm

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.models import train_decision_layer
from captum_neuroinspect.photos import Photos

SPLITS = ("train", "validation", "test")
MAX_COST = 0.5  # points of average accuracy
COMPARED = (
    BEFORE,
    "equation (8), paper: 6 neurons, lambda 1",
    "equation (8): 50 neurons, lambda 10, and the mistakes",
    "plain retraining",
    "class weights",
    "class weights, target x 3",
    "norm of coefficients: 50 neurons, lambda 10",
    "JTT, mistakes x 6",
    "class weights, target x 3, all deployment photos",
    "JTT, mistakes x 6, all deployment photos",
    "mend",
    "mend, without neurons",
)

Labelled = tuple[Tensor, Tensor]  # features (N, F), labels (N,)


def folder_features(folder: Path, cache: Path | None) -> tuple[dict[str, Labelled], list[str]]:
    """Features and labels of the three folders, and the names of the classes."""
    collector, names, found = Collector(cache), None, {}
    for name in SPLITS:
        photos = Photos.of(folder / name, resize_size=256, class_names=names)
        names = photos.class_names
        z = collector.named(f"{folder.name}-{name}-{len(photos)}", photos.dataset())
        found[name] = z, photos.labels
    return found, list(names or ())


def redrawn(found: dict[str, Labelled], seed: int) -> dict[str, Labelled]:
    """The same photos dealt out anew, as many of each class to each folder as before."""
    rng = torch.Generator().manual_seed(seed)
    z, y = (torch.cat([found[name][part] for name in SPLITS]) for part in (0, 1))
    rows: dict[str, list[Tensor]] = {name: [] for name in SPLITS}
    for label in y.unique().tolist():
        mine = (y == label).nonzero()[:, 0]
        sizes = [int((found[name][1] == label).sum()) for name in SPLITS]
        parts = mine[torch.randperm(len(mine), generator=rng)].split(sizes)
        for name, part in zip(SPLITS, parts, strict=True):
            rows[name].append(part)
    return {name: (z[torch.cat(parts)], y[torch.cat(parts)]) for name, parts in rows.items()}


def worst_class_case(found: dict[str, Labelled], names: list[str], seed: int) -> EditCase:
    blank = torch.zeros(1, len(names))
    sets = {
        name: FeatureSet(z, blank.expand(len(z), -1), y, class_names=tuple(names))
        for name, (z, y) in found.items()
    }
    head = train_decision_layer(sets["train"], sets["validation"], seed=seed)
    sets = {name: data.with_head(head) for name, data in sets.items()}
    target = int(sets["validation"].class_accuracy().nan_to_num(2.0).argmin())
    met, held = sets["validation"].split(seed=seed)
    return EditCase(
        data="worst class",
        scenario=names[target],
        seed=seed,
        head=head,
        train=sets["train"],
        validation=held,
        editing=met,
        # Validation photos are of the field's kind here: there is no second half of it.
        choosing=held.subset(torch.zeros(len(held), dtype=torch.bool)),
        test=sets["test"],
        target=target,
        held_out=sets["validation"],
    )


def results(case: EditCase, head: nn.Linear) -> Tensor:
    """On test, in %: the target, all photos, mean over classes, the class lowest there."""
    judged = case.test.with_head(head)
    classes = judged.class_accuracy()
    target = float(classes[case.target])
    return 100 * torch.tensor([target, judged.accuracy(), classes.mean(), classes.min()])


def compared() -> dict[str, Method]:
    known = methods()
    return {name: known[name] for name in COMPARED}


def run(every: Iterable[EditCase]) -> tuple[dict[str, Tensor], Counter[str]]:
    """Method -> results ``(seeds, 4)``, and how often which class was the target."""
    found: dict[str, list[Tensor]] = {name: [] for name in COMPARED}
    targets: Counter[str] = Counter()
    for case in tqdm(every, "cases"):
        targets[case.scenario] += 1
        for name, method in compared().items():
            found[name].append(results(case, method(case)))
    return {name: torch.stack(rows) for name, rows in found.items()}, targets


def interval(gains: Tensor) -> str:
    """Mean and 95 % interval of Student's t over seeds."""
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std() / len(gains) ** 0.5
    return f"{gains.mean():+.1f} [{gains.mean() - half:+.1f}, {gains.mean() + half:+.1f}]"


def print_table(found: dict[str, Tensor], targets: Counter[str]) -> None:
    before = found[BEFORE]
    print(f"\n{len(before)} seeds; targets: {dict(targets)}. Test photos, in %: mean after,")
    print("gain [95 % interval of Student's t over seeds]\n")
    titles = ("worst class of validation", "all photos", "mean over classes", "lowest of test")
    print(f"| method | {' | '.join(titles)} | both |\n| --- |" + " --- |" * (len(titles) + 1))
    for name, after in found.items():
        gains = after - before
        cells = [f"{a.mean():.1f}, {interval(g)}" for a, g in zip(after.T, gains.T, strict=True)]
        # Rounding: a share of photos is no exact number.
        both = int(((gains[:, 0] > 1e-3) & (gains[:, 1] >= -MAX_COST - 1e-3)).sum())
        print(f"| {name} | {' | '.join(cells)} | {both} of {len(gains)} |")
    print(f"\nboth: the worst class gains at a cost of at most {MAX_COST} points over all photos")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="train/, validation/, test/")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--redraw", action="store_true", help="deal out the photos by the seed")
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    arguments = parser.parse_args()
    found, names = folder_features(arguments.photos, arguments.cache)

    def cases() -> Iterator[EditCase]:
        for seed in range(arguments.seeds):
            data = redrawn(found, seed) if arguments.redraw else found
            yield worst_class_case(data, names, seed)

    print_table(*run(cases()))


if __name__ == "__main__":
    main()
