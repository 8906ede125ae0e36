"""Is the planted cue the first concept? Concept scores with the truth known, beside chance.

Heads that learned a false correlation (``edit_cases.py``): digits of which one stands on grass, and
with ``--data`` photos of which one class has a tile, or a line of text. The packaged bank has 15
concepts; the cue is "grass", "chequers" and "text". Mistakes are the class's test photos without
the cue.

Vectors in closed form (FastCAV) beside Captum's linear classifier and the linear SVM of CCE's
published code; CCE's 100 steps beside one step, a solved optimum, shared scores and none of the
constraint; and a control, a head trained on data in which the cue tells nothing. Then a head before
and after edits, as the paper's Table II has it.

Run with the package installed: ``python tests/benchmarks/concepts.py --keep FOLDER``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from blame_causes import text_over
from captum.concept import Classifier, DefaultClassifier
from edit_cases import DIGITS, TILE, EditCase, case_of, cases
from edit_collector import Collector
from sklearn.svm import SVC
from torch import nn

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.concepts import (
    ConceptBank,
    ConceptFeatures,
    ConceptOptions,
    collect_concepts,
    concept_change,
    concept_counterfactual,
    fit_concepts,
    packaged_concepts,
)
from captum_neuroinspect.edit import cue_direction, edit_head, remove_cue
from captum_neuroinspect.edit.baselines import CON
from captum_neuroinspect.experiments.planted_tile import SPLITS, PlantedTile, PlantedTileConfig
from captum_neuroinspect.models import train_decision_layer

TEXT = "planted text"
CUES = {DIGITS: "grass", TILE: "chequers", TEXT: "text"}
STAMP = text_over("SAMPLE", 30, 1, 0.9)
SVM_COST = 0.001  # of CCE's example
OPTIONS = {
    "100 steps (CCE)": ConceptOptions(),
    "1 step": ConceptOptions(n_steps=1),
    "5000 steps": ConceptOptions(n_steps=5000),
    "100 steps, shared": ConceptOptions(shared=True),
    "100 steps, unconstrained": ConceptOptions(validity="none"),
}


class LinearSVM(Classifier):
    """CCE's classifier behind Captum's protocol."""

    def __init__(self) -> None:
        self.svm = SVC(C=SVM_COST, kernel="linear")

    def train_and_eval(self, dataloader: Any, **_: Any) -> dict[str, Any]:
        parts = list(dataloader)
        self.svm.fit(*(torch.cat(column).numpy() for column in zip(*parts, strict=True)))
        return {}

    def weights(self) -> torch.Tensor:
        return torch.tensor([-self.svm.coef_[0], self.svm.coef_[0]])

    def classes(self) -> list[int]:
        return self.svm.classes_.tolist()


FITS: dict[str, Callable[[], Classifier] | None] = {
    "FastCAV": None,
    "Captum's DefaultClassifier": DefaultClassifier,
    "linear SVM (CCE)": LinearSVM,
}


def concept_features(keep: Path | None, n_photos: int) -> ConceptFeatures:
    path = None if keep is None else keep / f"concepts-{n_photos}.pt"
    if path is not None and path.exists():
        return ConceptFeatures(**torch.load(path))
    model = Collector(None).model
    found = collect_concepts(model, packaged_concepts(n_photos=n_photos))
    if path is not None:
        torch.save({k: getattr(found, k) for k in ("names", "shown", "counterparts")}, path)
    return found


def print_fits(features: ConceptFeatures) -> dict[str, ConceptBank]:
    """Time, held-out accuracy and agreement of the ways to fit."""
    banks = {}
    print("| vectors by | seconds | held-out accuracy, mean | least | cosine with FastCAV |")
    print("| --- | --- | --- | --- | --- |")
    for name, classifier in FITS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Captum's classifier keeps its data in memory
            start = time.perf_counter()
            banks[name] = fit_concepts(features, classifier=classifier)
            seconds = time.perf_counter() - start
        right = banks[name].accuracy
        cosine = (banks[name].vectors * banks["FastCAV"].vectors).sum(1)
        print(
            f"| {name} | {seconds:.3f} | {right.mean():.1%} | {right.min():.1%} "
            f"| {cosine.mean():.2f} ({cosine.min():.2f}..{cosine.max():.2f}) |"
        )
    for name, bank in banks.items():
        said = [f"{n} {float(a):.0%}" for n, a in zip(bank.names, bank.accuracy, strict=True)]
        print(f"\n{name}: {', '.join(said)}")
    return banks


Rows = dict[tuple[str, ...], list[list[float]]]


def score(case: EditCase, banks: dict[str, ConceptBank], rows: Rows) -> None:
    mistakes = case.test.mistakes(case.target)
    if not len(mistakes):
        print(f"{case.scenario}, seed {case.seed}: no mistakes")
        return
    for fit, bank in banks.items():
        for name, options in OPTIONS.items():
            if fit == "FastCAV" or name == "100 steps (CCE)":
                key = case.data, fit, name
                rows[key].append(scored(bank, mistakes, case.head, CUES[case.data], options))
    # A head that saw each class with and without the cue makes mistakes for other reasons.
    control = train_decision_layer(case.editing, case.choosing, seed=case.seed)
    wrong = case.test.with_head(control).mistakes(case.target)
    if len(wrong):
        found = scored(banks["FastCAV"], wrong, control, CUES[case.data], ConceptOptions())
        rows[case.data, "FastCAV", "the same, of a head without the cue"].append(found)
    first = concept_counterfactual(banks["FastCAV"], mistakes, case.head)
    said = ", ".join(f"{name} {value:+.3f}" for name, value in first.ranked(4))
    print(f"{case.data}, {case.scenario}, seed {case.seed}: {len(mistakes)} mistakes; {said}")


def scored(
    bank: ConceptBank, mistakes: FeatureSet, head: nn.Linear, cue: str, options: ConceptOptions
) -> list[float]:
    start = time.perf_counter()
    found = concept_counterfactual(bank, mistakes, head, options=options)
    seconds = time.perf_counter() - start
    return [
        float(found.ranked(1)[0][0] == cue),
        found.precision_at(1, cue),
        found.precision_at(3, cue),
        found.score(cue),
        float(found.is_corrected.float().mean()),
        1000 * seconds / len(mistakes),
    ]


def edits(case: EditCase, bank: ConceptBank) -> dict[str, nn.Linear]:
    given = (case.head, case.train, case.validation)
    neurons = list(case.neurons[:30])
    located = case.editing.mistakes(case.target)
    return {
        "CON": CON()(*given, target=case.target, neurons=neurons),
        "equation (8)": edit_head(
            case.head, case.train, case.selection, target=case.target, neurons=neurons
        ).head,
        "remove_cue, direction of mistakes": remove_cue(
            *given, target=case.target, cue=cue_direction(located, case.train)
        ).head,
        "remove_cue, the concept's direction": remove_cue(
            *given, target=case.target, cue=bank.direction(CUES[case.data])
        ).head,
    }


class Stamped(PlantedTile):
    """Photos of a planted tile's set that carry a line of text in its place."""

    def __init__(self, data: PlantedTile) -> None:
        rows = data.has_tile.nonzero()[:, 0].tolist()
        self.config, self.with_groups = data.config, False
        self.paths = tuple(data.paths[i] for i in rows)
        self.has_tile = torch.zeros(len(rows), dtype=torch.bool)
        self.labels = data.labels[rows]

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image, label = super().__getitem__(index)
        return STAMP(image[None])[0], label


