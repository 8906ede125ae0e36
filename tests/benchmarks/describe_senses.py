"""How often `find_senses` tells a unit of two concepts from a unit of one.

Units and phrases are those of ``describe_units.py``, whose kept numbers this script reads. Units
"A or B" have two senses by their rule, all others one. A sense is right when its first phrase is a
concept of the rule, or means about the same (a cosine of a sentence encoder, fixed there).

Run after ``describe_units.py``: ``python tests/benchmarks/describe_senses.py --keep FILE``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from describe_offered import Offered
from describe_units import Unit, _near, interval

from captum_neuroinspect.describe import Descriptions, describe_units, find_senses


def print_senses(units: list[Unit], found: Descriptions, by: str, seconds: float) -> None:
    near = _near()
    for kind in dict.fromkeys(unit.kind for unit in units):
        of_kind = [(u, d.senses) for u, d in zip(units, found, strict=True) if u.kind == kind]
        several = [senses for _, senses in of_kind if senses]
        firsts = [(sense.phrases[0], u.right) for u, senses in of_kind for sense in senses]
        exact = [phrase in right for phrase, right in firsts]
        nearly = [any(near(phrase, one) for one in right) for phrase, right in firsts]
        cells = [by, kind, f"{interval([bool(senses) for _, senses in of_kind])}"]
        cells += [f"{len(several)} of {len(of_kind)}"]
        cells += [interval(exact), interval(nearly)] if firsts else ["", ""]
        cells += [f"{1000 * seconds / len(units):.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="written by describe_units.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the rules")
    parser.add_argument("--verbose", action="store_true", help="print what is said")
    options = parser.parse_args()
    offered = Offered(options.keep)
    units = [unit for seed in options.seeds for unit in offered.units(seed)]
    activations = torch.stack([unit.values for unit in units], 1)
    described = describe_units(activations, offered.scores, offered.names)
    print("| clusters by | rule | several senses, % | units | sense right, % | or near, % | ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for by, vectors in {"embeddings": offered.embeddings, "concept scores": None}.items():
        start = time.perf_counter()
        found = find_senses(described, activations, offered.scores, offered.names, vectors=vectors)
        print_senses(units, found, by, time.perf_counter() - start)
        for unit, said in zip(units, found, strict=True) if options.verbose else ():
            if said.senses:
                senses = " / ".join(", ".join(sense.phrases[:3]) for sense in said.senses)
                print(f"  {unit.kind}: {', '.join(sorted(unit.right))} -> {senses}")


if __name__ == "__main__":
    main()
