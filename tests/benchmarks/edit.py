"""Which way to mend a head helps the class with the false cue, and what does it cost the others?

EfficientNet-Lite0 with heads that learned a cue: a texture under one digit, or (``--photos``) a
tile on all training photos of one class of a folder. Every method gets the same head, training
data, half of the field's mistakes, and the same neurons in the same order; validation photos and
the other half of the mistakes choose among epochs. `remove_cue` gets less: the target's mistakes
locate the cue, and nothing chooses. DFR alone gets more: the held-out photos' group labels. Test
photos judge. To compare another method, add it to ``methods`` in ``edit_methods.py``.

Run with the package installed:
``python tests/benchmarks/edit.py [--photos DIR] [--seeds 5] [--first-seed 0] [--cache DIR]
[--removals]
[--only TEXT ...]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

from edit_cases import EditCase, cases
from edit_methods import BEFORE, Method, methods
from edit_removals import removals
from edit_tables import Outcome, print_tables
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder with one subfolder of photos a class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    parser.add_argument("--removals", action="store_true", help="more ways to remove a cue")
    parser.add_argument("--only", nargs="+", help="methods whose names contain one of these texts")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    compared = methods() | (removals() if arguments.removals else {})
    if arguments.only:
        wanted = (BEFORE, *arguments.only)
        compared = {k: v for k, v in compared.items() if any(text in k for text in wanted)}
    print_tables(run(cases(seeds, arguments.photos, arguments.cache), compared))


if __name__ == "__main__":
    main()
