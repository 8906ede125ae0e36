"""Which way to mend a head helps the class with the false cue, and what does it cost the others?

EfficientNet-Lite0 with heads that learned a cue: a texture under one digit, or (``--photos``) a
tile on all training photos of one class of a folder. Every method gets the same head, training
data, half of the field's mistakes, and the same neurons in the same order; validation photos and
the other half of the mistakes choose among epochs. `remove_cue` gets less: the target's mistakes
locate the cue, and nothing chooses. DFR alone gets more: the held-out photos' group labels. Test
photos judge. To compare another method, add it to ``methods`` in ``edit_methods.py``.

``--rivals`` gives every method the same twenty mistakes of the class and nothing else, ``--curve``
0 to 100 labelled photos of the class, and of all classes: ``edit_rivals.py``.

``--waterbirds`` takes the published photos in place of the two data sets: ``edit_waterbirds.py``.

Run with the package installed:
``python tests/benchmarks/edit.py [--photos DIR | --waterbirds DIR] [--seeds 5] [--first-seed 0]
[--cache DIR] [--removals | --rivals | --curve] [--only TEXT ...]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

from edit_cases import EditCase, cases
from edit_collector import Collector
from edit_intervals import Gain, print_curves, print_rivals
from edit_methods import BEFORE, Method, methods
from edit_removals import removals
from edit_rivals import N_MISTAKES, Given, curve_methods, draws, mistakes_of_the_class, rivals
from edit_rivals import Method as RivalMethod
from edit_tables import Outcome, are_harmed, print_tables
from edit_waterbirds import waterbird_cases
from tqdm import tqdm


def run(every: Iterable[EditCase], compared: dict[str, Method]) -> list[Outcome]:
    """All methods on all cases that have a mistake to bring."""
    outcomes = []
    for case in tqdm(every, "cases"):
        if not case.neurons:
            print(f"left out, no mistakes to edit with: {case.data}, {case.scenario}, {case.seed}")
            continue
        for name, method in compared.items():
            start = time.perf_counter()
            head = method(case)
            seconds = time.perf_counter() - start
            outcomes.append(
                Outcome(
                    name,
                    (case.data, case.scenario, case.seed),
                    case.target,
                    case.results(head),
                    case.without_cue(head),
                    seconds,
                )
            )
    return outcomes


def run_rivals(
    every: Iterable[EditCase],
    compared: dict[str, RivalMethod],
    photos_of: Callable[[EditCase], Iterable[tuple[str, int, Given]]],
) -> list[Gain]:
    """All methods on all cases, with each lot of labelled photos."""
    found, befores = [], []
    for case in tqdm(every, "cases"):
        before = case.results(case.head)
        key = (case.data, case.scenario, case.seed)
        befores.append(
            Outcome("before", key, case.target, before, case.without_cue(case.head), 0.0)
        )
        for name, n_photos, given in photos_of(case):
            for method, edit in compared.items():
                start = time.perf_counter()
                head = edit(given)
                seconds = time.perf_counter() - start
                after = None if head is None else case.results(head)
                gains = after and tuple(100 * (after[m] - before[m]) for m in before)
                found.append(Gain(method, key, (name, n_photos), gains, seconds))
    harmed = _harmed(befores)
    return [replace(one, is_harmed=one.case in harmed) for one in found]


def _harmed(befores: list[Outcome]) -> set[tuple[str, str, int]]:
    found = set()
    for data in {one.case[0] for one in befores}:
        some = [one for one in befores if one.case[0] == data]
        found |= {o.case for o, harmed in zip(some, are_harmed(some), strict=True) if harmed}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder with one subfolder of photos a class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    parser.add_argument("--waterbirds", type=Path, help="the unpacked archive, in place of both")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--removals", action="store_true", help="more ways to remove a cue")
    mode.add_argument("--rivals", action="store_true", help="twenty mistakes, nothing else")
    mode.add_argument("--curve", action="store_true", help="by the number of labelled photos")
    parser.add_argument("--only", nargs="+", help="methods whose names contain one of these texts")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    every: Iterable[EditCase] = cases(seeds, arguments.photos, arguments.cache)
    if arguments.waterbirds is not None:
        collector = Collector(arguments.cache)
        every = chain.from_iterable(
            waterbird_cases(collector, arguments.waterbirds, seed) for seed in seeds
        )
    if arguments.curve:
        print_curves(run_rivals(every, curve_methods(), draws))
        return
    if arguments.rivals:
        of_class = "mistakes of the class"
        print_rivals(
            run_rivals(
                every,
                rivals(),
                lambda case: [(of_class, N_MISTAKES, mistakes_of_the_class(case))],
            )
        )
        return
    compared = methods() | (removals() if arguments.removals else {})
    if arguments.only:
        wanted = (BEFORE, *arguments.only)
        compared = {k: v for k, v in compared.items() if any(text in k for text in wanted)}
    print_tables(run(every, compared))


if __name__ == "__main__":
    main()
