"""Time and memory of `ablation_effects` on a head of many classes, with random weights.

Run with the package installed: ``python tests/benchmarks/describe_ablation.py``.
"""

from __future__ import annotations

import argparse
import time

import torch
from large_edit import peak
from torch import nn

from captum_neuroinspect.describe import ablation_effects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=21_843)
    parser.add_argument("--units", type=int, default=1280)
    parser.add_argument("--photos", type=int, default=200)
    options = parser.parse_args()
    rng = torch.Generator().manual_seed(0)
    head = nn.Linear(options.units, options.classes)
    features = torch.rand(options.photos, options.units, generator=rng)
    before, start, worked = peak(), time.perf_counter(), time.process_time()
    ablation_effects(head, features)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    print("| classes | units | photos | seconds | CPU seconds | GiB of the input | GiB at most |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    cells = options.classes, options.units, options.photos, f"{seconds:.0f}", f"{worked:.0f}"
    print(f"| {' | '.join(map(str, cells))} | {before:.1f} | {peak():.1f} |")


if __name__ == "__main__":
    main()
