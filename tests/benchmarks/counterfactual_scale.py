"""Time and memory of counterfactuals and their ranking for 1,000 to 100,000 mistakes.

2,048 features behind a ReLU, 1,000 classes, random weights; the right class is one of the five
that the head ranks highest after its choice. Each size runs in a process of its own, so that
memory peaks are not mixed; "above the inputs" counts everything beyond features and head, the
returned changes included. POSIX only.
Run with the package installed: ``python tests/benchmarks/counterfactual_scale.py``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from captum_neuroinspect import NeuronCounterfactual, rank_neurons

N_FEATURES, N_CLASSES = 2048, 1000


def problem(n: int, n_features: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """A head, features and targets, made without large temporary copies."""
    torch.manual_seed(0)
    head = nn.Linear(n_features, N_CLASSES).requires_grad_(False)
    features = torch.empty(n, n_features)
    target = torch.empty(n, dtype=torch.int64)
    for rows in torch.arange(n).split(1000):
        features[rows] = torch.randn(len(rows), n_features).relu_()
        best = head(features[rows]).topk(6).indices
        target[rows] = best.gather(1, torch.randint(1, 6, (len(rows), 1)))[:, 0]
    return head, features, target


def peak() -> float:
    """Largest resident memory so far, in GiB."""
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(n: int, n_features: int, solver: str) -> dict[str, float]:
    head, features, target = problem(n, n_features)
    method = NeuronCounterfactual(head, head, solver=solver)
    method.attribute_features(features[:64], target[:64])
    inputs, start = peak(), time.perf_counter()
    found = method.attribute_features(features, target, return_details=True)
    solved = time.perf_counter()
    rank_neurons(found.w, features=features, reference=features[:1000])
    return {
        "solve": solved - start,
        "rank": time.perf_counter() - solved,
        "inputs": features.numel() * 4 / 2**30,
        "above": peak() - inputs,
        "steps": float(found.n_steps.float().mean()),
        "right": float(found.converged.float().mean()),
    }


def in_own_process(n: int, n_features: int, solver: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(n), str(n_features), solver]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--solver", choices=["sgd", "fista"], default="sgd")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        n, n_features, solver = arguments.one
        print(json.dumps(measure(int(n), int(n_features), solver)))
        return
    print("| mistakes | ms a mistake | ranking, ms a mistake | inputs | above the inputs | steps |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n in arguments.sizes:
        row = in_own_process(n, N_FEATURES, arguments.solver)
        print(
            f"| {n:,} | {1000 * row['solve'] / n:.3f} | {1000 * row['rank'] / n:.4f} | "
            f"{row['inputs']:.2f} GiB | {row['above']:.2f} GiB | {row['steps']:.1f} |"
        )


if __name__ == "__main__":
    main()
