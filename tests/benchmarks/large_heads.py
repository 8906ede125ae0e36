"""Seconds and memory of each step with a head of 1,000 to 21,843 classes.

Random photos of 8 x 8 pixels, 2,048 features behind a ReLU, a random head; mistakes are taken for
one of the five classes that the head ranks next, and 200 are of the inspected class. Each step runs
in a process of its own that first loads the data: "peak" is its largest resident memory from then
on, "above" what lies beyond the memory at the start of the step, the returned results included. CPU
seconds of all threads together hardly depend on what else the machine does.
"report" is a session's: preflight, explanation, six cards and the page. Linux only.
Run with the package installed, for two cores: ``python tests/benchmarks/large_heads.py --classes
1000 5000 21843 --threads 2``. ``--skip mend`` leaves a step out, ``--limit`` stops a longer one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect import FeatureSet, NeuroInspect, NeuronCounterfactual, rank_neurons
from captum_neuroinspect.analysis.class_errors import confusions, worst_classes
from captum_neuroinspect.analysis.comparison import compare_photos
from captum_neuroinspect.analysis.core_relevance import class_representatives
from captum_neuroinspect.edit import compare_heads, mend
from captum_neuroinspect.inspection import preflight

TARGET, N_TARGET, SIDE = 0, 200, 8


def network(n_features: int, n_classes: int) -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Linear(3 * SIDE * SIDE, n_features)
    nn.init.normal_(first.weight)
    net = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(n_features, n_classes))
    return net.requires_grad_(False).eval()


def prepare(folder: Path, n_features: int, n_classes: int, n_mistakes: int, n_right: int) -> None:
    """Photos and features with labels, kept in a folder."""
    net = network(n_features, n_classes)
    photos = torch.rand(n_mistakes + n_right, 3, SIDE, SIDE)
    features = torch.empty(len(photos), n_features)
    logits = torch.empty(len(photos), n_classes)
    labels = torch.empty(len(photos), dtype=torch.int64)
    for rows in torch.arange(len(photos)).split(500):
        features[rows] = net[:-1](photos[rows])
        logits[rows] = net[-1](features[rows])
        best = logits[rows].topk(6).indices
        place = torch.randint(1, 6, (len(rows),)).where(rows < n_mistakes, 0)
        labels[rows] = best.gather(1, place[:, None])[:, 0]
    nearest = (logits[:n_mistakes, TARGET] - logits[:n_mistakes].amax(1)).topk(N_TARGET).indices
    labels[nearest] = TARGET
    FeatureSet(features, logits, labels).save(folder / "features.safetensors")
    torch.save((photos, labels), folder / "photos.pt")
    torch.save((n_features, n_classes), folder / "sizes.pt")


class Material:
    """What steps work on, each part loaded when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.net = network(*torch.load(folder / "sizes.pt"))
        self.head = self.net[-1]

    def features(self) -> FeatureSet:
        return FeatureSet.load(self.folder / "features.safetensors")

    def changes(self) -> Tensor:
        """What the counterfactual gave; if it was skipped, random sparse changes."""
        kept = self.folder / "w.pt"
        if kept.exists():
            return torch.load(kept)
        n_mistakes = int(self.features().is_mistake().sum())
        shape = (n_mistakes, self.head.in_features)
        return torch.randn(shape) * (torch.rand(shape) < 0.1)

    def session(self) -> NeuroInspect:
        return NeuroInspect(
            self.net, image_size=SIDE, work=self.folder / "work", head=self.head, progress=False
        )

    def loaded(self) -> NeuroInspect:
        session = self.session()
        session.load(torch.load(self.folder / "photos.pt"))
        return session


Step = Callable[[], object]


def _errors(material: Material) -> Step:
    data = material.features()
    return lambda: (worst_classes(data), confusions(data))


def _preflight(material: Material) -> Step:
    data = material.features()
    return lambda: preflight(data, target=TARGET)


def _representatives(material: Material) -> Step:
    data = material.features()
    return lambda: class_representatives(data)


def _counterfactual(material: Material) -> Step:
    wrong = material.features().mistakes()
    method = NeuronCounterfactual(material.head, material.head)

    def step() -> None:
        w = method.attribute_features(wrong.features, wrong.labels)
        torch.save(w, material.folder / "w.pt")

    return step