def text_cases(collector: Collector, folder: Path, seed: int) -> Iterator[EditCase]:
    """Each class in turn has a line of text on its training photos."""
    config = PlantedTileConfig(seed=seed)
    for target in range(config.n_classes):
        splits = {name: PlantedTile(folder, target, name, config) for name in SPLITS}
        found = collector.tiled(list(splits.values()))
        features = dict(zip(SPLITS, found, strict=True))
        for name in ("train", "validation"):
            stamped = collector.named(f"text-{seed}-{target}-{name}", Stamped(splits[name]))
            features[name] = features[name].clone()
            features[name][splits[name].has_tile] = stamped
        units = torch.arange(len(splits["deployment"]))
        yield case_of(TEXT, splits, features, units, seed)


def every_case(seeds: list[int], photos: Path | None, keep: Path | None) -> Iterator[EditCase]:
    yield from cases(seeds, photos, keep)
    if photos is not None:
        inner = photos / "train"
        for seed in seeds:
            folder = inner if inner.is_dir() else photos
            yield from text_cases(Collector(keep), folder, seed)


def print_cosine(case: EditCase, bank: ConceptBank) -> None:
    """How alike the concept's direction and that of the mistakes are, in units of the spread."""
    cue = cue_direction(case.editing.mistakes(case.target), case.train)
    shift = bank.direction(CUES[case.data]).shift
    cosine = torch.cosine_similarity(shift / cue.spread, cue.shift / cue.spread, dim=0)
    print(f"  cosine of the concept's direction and that of the mistakes: {cosine:.2f}")


def change(case: EditCase, bank: ConceptBank, rows: Rows) -> None:
    mine = case.test.subset(
        (case.test.groups == 2 * case.target).nonzero()[:, 0]  # the class without the cue
    )
    if not len(mine.mistakes()) or not len(case.editing.mistakes(case.target)):
        return
    print_cosine(case, bank)
    for name, head in edits(case, bank).items():
        found = concept_change(bank, mine, case.head, head, concept=CUES[case.data])
        own = found.own_after
        everyone = [case.test.with_head(h).class_accuracy().mean() for h in (case.head, head)]
        nothing = float("nan")
        rows[case.data, name].append(
            [
                *found.accuracy,
                *map(float, everyone),
                *found.precision,
                nothing if own is None else own.precision_at(3, found.concept),
                *found.score,
                nothing if own is None else own.score(found.concept),
            ]
        )


def print_rows(rows: Rows, columns: list[str], formats: list[str]) -> None:
    print("\n| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for key, values in rows.items():
        means = torch.tensor(values, dtype=torch.float64).nanmean(0).tolist()
        cells = [format(value, how) for value, how in zip(means, formats, strict=True)]
        print("| " + " | ".join([*key, str(len(values)), *cells]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of photos for the tile and the text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--n-photos", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="folder for features")
    options = parser.parse_args()
    banks = print_fits(concept_features(options.keep, options.n_photos))
    found: Rows = defaultdict(list)
    changed: Rows = defaultdict(list)
    print()
    for case in every_case(options.seeds, options.data, options.keep):
        score(case, banks, found)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an edit may return the original
            change(case, banks["FastCAV"], changed)
    n = len(banks["FastCAV"])
    print(f"\n{n} concepts; by chance: first {1 / n:.0%}, precision@3 {3 / n:.0%}")
    print_rows(
        found,
        "data | vectors by | scores by | scenarios | cue first | precision@1 | precision@3"
        " | score | corrected | ms a mistake".split(" | "),
        [".0%", ".0%", ".0%", "+.3f", ".0%", ".2f"],
    )
    print_rows(
        changed,
        "data | edit | scenarios | class | after | mean | after | precision@3 | after"
        " | own mistakes | score | after | own mistakes".split(" | "),
        [".1%", ".1%", ".1%", ".1%", ".1%", ".1%", ".1%", "+.3f", "+.3f", "+.3f"],
    )


if __name__ == "__main__":
    main()
