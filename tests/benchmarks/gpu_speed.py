"""Seconds of a step, memory of a pair, and what the GPU gains over the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any

import torch
from gpu_equality import problem
from gpu_networks import (
    Setup,
    lite0,
    lite0_name,
    random_clip,
    resnet50,
    small_net,
    small_sets,
    smooth_photos,
    tf32,
)
from gpu_table import Report, Table
from torch import nn

from captum_neuroinspect import (
    NeuronCounterfactual,
    collect_features,
    find_head,
    mend,
    neuron_saliency,
    render_illusions,
)
from captum_neuroinspect.models.weights import imagenet_class_names
from captum_neuroinspect.optvis import IllusionOptions

RENDERING = [
    "networks", "arithmetic", "batch", "ms a step", "steps x pairs / s", "s a pair, 450 steps",
    "MiB a pair", "start, s", "note",
]  # fmt: skip
AGAINST = ["what", "unit", "device / s", "CPU / s", "times faster", "note"]
ARITHMETIC = ("float32", "TF32", "bf16")
_N_TIMED = 20
_MIB = 2**20


def add_rendering(report: Report, setup: Setup, seconds: float) -> None:
    """Steps of ``render_illusions``."""
    table = report.table(f"`render_illusions` at {setup.size} px", RENDERING, seconds)
    with random_clip(setup) as clip:
        networks = _networks(setup, clip(setup.device))
        for batch in (2,) if setup.quick else (8, 64, 16, 32):
            for title, (make, guide) in networks.items():
                for arithmetic in ARITHMETIC:
                    _add_steps(table, setup, title, (make(), guide), arithmetic, batch)


def add_compiled_rendering(report: Report, setup: Setup, seconds: float) -> None:
    """The same with compiled networks, as far as there is time."""
    table = report.table(f"`render_illusions` at {setup.size} px, compiled", RENDERING, seconds)
    with random_clip(setup) as clip:
        for title, (make, guide) in _networks(setup, clip(setup.device)).items():
            _add_compiled(table, setup, title, make, guide)


def _networks(setup: Setup, encoder: Any) -> dict[str, tuple[Callable[[], nn.Module], Any]]:
    """How to make each model, and its guide."""
    return {
        lite0_name(): (partial(lite0, setup.device), None),
        "ResNet-50": (partial(resnet50, setup.device), None),
        "ResNet-50, guided by ViT-B-32": (partial(resnet50, setup.device), encoder),
    }


def _add_compiled(
    table: Table, setup: Setup, title: str, make: Callable[[], nn.Module], guide: Any
) -> None:
    """With both networks compiled in place; what falls once is not tried again."""
    model = make()
    model.compile()
    if guide is not None:
        guide.network.compile()
    for arithmetic, batch in product(("float32", "bf16"), (2,) if setup.quick else (8, 64)):
        how = f"{arithmetic}, compiled"
        if not _add_steps(table, setup, title, (model, guide), how, batch):
            return


def _add_steps(
    table: Table, setup: Setup, title: str, networks: tuple[nn.Module, Any], arithmetic: str,
    batch: int,
) -> bool:  # fmt: skip
    given = {"networks": title, "arithmetic": arithmetic, "batch": batch}
    limit = 90 if "compiled" in arithmetic else 25
    with tf32(*(arithmetic == "TF32",) * 2):
        return table.attempt(given, lambda: _steps(setup, *networks, arithmetic, batch), limit)


def _steps(
    setup: Setup, model: nn.Module, encoder: Any, arithmetic: str, batch: int
) -> Mapping[str, object]:
    guided = {} if encoder is None else {"encoder": encoder}
    options = IllusionOptions(
        batch_size=batch, precision="bfloat16" if "bf16" in arithmetic else "float32"
    )
    last: list[Any] = []

    def run(n_steps: int) -> float:
        setup.wait()
        start = time.perf_counter()
        last[:] = [render_illusions(
            model, list(range(batch)), list(range(batch)), class_names=imagenet_class_names(),
            size=setup.size, n_steps=n_steps, progress=False, options=options, **guided,
        )]  # fmt: skip
        setup.wait()
        return time.perf_counter() - start

    run(2)
    starts, n = [run(1)], 2 if setup.quick else _N_TIMED
    with _peak(setup) as peak:
        whole = run(1 + n)
    starts.append(run(1))
    start = min(starts)
    step = (whole - start) / n
    if step <= 0:
        raise RuntimeError(
            f"{n} steps took less time than the clock is off: {start:.2f} s to start"
        )
    found = last[0]
    together = found.settings["n_together"]
    return {
        "ms a step": 1000 * step,
        "steps x pairs / s": batch / step,
        "s a pair, 450 steps": (450 * step + start) / batch,
        "MiB a pair": peak[0] / batch / _MIB if setup.is_cuda else "",
        "start, s": start,
        "note": "" if together == batch else f"only {together} at a time fit",
    }


@contextmanager
def _peak(setup: Setup) -> Iterator[list[float]]:
    """Bytes at the peak above what was there before."""
    found: list[float] = []
    if setup.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    yield found
    if setup.is_cuda:
        found.append(torch.cuda.max_memory_allocated() - before)


def add_against_cpu(report: Report, setup: Setup, seconds: float) -> None:
    """How much faster the device is; the CPU gets fewer rows where it is slow."""
    table = report.table(f"{setup.device} against the CPU, speed", AGAINST, seconds)
    many, few = (8, 8) if setup.quick else (1024, 64)
    for title, make in ((lite0_name(), lite0), ("ResNet-50", resnet50)):
        for batch_size in (None, 256) if not setup.quick else (None,):
            what = f"`collect_features`, {title}, batch {batch_size or 'by default'}"
            run = partial(_collect, setup, make, batch_size)
            _add_rates(table, setup, what, "photos", run, many, few)
    many, few = (20, 10) if setup.quick else (5000, 50)
    # The exact solver takes many more steps.
    sizes = {"sgd": (many, few), "fista": (many // 5, few // 5)}
    n_features, classes = (64, (50,)) if setup.quick else (2048, (1000, 21843))
    for solver, n_classes in product(sizes, classes):
        what = f"counterfactuals, {solver}, {n_classes:,} classes x {n_features:,} features"
        run = partial(_solve, n_features, n_classes, solver)
        _add_rates(table, setup, what, "mistakes", run, *sizes[solver])
    many, few = (2, 2) if setup.quick else (64, 4)
    for method in ("gradient", "gradcam"):
        what = f"`neuron_saliency`, {method}, {lite0_name()}, 10 neurons"
        _add_rates(table, setup, what, "photos", partial(_look, setup, method), many, few)
    _add_rates(table, setup, "`mend`, 32 features, 4 classes", "edits", _mend, 1, 1)


def _add_rates(
    table: Table, setup: Setup, what: str, unit: str,
    prepare: Callable[[torch.device, int], Callable[[], object]], many: int, few: int,
) -> None:  # fmt: skip
    """``prepare`` gives the work of so many rows; each is done once before it is timed."""

    def rate(device: torch.device, n: int, repeats: int) -> float:
        work = prepare(device, n)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            setup.wait()
            seconds.append(time.perf_counter() - start)
        return n / min(seconds)

    def measure() -> Mapping[str, object]:
        prepare(setup.device, few)()
        with _peak(setup) as peak:
            there = rate(setup.device, many, 2)
        note = f"{many} against {few} {unit}" if many != few else f"{many} {unit}"
        if setup.is_cuda:
            note += f"; peak {peak[0] / _MIB / 1024:.2f} GiB"
        cpu = rate(torch.device("cpu"), few, 1)
        return {"device / s": there, "CPU / s": cpu, "times faster": there / cpu, "note": note}

    with tf32(matmul=False, cudnn=False):
        table.attempt({"what": what, "unit": unit}, measure, seconds=60)


def _collect(
    setup: Setup, make: Any, batch_size: int | None, device: torch.device, n: int
) -> Callable[[], object]:
    model, photos = make(device), smooth_photos(n, setup.size)
    labels = torch.zeros(n, dtype=torch.int64)
    return lambda: collect_features(model, (photos, labels), batch_size=batch_size, progress=False)


def _solve(
    n_features: int, n_classes: int, solver: str, device: torch.device, n: int
) -> Callable[[], object]:
    head, features, target = problem(n, n_features, n_classes)
    layer = head.to(device)
    method = NeuronCounterfactual(layer, layer, solver=solver)
    features, target = features.to(device), target.to(device)
    return lambda: method.attribute_features(features, target)


def _look(setup: Setup, method: str, device: torch.device, n: int) -> Callable[[], object]:
    model, photos = lite0(device), smooth_photos(n, setup.size).to(device)
    head, neurons = find_head(model, photos[:1]), list(range(10))
    return lambda: neuron_saliency(model, head, photos, neurons, method=method)


def _mend(device: torch.device, n: int) -> Callable[[], object]:
    train, validation, met, _ = small_sets()
    head = small_net(device).head
    return lambda: mend(head, train, validation, met, target=1, n_neurons=5)
