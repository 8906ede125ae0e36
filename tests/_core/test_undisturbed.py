"""Entry points inside contexts that their caller has switched on for something else."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import CONTEXTS, ConvNet, float64, left_unchanged, nudged
from torch import Tensor, nn

from captum_neuroinspect import (
    FeatureSet,
    HeadEdit,
    Illusions,
    NeuronCounterfactual,
    activation_mask,
    collect_features,
    describe_neurons,
    edit_head,
    find_head,
    mend,
    neuron_saliency,
    preflight,
    probability_ratio,
    rank_neurons,
    render_illusions,
)
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.analysis import core_relevance, crops, top_photos
from captum_neuroinspect.edit import (
    EditSettings,
    calibration_error,
    compare_heads,
    cross_fit,
    edit_through_images,
    run_controls,
)
from captum_neuroinspect.edit.baselines import Retraining
from captum_neuroinspect.inspection import NeuroInspect
from captum_neuroinspect.models import save_model
from captum_neuroinspect.optvis import (
    illusion_image,
    maco_image,
    random_affine,
    spectrum_magnitude,
    with_contrast,
)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    torch.manual_seed(0)
    model = ConvNet(3).eval()
    images = torch.rand(90, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(90) % 3
    features = collect_features(model, (images, labels), progress=False)
    train, held = features.split(0.5)
    mistakes = held.mistakes()
    target = int(mistakes.labels[0])
    return {
        "model": model,
        "data": (images, labels),
        "train": train,
        "held": held,
        "target": target,
        "other": FeatureSet(
            (z := torch.rand(60, 16, generator=torch.Generator().manual_seed(2))),
            model.head(z).detach(),
            torch.arange(60) % 3,
        ),
        "other_head": nn.Linear(16, 3),
        "other_data": (
            torch.rand(30, 3, 16, 16, generator=torch.Generator().manual_seed(7)),
            torch.arange(30) % 3,
        ),
        "grouped": replace(held, groups=held.labels % 2),
        "mistakes": nudged(mistakes.subset(mistakes.labels == target)),
    }


def _session(made: dict[str, Any]) -> list[Tensor]:
    session = NeuroInspect(made["model"], image_size=16, progress=False)
    features = session.load(made["data"])
    found = session.explain(made["target"])
    illusions = session.visualize(found.neurons(1), n_steps=1, size=16)
    edit = session.edit(method="equation8", n_epochs=2)
    return [features.logits, illusions.images, edit.head.weight.detach()]


class _Brightness:
    """An encoder of two numbers: how bright an image is, and how dark."""

    network = nn.Identity()

    def encode_image(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return F.normalize(torch.stack([mean, 1 - mean], 1), dim=1)

    def encode_text(self, texts: Any) -> Tensor:
        rows = [[1.0, 0.3 * i] for i in range(len(list(texts)))]
        return F.normalize(torch.tensor(rows), dim=1)


def _refitted(m: dict[str, Any], *parts: FeatureSet, neurons: Any = None) -> HeadEdit:
    train, validation, met = parts or (m["train"], m["held"], m["mistakes"])
    return mend(m["model"].head, train, validation, met, target=m["target"], neurons=neurons)


def _judged(m: dict[str, Any]) -> list[Tensor]:
    edit = _refitted(m, neurons=[1]).judge(m["other"])
    assert edit.judged is not None
    controls = run_controls(
        lambda neurons: _refitted(m, neurons=list(neurons) or None).judge(m["other"]),
        edit,
        n_draws=1,
    )
    n_corrected = [float(control.n_corrected) for control in controls]
    return [
        edit.judged.after.logits,
        torch.tensor(n_corrected, dtype=torch.float32),
        edit.diff().d_weight,
    ]


def _cross_fitted(m: dict[str, Any]) -> list[Tensor]:
    def fit(train: Any, met: Any, validation: Any, neurons: Any) -> HeadEdit:
        return _refitted(m, train, validation, met, neurons=[1])

    edit = cross_fit(fit, m["train"], m["mistakes"], m["held"], n_folds=2)
    assert edit.judged is not None
    return [edit.head.weight.detach(), edit.judged.after.logits]


def _illusions_in(m: dict[str, Any], **options: Any) -> Illusions:
    return render_illusions(m["model"], [1], [0], n_steps=2, size=16, progress=False, **options)


def _described(m: dict[str, Any]) -> list[Tensor]:
    found = describe_neurons(
        {1: list(m["data"][0][:3])}, _Brightness(), phrases=["light", "dark", "grey"],
        background=m["data"][0][:4], progress=False,
    )  # fmt: skip
    return [torch.tensor(one.scores, dtype=torch.float32) for one in found]


def _saved(m: dict[str, Any]) -> list[Tensor]:
    with tempfile.TemporaryDirectory() as name:
        path = m["held"].save(Path(name) / "held.safetensors")
        features = FeatureSet.load(path).features
        saved = save_model(m["model"], Path(name) / "net.safetensors", example=m["data"][0][:2])
        assert saved.n_tensors
        return [features]


ENTRIES: dict[str, Callable[[dict[str, Any]], list[Tensor]]] = {
    "find_head": lambda m: [find_head(m["model"], m["data"][0][:1]).weight.detach()],
    "collect_features": lambda m: [
        collect_features(m["model"], m["data"], progress=False).features
    ],
    "counterfactual": lambda m: [
        NeuronCounterfactual(m["model"], m["model"].head).attribute(
            m["data"][0][:6], target=m["target"]
        )
    ],
    "counterfactual of features": lambda m: [
        NeuronCounterfactual(m["model"].head, m["model"].head).attribute_features(
            m["mistakes"].features, target=m["target"]
        )
    ],
    "rank": lambda m: [
        torch.tensor(one.neurons, dtype=torch.int64)
        for found in (rank_neurons(m["mistakes"].features - 0.5, k=3),)
        for one in (found.insufficient, found.excessive)
    ],
    "saliency": lambda m: [neuron_saliency(m["model"], "head", m["data"][0][:2], [0, 1])],
    "edit_head": lambda m: [
        edit_head(
            m["model"].head, m["train"], m["held"], target=m["target"], neurons=[1], n_epochs=2
        ).head.weight.detach()
    ],
    "mend": lambda m: [
        mend(
            m["model"].head, m["train"], m["held"], m["mistakes"], target=m["target"]
        ).head.weight.detach()
    ],
    "baseline": lambda m: [
        Retraining()(
            m["model"].head, m["train"], m["held"], target=m["target"], neurons=[1]
        ).weight.detach()
    ],
    "render": lambda m: [
        render_illusions(m["model"], [1], [0], n_steps=2, size=16, progress=False).images
    ],
    "render with an encoder": lambda m: [
        _illusions_in(m, encoder=_Brightness(), class_names=["a", "b", "c"]).images
    ],
    "describe": _described,
    "judge and controls": _judged,
    "cross_fit": _cross_fitted,
    "through images": lambda m: [
        edit_through_images(
            m["model"],
            m["other_data"],
            m["held"],
            target=m["target"],
            neurons=[1],
            settings=EditSettings(n_epochs=2),
        ).head.weight.detach()
    ],
    "compare_heads": lambda m: [
        compare_heads(m["model"].head, m["other_head"], m["held"], {0: [1]}).diff().d_weight
    ],
    "save and load": _saved,
    "preflight": lambda m: [
        torch.tensor([preflight(m["held"]).guessing.accuracy], dtype=torch.float32)
    ],
    "top_photos": lambda m: [top_photos(m["held"], [0, 1], 3).activations],
    "core_relevance": lambda m: [
        core_relevance(m["model"], m["model"].head, _illusions_in(m), m["held"])
    ],
    "with_head": lambda m: [m["held"].with_head(m["other_head"]).logits],
    "crops": lambda m: [crops(m["model"], m["data"][0][:2], 1).boxes],
    "session": _session,
    "class accuracy": lambda m: [m["held"].class_accuracy(), m["grouped"].group_accuracy()],
    "calibration": lambda m: [torch.tensor(calibration_error(m["held"]), dtype=torch.float32)],
    "ratio": lambda m: [probability_ratio(m["model"].head, m["held"].features, [0, 1], 1)],
    "mask": lambda m: [activation_mask(m["data"][0][:2, 0], 32, blur=2.0)],
    "parametrizations": lambda m: [
        make(16, batch=2)[1]().detach() for make in (illusion_image, maco_image)
    ],
    "spectrum": lambda m: [spectrum_magnitude(m["data"][0])],
    "contrast": lambda m: [with_contrast(m["data"][0][:2])],
    "affine": lambda m: [random_affine()(m["data"][0][:2])],
}
KEEP_AUTOCAST = {"find_head", "collect_features", "counterfactual", "rank", "saliency"}
KEEP_AUTOCAST |= {"counterfactual of features"}


@pytest.fixture(scope="module")
def right(made) -> dict[str, list[Tensor]]:
    torch.manual_seed(5)
    found = {name: call(made) for name, call in ENTRIES.items()}
    assert all(any(tensor.numel() for tensor in tensors) for tensors in found.values())
    return found


@pytest.mark.filterwarnings("ignore:the original head is returned")
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", ENTRIES)
def test_the_numbers_are_those_of_a_call_by_itself(made, right, name: str, context: str) -> None:
    torch.manual_seed(5)
    with left_unchanged(made["model"]), CONTEXTS[context]():
        found = ENTRIES[name](made)
        if context == "float64":
            assert torch.get_default_dtype() == torch.float64  # as the caller left it
    for one, other in zip(found, right[name], strict=True):
        assert one.dtype == other.dtype
        if context == "autocast" and name in KEEP_AUTOCAST:
            assert one.isfinite().all()  # in the low precision that was asked for
        else:
            torch.testing.assert_close(one, other, equal_nan=True)


def test_what_was_collected_in_inference_mode_can_be_learnt_from(made) -> None:
    with torch.inference_mode():
        features = collect_features(made["model"], made["data"], progress=False)
        part = features.subset(torch.arange(60))
    assert not features.features.is_inference()
    assert not part.features.is_inference()
    weight = torch.zeros(3, features.features.shape[1], requires_grad=True)
    (features.features @ weight.T).sum().backward()


def test_everything_is_put_back_also_after_an_error() -> None:
    @undisturbed()
    def fails() -> None:
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert torch.zeros(1).dtype == torch.float32
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.float32
        raise ZeroDivisionError

    with float64(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ZeroDivisionError):
            fails()
        assert torch.get_default_dtype() == torch.float64
        assert torch.is_inference_mode_enabled()
        ones = torch.ones(2, 2, dtype=torch.float32)
        assert (ones @ ones).dtype == torch.bfloat16


def test_threads_share_the_default_dtype_and_the_last_puts_it_back() -> None:
    inside, leave = threading.Barrier(3), threading.Event()

    def work() -> None:
        with undisturbed():
            inside.wait()
            leave.wait()

    with float64():
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        inside.wait()
        with undisturbed():
            pass
        assert torch.get_default_dtype() == torch.float32  # two are still at work
        leave.set()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() == torch.float64


def test_warnings_point_at_the_caller_behind_the_decorator(made, monkeypatch) -> None:
    n_calls, step = 0, torch.optim.AdamW.step

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.warns(match="interrupted") as caught:
        ENTRIES["render"](made)
    assert {one.filename for one in caught} == {__file__}
