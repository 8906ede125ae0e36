"""Whether the GPU gives what the CPU gives, with TF32 off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from gpu_networks import (
    Setup,
    class_photos,
    difference,
    lite0,
    lite0_name,
    small_net,
    small_sets,
    smooth_photos,
    tf32,
)
from gpu_table import Report
from torch import Tensor, nn

from captum_neuroinspect import (
    NeuronCounterfactual,
    collect_features,
    edit_head,
    find_head,
    mend,
    neuron_saliency,
    rank_neurons,
    render_illusions,
)
from captum_neuroinspect.edit import EditOptions, EditSettings, edit_through_images
from captum_neuroinspect.optvis import IllusionOptions

COLUMNS = ["what", "dtype", "largest relative difference", "note"]
PAIRS = ([3, 50, 121, 200], [207, 281, 504, 817])
_STEPS = (1, 5, 20)
_PLAIN = {"progress": False}


def add_equality(report: Report, setup: Setup, seconds: float) -> None:
    """A table with the largest differences between the device and the CPU."""
    table = report.table(f"{setup.device} against the CPU", COLUMNS, seconds)
    n = 8 if setup.quick else 64
    double, single = torch.float64, torch.float32
    rows: list[tuple[str, torch.dtype, Callable[[torch.dtype], Mapping[str, object]]]] = [
        *((_lite("features"), dtype, partial(_features, setup, n)) for dtype in (single, double)),
        (f"{_lite('features')}, PyTorch's default (TF32 convolutions)", single,
         partial(_default_features, setup, n)),
        *((f"counterfactuals, 1,000 classes, {solver}", dtype,
           partial(_counterfactuals, setup, n, solver))
          for solver in ("sgd", "fista") for dtype in (single, double)),
        (_lite("ranking with a contrast"), single, partial(_ranking, setup, n)),
        *((_lite(f"saliency, {method}"), single, partial(_saliency, setup, method))
          for method in ("gradient", "integrated_gradients", "gradcam")),
        ("head of `edit_head`", single, partial(_edits, setup, "edit_head")),
        ("head of `mend`", single, partial(_edits, setup, "mend")),
        ("head of `edit_through_images`", single, partial(_edits, setup, "images")),
        *((_lite(f"illusions after {', '.join(map(str, _STEPS))} steps"), dtype,
           partial(_illusions, setup)) for dtype in (single, double)),
    ]  # fmt: skip
    for what, dtype, measure in rows:
        given = {"what": what, "dtype": str(dtype).removeprefix("torch.")}
        with tf32(matmul=False, cudnn=False):
            table.attempt(given, partial(measure, dtype), seconds=40)


def _lite(what: str) -> str:
    return f"{what}, {lite0_name()}"


def _found(one: Tensor, other: Tensor, note: str = "") -> dict[str, object]:
    return {"largest relative difference": f"{difference(one, other):.2e}", "note": note}


def _both(setup: Setup, run: Callable[[torch.device], Any]) -> tuple[Any, Any]:
    return run(setup.device), run(torch.device("cpu"))


def _lite_features(setup: Setup, n: int, dtype: torch.dtype, device: torch.device) -> Any:
    model = lite0(device).to(dtype)
    photos = smooth_photos(n, setup.size)
    return collect_features(model, (photos, torch.arange(n) % 10), **_PLAIN)


def _features(setup: Setup, n: int, dtype: torch.dtype) -> Mapping[str, object]:
    here, there = _both(setup, partial(_lite_features, setup, n, dtype))
    same = int((here.predictions == there.predictions).sum())
    return _found(here.features, there.features, f"{same} of {n} predictions are the same")


def _default_features(setup: Setup, n: int, dtype: torch.dtype) -> Mapping[str, object]:
    with tf32(matmul=False, cudnn=True):
        return _features(setup, n, dtype)


def problem(n: int, n_features: int, n_classes: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """A head, features behind a ReLU, and one of the five classes next to the chosen one."""
    torch.manual_seed(0)
    head = nn.Linear(n_features, n_classes).requires_grad_(False)
    features = torch.randn(n, n_features).relu_()
    rows = [head(part).topk(6).indices for part in features.split(500)]
    best = torch.cat(rows).gather(1, torch.randint(1, 6, (n, 1)))
    return head, features, best[:, 0]


def _counterfactuals(setup: Setup, n: int, solver: str, dtype: torch.dtype) -> Mapping[str, object]:
    head, features, target = problem(n, *((64, 50) if setup.quick else (1280, 1000)))

    def run(device: torch.device) -> Any:
        layer = head.to(device, dtype)
        method = NeuronCounterfactual(layer, layer, solver=solver)
        asked = features.to(device, dtype), target.to(device)
        return method.attribute_features(*asked, return_details=True)

    here, there = _both(setup, run)
    steps = int((here.n_steps.cpu() == there.n_steps).sum())
    right = int((here.converged.cpu() == there.converged).sum())
    note = f"{steps} of {n} took as many steps, {right} agree on having converged"
    return _found(here.w, there.w, note)


def _ranking(setup: Setup, n: int, dtype: torch.dtype) -> Mapping[str, object]:
    def run(device: torch.device) -> Any:
        data = _lite_features(setup, 2 * n, dtype, device)
        data = data.__class__(data.features, data.logits, data.predictions.roll(1))
        mistakes, reference = data.mistakes(), data.features[: n // 2]
        layer = find_head(lite0(device), torch.rand(1, 3, setup.size, setup.size))
        w = NeuronCounterfactual(layer, layer).attribute_features(
            mistakes.features.to(device), mistakes.labels.to(device)
        )
        return rank_neurons(w, k=10, features=mistakes.features, reference=reference)

    here, there = _both(setup, run)
    first = [[ranking.insufficient.neurons[:20] for ranking in (here, there)],
             [ranking.excessive.neurons[:20] for ranking in (here, there)]]  # fmt: skip
    same = [sum(a == b for a, b in zip(*lists, strict=True)) for lists in first]
    sizes = [torch.tensor(r.insufficient.magnitude[:20]) for r in (here, there)]
    note = f"insufficient: {same[0]} of the first 20 at the same place, excessive: {same[1]}"
    return _found(*sizes, note)


def _saliency(setup: Setup, method: str, dtype: torch.dtype) -> Mapping[str, object]:
    photos = smooth_photos(2 if setup.quick else 4, setup.size)
    steps = {"n_steps": 8} if method == "integrated_gradients" else {}

    def run(device: torch.device) -> Tensor:
        model = lite0(device).to(dtype)
        head = find_head(model, photos[:1])
        inputs = photos.to(device, dtype)
        return neuron_saliency(model, head, inputs, PAIRS[0], method=method, **steps)

    return _found(*_both(setup, run))


def _edits(setup: Setup, how: str, dtype: torch.dtype) -> Mapping[str, object]:
    train, validation, met, _ = small_sets()
    options = EditOptions(max_cost=1.0)

    def run(device: torch.device) -> Any:
        net = small_net(device).to(dtype)
        if how == "mend":
            return mend(net.head, train, validation, met, target=1, n_neurons=5, max_cost=1.0)
        if how == "images":
            return edit_through_images(
                net, class_photos(64), validation, head=net.head, target=1, neurons=[1, 2],
                mistakes=met.mistakes(),
                settings=EditSettings(n_epochs=2, select="target", options=options),
            )  # fmt: skip
        return edit_head(
            net.head, train, validation, target=1, neurons=[1, 2], mistakes=met.mistakes(),
            n_epochs=5, select="target", options=options,
        )  # fmt: skip

    here, there = _both(setup, run)
    change = [edit.head.weight.detach().cpu() - small_net().head.weight for edit in (here, there)]
    if not change[1].abs().max() > 0:
        raise RuntimeError("the edit on the CPU changed nothing: there is nothing to compare")
    note = (
        f"of the change {difference(*change):.1e}; the head is on {here.head.weight.device}, "
        f"{here.method.describe(here.head.out_features)}"
    )
    return _found(here.head.weight, there.head.weight, note)


def _illusions(setup: Setup, dtype: torch.dtype) -> Mapping[str, object]:
    n_steps = 5 if setup.quick else _STEPS[-1]
    kept = [step for step in _STEPS if step <= n_steps]

    def run(device: torch.device) -> Any:
        return render_illusions(
            lite0(device).to(dtype), *PAIRS, size=setup.size, n_steps=n_steps,
            options=IllusionOptions(snapshots=kept, batch_size=4), **_PLAIN,
        )  # fmt: skip

    here, there = _both(setup, run)
    far = [difference(a, b) for a, b in zip(here.snapshots, there.snapshots, strict=True)]
    scores = difference(here.activations, there.activations)
    return {
        "largest relative difference": ", ".join(f"{value:.1e}" for value in far),
        "note": f"activations after the last {scores:.1e}",
    }
