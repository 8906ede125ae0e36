"""Which way to mend a head helps the class with the false cue, and what does it cost the others?

EfficientNet-Lite0 with heads that learned a cue: a texture under one digit, or (``--photos``) a
tile on all training photos of one class of a folder. Every method gets the same head, training
data, half of the field's mistakes, and the same neurons in the same order; validation photos and
the other half of the mistakes choose among epochs. DFR alone gets more: the held-out photos' group
labels. Test photos judge. To compare another method, add it to :func:`methods`.

Run with the package installed:
``python tests/benchmarks/edit.py [--photos DIR] [--seeds 5] [--first-seed 0] [--cache DIR]``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from edit_cases import EditCase, cases
from torch import nn
from tqdm import tqdm

from captum_neuroinspect import edit_head, mend
from captum_neuroinspect.edit.baselines import (
    Baseline,
    ClassWeighting,
    CoefficientNorm,
    DeepFeatureReweighting,
    FocalLoss,
    JustTrainTwice,
    Retraining,
    SpuriousDirectionRemoval,
    Unchanged,
    Zeroing,
)
from captum_neuroinspect.edit.baselines import with_mistakes as joined

Method = Callable[[EditCase], nn.Linear]

BEFORE = "nothing"
MEASURES = {
    "target": "target without the cue",
    "average": "mean over classes",
    "worst": "worst group",
}
FEW, MANY = 6, 50


@dataclass(frozen=True)
class Outcome:
    """What one method did in one case: shares of right test predictions, and its time."""

    method: str
    case: tuple[str, str, int]  # data, scenario, seed
    results: dict[str, float]
    seconds: float


def methods() -> dict[str, Method]:
    """By name; what is compared stands first."""
    return {
        BEFORE: baseline(Unchanged()),
        "equation (8), paper: 6 neurons, lambda 1": equation_8(FEW, 1.0),
        "equation (8): 6 neurons, lambda 1, and the mistakes": equation_8(FEW, 1.0, True),
        "equation (8): 50 neurons, lambda 10": equation_8(MANY, 10.0),
        "equation (8): 50 neurons, lambda 10, and the mistakes": equation_8(MANY, 10.0, True),
        "plain retraining, without the mistakes": baseline(Retraining(), with_mistakes=False),
        "plain retraining": baseline(Retraining()),
        "class weights": baseline(ClassWeighting()),
        "class weights, target x 3": baseline(ClassWeighting(target_factor=3)),
        "focal loss, gamma 2": baseline(FocalLoss()),
        "CON (9): 6 neurons, lambda 1": baseline(CoefficientNorm(1), FEW),
        "CON (9): 50 neurons, lambda 10": baseline(CoefficientNorm(10), MANY),
        "zero 6 neurons, all classes": baseline(Zeroing("all"), FEW),
        "zero 50 neurons, all classes": baseline(Zeroing("all"), MANY),
        "zero 6 neurons, target only": baseline(Zeroing("target"), FEW),
        "zero 50 neurons, target only": baseline(Zeroing("target"), MANY),
        "like SpuFix: 6 neurons": baseline(SpuriousDirectionRemoval(), FEW),
        "like SpuFix: 50 neurons": baseline(SpuriousDirectionRemoval(), MANY),
        "like SpuFix: 50 neurons, centred at the class": baseline(
            SpuriousDirectionRemoval("class"), MANY
        ),
        "JTT, mistakes x 6": baseline(JustTrainTwice(6)),
        "JTT, mistakes x 20": baseline(JustTrainTwice(20)),
        "mend": mended,
        "mend, without neurons": partial(mended, n_neurons=0),
        "DFR (knows the groups)": dfr,
    }


def baseline(method: Baseline, n_neurons: int = MANY, with_mistakes: bool = True) -> Method:
    def inner(case: EditCase) -> nn.Linear:
        return method(
            case.head,
            case.train,
            case.selection,
            target=case.target,
            neurons=case.neurons[:n_neurons],
            mistakes=case.mistakes if with_mistakes else None,
            seed=case.seed,
        )

    return inner


def mended(case: EditCase, n_neurons: int = 50) -> nn.Linear:
    """With half of the field, right and wrong photos alike; the other half is not needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that the original head stayed
        edit = mend(
            case.head,
            case.train,
            case.validation,
            case.editing,
            target=case.target,
            n_neurons=n_neurons,
            seed=case.seed,
        )
    return edit.head


