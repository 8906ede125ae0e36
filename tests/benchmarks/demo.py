"""What the demo finds and what its edit does on test photos, over seeds.

A seed changes digits, crops, decision layer and edit; illusions are left out. Run with the package
installed: ``python tests/benchmarks/demo.py [--seeds 4] [--work DIR]``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from captum_neuroinspect import NeuroInspect
from captum_neuroinspect.experiments.digits_on_textures import DigitsOnTexturesConfig
from captum_neuroinspect.inspection.demo import BACKBONE, GROUPS, RESIZE, finding, make_digits
from captum_neuroinspect.models import load_model

COLUMNS = ("seed", *GROUPS, "all photos", "top photos on grass: too quiet, too active", "verdict")


def run(seed: int, work: Path) -> dict[str, Any]:
    """The demo's ``result.json`` of a seed."""
    made = make_digits(work / f"digits-{seed}", DigitsOnTexturesConfig(seed=seed))
    model = load_model(BACKBONE, weights=made.model, resize=RESIZE)
    session = NeuroInspect(model, class_names=made.class_names, work=work / "work", seed=seed)
    session.load(made.split("deployment"), train=made.split("train"), test=made.split("test"))
    session.explain(made.target)
    session.edit()
    return finding(session)


def line(found: dict[str, Any]) -> str:
    """Shares of the photos of the target in each group, and of all, before and after, in %."""
    cells = [str(found["seed"])]
    for name in (*GROUPS, "all photos"):
        shares = (100 * found[when][name][0] / found[when][name][1] for when in ("before", "after"))
        cells.append(" to ".join(f"{share:.1f}" for share in shares))
    counts = []
    for kind in ("insufficient", "excessive"):
        mine = [neuron for neuron in found["neurons"] if neuron["kind"] == kind]
        n_grass, n = (sum(m[k] for m in mine) for k in ("top_photos_on_grass", "top_photos"))
        counts.append(f"{n_grass} of {n}")
    verdict = found["verdict"]
    controls = ", ".join(f"{100 * one['overall_change']:+.1f}" for one in verdict["controls"])
    cells += [", ".join(counts), f"{verdict['decision']} (controls {controls})"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--work", type=Path, help="folder that keeps photos and features")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [run(seed, options.work or Path(folder)) for seed in range(options.seeds)]
    print(f"\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    print("\n".join(map(line, found)))


if __name__ == "__main__":
    main()
