"""Counterfactuals and `mend` for heads of 1,000 to 21,843 classes: time, memory, and effect.

Class prototypes in families of ten, features behind a ReLU, a head that leans on a cue of 12
neurons for one class: all training samples of that class carry it, in use it is on others.
``speed`` makes each stage in a process of its own, so that memory peaks are not mixed. ``quality``
compares a fit of all rows with a fit of few at 1,000 classes. POSIX only.
Run with the package installed: ``python tests/benchmarks/large_edit.py speed`` or ``quality``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from captum_neuroinspect import FeatureSet, NeuronCounterfactual
from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect.edit import HeadEdit, mend, run_controls
from captum_neuroinspect.edit._mend_fit import Weighted, anchored_fit

TARGET, N_CUE, FAMILY = 7, 12, 10
_STRENGTH, _SCALE = 0.17, 0.06
STAGES = ("counterfactual", "mend", "controls")


def peak() -> float:
    """Largest resident memory so far, in GiB."""
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class World:
    """Prototypes, the head that leans on the cue, and samples with and without it."""

    def __init__(self, n_classes: int, n_features: int, seed: int = 0) -> None:
        self.rng = torch.Generator().manual_seed(seed)
        n_families = (n_classes + FAMILY - 1) // FAMILY
        families = torch.randn(n_families, n_features, generator=self.rng)
        self.prototypes = torch.randn(n_classes, n_features, generator=self.rng)
        self.prototypes += families[torch.arange(n_classes) // FAMILY]
        self.prototypes *= 0.5**0.5
        self.cue = torch.randperm(n_features, generator=self.rng)[:N_CUE]
        scale = _SCALE * (2048 / n_features) ** 0.5
        self.strength = _STRENGTH * (2048 / n_features) ** 0.5
        self.head = nn.utils.skip_init(nn.Linear, n_features, n_classes).requires_grad_(False)
        self.head.weight.copy_(scale * self.prototypes)
        # It has learned less of what the class looks like, and the cue instead.
        self.head.weight[TARGET] *= 0.6 if n_features > 1000 else 0.45
        self.head.weight[TARGET, self.cue] += (2 if n_features > 1000 else 1.5) * scale
        self.head.bias.zero_()

    def features(self, labels: Tensor, has_cue: Tensor) -> Tensor:
        z = torch.empty(len(labels), self.prototypes.shape[1])
        for rows in torch.arange(len(labels)).split(1000):
            noise = torch.randn(len(rows), z.shape[1], generator=self.rng)
            z[rows] = 0.5 + self.strength * self.prototypes[labels[rows]] + noise
        z.relu_()
        z[:, self.cue] += 2.0 * has_cue[:, None]
        return z

    def judged(self, n: int, n_target: int, *, in_use: bool) -> FeatureSet:
        """``n`` samples of all classes, at least ``n_target`` of the target, with their logits."""
        labels = torch.randint(len(self.prototypes), (n,), generator=self.rng)
        labels[:n_target] = TARGET
        is_mine = labels == TARGET
        is_met = torch.rand(n, generator=self.rng) < 0.3
        z = self.features(labels, (is_met & ~is_mine if in_use else is_mine).float())
        logits = torch.addmm(self.head.bias, z, self.head.weight.T)
        return FeatureSet(z, logits, labels, head_fingerprint=head_fingerprint(self.head))

    def train_on(self, train: FeatureSet) -> nn.Linear:
        """Fit the head to these samples, so that only what changes in use is left to mend."""
        samples = Weighted(train.features, train.labels, torch.ones(len(train)))
        fitted = anchored_fit(samples, self.head.weight, self.head.bias, anchor=1e-3)
        for parameter, values in zip(self.head.parameters(), fitted, strict=True):
            parameter.copy_(values)
        return self.head

    def mistakes(self, n: int) -> tuple[Tensor, Tensor]:
        """Features and labels of ``n`` samples in use that the head gets wrong."""
        found, n_found = [], 0
        while n_found < n:
            labels = torch.randint(len(self.prototypes), (1000,), generator=self.rng)
            z = self.features(labels, (torch.rand(1000, generator=self.rng) < 0.3).float())
            wrong = self.head(z).argmax(1) != labels
            found.append((z[wrong], labels[wrong]))
            n_found += int(wrong.sum())
        features, labels = (torch.cat(parts)[:n] for parts in zip(*found, strict=True))
        return features, labels


def measured(stage: str, n_classes: int, n_features: int, n: int, n_train: int) -> dict[str, float]:
    """Seconds of one stage, peaks before and after it, in GiB."""
    world = World(n_classes, n_features)
    if stage == "counterfactual":
        z, labels = world.mistakes(n)
        method = NeuronCounterfactual(world.head, world.head)
        return _timed(lambda: method.attribute_features(z, labels))
    train = world.judged(n_train, 60, in_use=False)
    validation = world.judged(n, 30, in_use=False)
    met, test = (world.judged(n, 60, in_use=True) for _ in range(2))

    def fit(neurons: tuple[int, ...] | None = None) -> HeadEdit:
        some = {"n_neurons": 0} if neurons == () else {"neurons": neurons}
        return mend(world.head, train, validation, met, target=TARGET, **some).judge(test)

    if stage == "mend":
        return _timed(lambda: print(fit().summary(), file=sys.stderr))
    edit = fit()
    return _timed(lambda: edit.with_verdict(run_controls(fit, edit)))


def _timed(work: Callable[[], object]) -> dict[str, float]:
    inputs, start, cpu = peak(), time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "inputs": inputs,
        "peak": peak(),
    }


def speed(arguments: argparse.Namespace) -> None:
    print("| classes | stage | seconds | CPU seconds | peak of the inputs | peak |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n_classes in arguments.classes:
        for stage in arguments.stages:
            sizes = (n_classes, arguments.features, arguments.samples, arguments.train)
            command = [sys.executable, __file__, "one", stage, *map(str, sizes)]
            row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            print(
                f"| {n_classes:,} | {stage} | {row['seconds']:.1f} | {row['cpu']:.1f} | "
                f"{row['inputs']:.2f} GiB | {row['peak']:.2f} GiB |",
                flush=True,
            )


def quality(arguments: argparse.Namespace) -> None:
    """The same mend with all rows and with few, on the same samples."""
    n_classes, n_features = 1000, 128
    print(
        "| seed | rows | target | mean of classes | all | corrected | broken | verdict | seconds |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    warnings.simplefilter("ignore")
    for seed in range(arguments.seeds):
        world = World(n_classes, n_features, seed)
        train = world.judged(4 * n_classes, 60, in_use=False)
        if arguments.trained:
            train = train.with_head(world.train_on(train))
        validation = world.judged(2000, 30, in_use=False)
        met, test = world.judged(2000, 60, in_use=True), world.judged(5000, 200, in_use=True)
        _row(seed, "before", test, "", "", "", 0.0)
        for rows in arguments.rows:
            start = time.perf_counter()
            limit = rows if rows < n_classes else None
            edit = mend(
                world.head, train, validation, met, target=TARGET, max_cost=1.0, max_classes=limit
            )
            seconds = time.perf_counter() - start
            verdict, after = edit.judge(test).verdict, test.with_head(edit.head)
            decision = verdict.decision
            _row(seed, rows, after, verdict.n_corrected, verdict.n_broken, decision, seconds)


def _row(seed: int, rows: object, on: FeatureSet, *rest: object) -> None:
    of_classes = on.class_accuracy()
    *counts, seconds = rest
    cells = [
        seed,
        rows,
        f"{100 * float(of_classes[TARGET]):.1f}",
        f"{100 * float(of_classes.nanmean()):.2f}",
        f"{100 * on.accuracy():.2f}",
        *counts,
        f"{seconds:.1f}",
    ]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed")
    fast.add_argument("--classes", type=int, nargs="+", default=[1_000, 21_843])
    fast.add_argument("--features", type=int, default=2048)
    fast.add_argument("--samples", type=int, default=5_000)
    fast.add_argument("--train", type=int, default=20_000)
    fast.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    good = commands.add_parser("quality")
    good.add_argument("--seeds", type=int, default=5)
    good.add_argument("--trained", action="store_true", help="fit the head to train first")
    good.add_argument("--rows", type=int, nargs="+", default=[1000, 200, 50])
    one = commands.add_parser("one")
    one.add_argument("stage", choices=STAGES)
    one.add_argument("sizes", type=int, nargs=4)
    arguments = parser.parse_args()
    if arguments.command == "one":
        print(json.dumps(measured(arguments.stage, *arguments.sizes)))
    elif arguments.command == "speed":
        speed(arguments)
    else:
        quality(arguments)


if __name__ == "__main__":
    main()