def dfr(case: EditCase) -> nn.Linear:
    return baseline(DeepFeatureReweighting(case.held_out))(case)


def equation_8(n_neurons: int, strength: float, with_mistakes: bool = False) -> Method:
    """The paper's edit of the whole head; the paper trains on the original data only."""

    def inner(case: EditCase) -> nn.Linear:
        with warnings.catch_warnings():
            # An edit that does worse is shown in the table as such.
            warnings.simplefilter("ignore", RuntimeWarning)
            return edit_head(
                case.head,
                joined(case.train, case.mistakes if with_mistakes else None),
                case.selection,
                target=case.target,
                neurons=case.neurons[:n_neurons],
                scope="head",
                strength=strength,
                ratio=1.0,
                seed=case.seed,
            ).head

    return inner


def run(every: Iterable[EditCase]) -> list[Outcome]:
    """All methods on all cases that have a mistake to bring."""
    outcomes = []
    for case in tqdm(every, "cases"):
        if not case.neurons:
            print(f"left out, no mistakes to edit with: {case.data}, {case.scenario}, {case.seed}")
            continue
        for name, method in methods().items():
            start = time.perf_counter()
            head = method(case)
            seconds = time.perf_counter() - start
            key = (case.data, case.scenario, case.seed)
            outcomes.append(Outcome(name, key, case.results(head), seconds))
    return outcomes


def print_scenarios(outcomes: list[Outcome], data: str) -> None:
    """Target, mean over classes and worst group of each scenario, mean over seeds."""
    scenarios = list(dict.fromkeys(o.case[1] for o in outcomes))
    print(f"\n### {data}\n\n{' / '.join(MEASURES.values())}, in %, mean over seeds\n")
    print(f"| method | {' | '.join(scenarios)} |")
    print("| --- |" + " --- |" * len(scenarios))
    for method in dict.fromkeys(o.method for o in outcomes):
        cells = []
        for scenario in scenarios:
            mine = [o for o in outcomes if o.method == method and o.case[1] == scenario]
            means = [_values(mine, measure).mean() for measure in MEASURES]
            cells.append(" / ".join(f"{100 * m:.0f}" for m in means))
        print(f"| {method} | {' | '.join(cells)} |")


def print_summary(outcomes: list[Outcome], data: str) -> None:
    """Before -> after over scenarios and seeds, with the spread of the gain."""
    n_scenarios = len({o.case[1] for o in outcomes})
    n_seeds = len({o.case[2] for o in outcomes})
    print(f"\n### {data}: mean over {n_scenarios} scenarios and {n_seeds} seeds, in %")
    print("\nafter (gain ± its standard deviation over scenarios and seeds)\n")
    print(f"| method | {' | '.join(MEASURES.values())} | mean fell in | seconds |")
    print("| --- |" + " --- |" * (len(MEASURES) + 2))
    before = [o for o in outcomes if o.method == BEFORE]
    for method in dict.fromkeys(o.method for o in outcomes):
        mine = [o for o in outcomes if o.method == method]
        cells = []
        for measure in MEASURES:
            after = 100 * _values(mine, measure)
            gain = after - 100 * _values(before, measure)
            cells.append(f"{after.mean():.1f} ({gain.mean():+.1f} ± {gain.std(correction=0):.1f})")
        fell = f"{_n_fell(mine, before)} of {n_scenarios}"
        seconds = sum(o.seconds for o in mine) / len(mine)
        print(f"| {method} | {' | '.join(cells)} | {fell} | {seconds:.2f} |")


def _values(outcomes: list[Outcome], measure: str) -> torch.Tensor:
    return torch.tensor([o.results[measure] for o in outcomes])


def _n_fell(mine: list[Outcome], before: list[Outcome]) -> int:
    """Scenarios whose mean over classes, itself a mean over seeds, is lower than before."""
    gains: dict[str, list[float]] = {}
    for after, start in zip(mine, before, strict=True):
        gain = after.results["average"] - start.results["average"]
        gains.setdefault(after.case[1], []).append(gain)
    return sum(sum(g) < -1e-6 for g in gains.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder with one subfolder of photos a class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    outcomes = run(cases(seeds, arguments.photos, arguments.cache))
    for data in dict.fromkeys(o.case[0] for o in outcomes):
        of_data = [o for o in outcomes if o.case[0] == data]
        print_scenarios(of_data, data)
        print_summary(of_data, data)


if __name__ == "__main__":
    main()
