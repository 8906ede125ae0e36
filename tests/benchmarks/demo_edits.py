"""What the demo's edits do on test photos, over seeds: digits, crops, head and edits all change.

Run with the package installed: ``python tests/benchmarks/demo_edits.py --seeds 5``.
The illusions are left out; all numbers are shares of right predictions on the test photos.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from captum_neuroinspect.inspection.demo import run as demo
from captum_neuroinspect.inspection.demo.record import weakest_target_group


def run(seed: int) -> dict[str, tuple[float, float, float]]:
    """Original and every recipe: (target off its cue, target, overall)."""
    demo._illusions = lambda *args, **kwargs: None
    result = demo.run_demo(seed=seed, progress=False)
    test, group = result.sets["test"], weakest_target_group(result)
    rows = {"original head": test}
    rows |= {c.recipe.name: test.with_head(c.edit.head) for c in result.candidates}
    rows["what the held-out photos chose"] = test.with_head(result.best.edit.head)
    return {
        name: (
            float(judged.group_accuracy()[group]),
            float(judged.class_accuracy()[result.target]),
            judged.accuracy(),
        )
        for name, judged in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    runs = [run(seed) for seed in range(options.seeds)]
    print(f"\nmean (lowest to highest) of {options.seeds} seeds, in %")
    print("| head | target off its cue | target | all |\n| --- | --- | --- | --- |")
    for name in runs[0]:
        cells = []
        for column in range(3):
            values = [100 * r[name][column] for r in runs]
            cells.append(f"{statistics.mean(values):.1f} ({min(values):.0f} to {max(values):.0f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