def _ranking(material: Material) -> Step:
    data, w = material.features(), material.changes()
    wrong = data.mistakes()
    return lambda: rank_neurons(w, features=wrong, reference=data)


def _load(material: Material) -> Step:
    session, photos = material.session(), torch.load(material.folder / "photos.pt")
    return lambda: session.load(photos)


def _report(material: Material) -> Step:
    session = material.loaded()

    def step() -> None:
        session.preflight(TARGET, clock=None)
        session.explain(TARGET)
        session.report(material.folder / "report.html")

    return step


def _compare(material: Material) -> Step:
    data, (other, _) = material.features(), material.features().split(0.5)
    head = nn.Linear(material.head.in_features, material.head.out_features)
    head.load_state_dict(material.head.state_dict())
    with torch.no_grad():
        head.bias[TARGET] += 1
    edit = compare_heads(material.head, head, other, {TARGET: [0]})
    del other
    return lambda: compare_photos(edit, data)


def _mend(material: Material) -> Step:
    train, rest = material.features().split(0.4)
    validation, met = rest.split(0.5)
    del rest
    return lambda: mend(material.head, train, validation, met, target=TARGET)


STEPS: dict[str, Callable[[Material], Step]] = {
    "worst_classes": _errors,
    "preflight": _preflight,
    "representatives": _representatives,
    "counterfactual": _counterfactual,
    "ranking": _ranking,
    "session.load": _load,
    "report": _report,
    "compare": _compare,
    "mend": _mend,
}


def resident(name: str) -> float:
    """VmRSS or VmHWM, the largest since :func:`forget_peak`, in GiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 2**20


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(folder: Path, name: str) -> dict[str, float]:
    step = STEPS[name](Material(folder))
    forget_peak()
    before, start, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    result = step()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    del result
    peak = resident("VmHWM")
    return {"seconds": seconds, "cpu": cpu, "peak": peak, "above": peak - before}


def in_own_process(threads: int, limit: float, *arguments: object) -> dict[str, Any] | str:
    command = [sys.executable, __file__, "--threads", str(threads), "--one", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit, text=True)
    except subprocess.TimeoutExpired:
        return f"stopped after {limit:.0f}"
    if done.returncode:
        return done.stderr.strip().splitlines()[-1] if done.stderr else f"exit {done.returncode}"
    return json.loads(done.stdout or "{}")


def table(n_classes: int, asked: argparse.Namespace) -> None:
    n_photos = asked.mistakes + asked.right
    data = n_photos * (n_classes + asked.features) * 4 / 2**30
    head = n_classes * asked.features * 4 / 2**30
    print(f"\n{n_classes:,} classes, {asked.features:,} features, {asked.mistakes:,} mistakes of")
    print(f"{n_photos:,} photos: the data take {data:.2f} GiB, the head {head:.2f} GiB\n")
    print("| step | seconds | CPU seconds | peak, GiB | above, GiB |")
    print("| --- | --- | --- | --- | --- |")
    total = cpu = highest = 0.0
    with tempfile.TemporaryDirectory() as name:
        sizes = (asked.features, n_classes, asked.mistakes, asked.right)
        in_own_process(asked.threads, 3600, "prepare", name, *sizes)
        for step in STEPS:
            if step in asked.skip:
                continue
            row = in_own_process(asked.threads, asked.limit, "step", name, step)
            if isinstance(row, str):
                print(f"| {step} | {row} | | | |", flush=True)
                continue
            total, cpu = total + row["seconds"], cpu + row["cpu"]
            highest = max(highest, row["peak"])
            times = f"{row['seconds']:.1f} | {row['cpu']:.1f}"
            print(f"| {step} | {times} | {row['peak']:.2f} | {row['above']:.2f} |", flush=True)
    print(f"| all of these | {total:.1f} | {cpu:.1f} | {highest:.2f} | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[1000, 5000, 21843])
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--mistakes", type=int, default=5000)
    parser.add_argument("--right", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip", nargs="*", choices=list(STEPS), default=[])
    parser.add_argument("--limit", type=float, default=1800, help="seconds a step may take")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if not asked.one:
        for n_classes in asked.classes:
            table(n_classes, asked)
    elif asked.one[0] == "prepare":
        prepare(Path(asked.one[1]), *map(int, asked.one[2:]))
    else:
        print(json.dumps(measure(Path(asked.one[1]), asked.one[2])))


if __name__ == "__main__":
    main()
