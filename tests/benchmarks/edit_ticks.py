"""Does it matter which neurons a person ticks: those of the cue, those of the class, or any?

The cases of ``edit.py``. The same edit is made with equally many neurons of four kinds. *Cue*: what
the cue moves most, by deployment photos of a class with and without it, in units of the spread (no
person knows them). *Blamed*: the first of the ranking, which a report shows. *Core*: what tells the
class from the others most in deployment photos without the cue, in units of the spread, but for the
100 neurons that the cue moves most. *Random*: drawn by the seed. A *group*: the direction from the
mistakes, all neurons at once, against a random direction. Test photos judge, and give the verdict.
``--slices`` compares directions only: of all mistakes, and of the slices that they are parted in.

Run with the package installed:
``python tests/benchmarks/edit_ticks.py [--photos DIR] [--seeds 3] [--first-seed 0] [--cache DIR]
[--slices]``.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from edit_cases import EditCase, cases
from edit_removals import direction, random_direction
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect import NeuronCounterfactual, edit_head, mend
from captum_neuroinspect.attr import slice_mistakes
from captum_neuroinspect.edit import (
    Direction,
    HeadEdit,
    RemovalOptions,
    compare_heads,
    cue_direction,
    remove_cue,
)
from captum_neuroinspect.edit.baselines import with_mistakes

NUMBERS = (6, 50)
N_CUE = 100  # neurons that the cue moves most, which are not core
DECISIONS = ("keep", "do not keep", "cannot tell")

Neurons = list[int]
Edit = Callable[[EditCase, Neurons], HeadEdit]


@dataclass(frozen=True, eq=False)
class Ticked:
    """What an edit with some neurons did in a case: points gained, and the verdict."""

    target: float
    average: float
    decision: str


def cue_order(case: EditCase) -> Neurons:
    """Every neuron, what the cue moves most first."""
    data, has_cue = case.editing, case.editing.groups % 2 == 1
    moves = [
        data.features[of_class & has_cue].mean(0) - data.features[of_class & ~has_cue].mean(0)
        for of_class in (data.labels == c for c in data.labels.unique())
        if (of_class & has_cue).any() and (of_class & ~has_cue).any()
    ]
    return _largest(torch.stack(moves).mean(0), case)


def core_order(case: EditCase) -> Neurons:
    """Every neuron but those of the cue, what tells the class from the others most first."""
    data, cue = case.editing, set(cue_order(case)[:N_CUE])
    clean, mine = data.groups % 2 == 0, data.labels == case.target
    difference = data.features[clean & mine].mean(0) - data.features[clean & ~mine].mean(0)
    return [neuron for neuron in _largest(difference, case) if neuron not in cue]


def random_order(case: EditCase) -> Neurons:
    rng = torch.Generator().manual_seed(case.seed)
    return torch.randperm(case.head.in_features, generator=rng).tolist()


def _largest(size: Tensor, case: EditCase) -> Neurons:
    spread = case.train.features.std(0).clamp(min=1e-2)
    return (size / spread).abs().argsort(descending=True).tolist()


def kinds() -> dict[str, Callable[[EditCase], Neurons]]:
    return {
        "cue": cue_order,
        "blamed": lambda case: list(case.neurons),
        "core": core_order,
        "random": random_order,
    }


def edits() -> dict[str, Edit]:
    """By name; all are given the neurons."""
    return {
        "remove_cue, project": removed("project"),
        "remove_cue, swap": removed("swap"),
        "mend": mended,
        "equation (8), lambda 10": equation_8,
    }


def removed(intervention: str) -> Callable[[EditCase, Neurons | Direction], HeadEdit]:
    def inner(case: EditCase, cue: Neurons | Direction) -> HeadEdit:
        return remove_cue(
            case.head,
            case.train,
            case.validation,
            target=case.target,
            cue=cue,
            seed=case.seed,
            options=RemovalOptions(intervention),
        )

    return inner


def mended(case: EditCase, neurons: Neurons) -> HeadEdit:
    return mend(
        case.head,
        case.train,
        case.validation,
        case.editing,
        target=case.target,
        neurons=neurons or None,
        n_neurons=len(neurons),
        seed=case.seed,
    )


def equation_8(case: EditCase, neurons: Neurons) -> HeadEdit:
    return edit_head(
        case.head,
        with_mistakes(case.train, case.mistakes),
        case.selection,
        target=case.target,
        neurons=neurons,
        scope="head",
        strength=10.0,
        ratio=1.0,
        seed=case.seed,
    )


def measured(case: EditCase, edit: HeadEdit) -> Ticked:
    before, after = case.results(case.head), case.results(edit.head)
    decision = edit.judge(case.test).verdict.decision
    return Ticked(
        100 * (after["target"] - before["target"]),
        100 * (after["average"] - before["average"]),
        decision,
    )


Found = dict[tuple[str, str], dict[tuple[str, str], dict[tuple[str, str], list[Ticked]]]]


def sliced(case: EditCase) -> dict[str, HeadEdit]:
    """Edits by the direction of all mistakes, of the largest slice, and of each slice in turn."""
    wrong = case.editing.mistakes(case.target)
    w = NeuronCounterfactual(case.head, case.head).attribute_features(wrong.features, wrong.labels)
    slices = slice_mistakes(w, wrong, case.train, seed=case.seed)
    cues = [cue_direction(one.mistakes, case.train) for one in slices]
    edit = removed("project")
    done = {
        "all mistakes": edit(case, cue_direction(wrong, case.train)),
        "the largest slice": edit(case, cues[0]),
        "the smallest slice": edit(case, cues[-1]),
    }
    head = case.head
    for cue in cues:
        sets = {name: getattr(case, name).with_head(head) for name in ("train", "validation")}
        head = edit(replace(case, head=head, **sets), cue).head
    named = {case.target: list(cues[0].neurons(10))}
    whole = compare_heads(case.head, head, case.validation, named, train=case.train)
    done["each slice, one after the other"] = replace(whole, seen=done["all mistakes"].seen)
    return done


def run_slices(every: list[EditCase]) -> Found:
    """As :func:`run`, where the target has mistakes."""
    found: Found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for case in tqdm(every, "cases"):
        if len(case.editing.mistakes(case.target)):
            for kind, edit in sliced(case).items():
                done = measured(case, edit)
                scenario = (case.data, case.scenario)
                found[case.data, "remove_cue, project"]["a direction", kind][scenario].append(done)
    return found


def run(every: list[EditCase]) -> Found:
    """Data and edit -> number and kind of neurons -> scenario -> one a seed."""
    found: Found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for case in tqdm(every, "cases"):
        if not case.neurons:
            continue
        scenario = (case.data, case.scenario)
        orders = {name: order(case) for name, order in kinds().items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that the original head stayed
            for name, edit in edits().items():
                for n in NUMBERS:
                    for kind, order in orders.items():
                        done = measured(case, edit(case, order[:n]))
                        found[case.data, name][f"{n}", kind][scenario].append(done)
            none = measured(case, mended(case, []))
            found[case.data, "mend"]["0", "none"][scenario].append(none)
            for intervention in ("project", "swap"):
                for kind, cue in (("cue", direction), ("random", random_direction)):
                    done = measured(case, removed(intervention)(case, cue(case)))
                    name = f"remove_cue, {intervention}"
                    found[case.data, name]["a direction", kind][scenario].append(done)
    return found


def print_table(found: Found) -> None:
    """Means over scenarios and seeds; scenarios in which the class gains more than by random."""
    titles = ("data", "edit", "neurons", "kind", "class / mean, points", "better than random")
    titles += tuple(f'"{one}"' for one in DECISIONS)
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    for (data, edit), by_neurons in found.items():
        for (n, kind), by_scenario in by_neurons.items():
            rows = [row for some in by_scenario.values() for row in some]
            target, average = (
                np.mean([getattr(r, m) for r in rows]) for m in ("target", "average")
            )
            random = by_neurons.get((n, "random"), {})
            beaten = [
                np.mean([r.target for r in some]) > np.mean([r.target for r in random[scenario]])
                for scenario, some in by_scenario.items()
                if scenario in random and kind != "random"
            ]
            better = f"{sum(beaten)} of {len(beaten)}" if beaten else ""
            shares = " | ".join(
                f"{100 * sum(r.decision == one for r in rows) / len(rows):.0f} %"
                for one in DECISIONS
            )
            cells = f"{data} | {edit} | {n} | {kind} | {target:+.0f} / {average:+.1f} | {better}"
            print(f"| {cells} | {shares} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder with one subfolder of photos a class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    parser.add_argument("--slices", action="store_true", help="directions of slices only")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    every = list(cases(seeds, arguments.photos, arguments.cache))
    print_table(run_slices(every) if arguments.slices else run(every))


if __name__ == "__main__":
    main()
