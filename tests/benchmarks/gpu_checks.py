"""What users meet on a GPU: devices that differ, autocast, orders of memory, files, a session."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from gpu_networks import (
    NAMES,
    Setup,
    class_photos,
    difference,
    letters,
    lite0,
    random_clip,
    resnet50,
    small_net,
    small_sets,
    smooth_photos,
    tf32,
)
from gpu_table import Report
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms.v2.functional import to_pil_image

from captum_neuroinspect import (
    FeatureSet,
    LabelSpaceEncoder,
    NeuroInspect,
    NeuronCounterfactual,
    collect_features,
    edit_head,
    find_head,
    mend,
    neuron_saliency,
    probability_ratio,
    rank_neurons,
    render_illusions,
)
from captum_neuroinspect.edit import EditOptions
from captum_neuroinspect.optvis import Guidance, IllusionOptions

COLUMNS = ["check", "result", "note"]
Check = Callable[[Setup], str]
_CHECKS: dict[str, Check] = {}
_COMPILED: dict[str, Check] = {}
_QUIET = {"progress": False}
_TINY = {"size": 32, "n_steps": 3, "progress": False}


def add_checks(report: Report, setup: Setup, seconds: float) -> None:
    """A row for each check: ok, or what fell."""
    _add(report, setup, f"What users meet on {setup.device}", _CHECKS, seconds)


def add_compiled_checks(report: Report, setup: Setup, seconds: float) -> None:
    """The same for compiled models, which takes long."""
    _add(report, setup, f"Compiled models on {setup.device}", _COMPILED, seconds)


def _add(
    report: Report, setup: Setup, title: str, checks: Mapping[str, Check], seconds: float
) -> None:
    table = report.table(title, COLUMNS, seconds)

    def ran(check: Check) -> Mapping[str, object]:
        with tf32(matmul=False, cudnn=True):  # PyTorch's default
            return {"result": "ok", "note": check(setup)}

    for name, check in checks.items():
        table.attempt({"check": name}, partial(ran, check), 60, fallen={"result": "FELL"})


def check(name: str, among: dict[str, Check] = _CHECKS) -> Callable[[Check], Check]:
    def keep(run: Check) -> Check:
        among[name] = run
        return run

    return keep


def expect(is_so: bool, text: str) -> None:
    if not is_so:
        raise AssertionError(text)


def expect_close(one: Tensor, other: Tensor, tolerance: float = 1e-3) -> str:
    found = difference(one, other)
    expect(found <= tolerance, f"differs by {found:.1e}, expected at most {tolerance:.0e}")
    return f"differs by {found:.1e}"


@contextmanager
def unchanged(*models: nn.Module) -> Iterator[None]:
    """The models are bit by bit, flag by flag and hook by hook what they were."""
    before = [_state(model) for model in models]
    yield
    for model, was in zip(models, before, strict=True):
        for (name, old), new in zip(was.items(), _state(model).values(), strict=True):
            same = torch.equal(old, new) if isinstance(old, Tensor) else old == new
            expect(same, f"the model was changed: {name}")


def _state(model: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: value.detach().clone().contiguous().reshape(-1).view(torch.uint8)
        for name, value in model.state_dict().items()
    }
    for name, module in model.named_modules():
        hooks = {k: len(v) for k, v in vars(module).items() if "hook" in k and hasattr(v, "keys")}
        found[f"flags of {name}"] = module.training, hooks, "forward" in vars(module)
    for name, p in model.named_parameters():
        found[f"gradients of {name}"] = p.requires_grad, p.grad is None, str(p.device), p.stride()
    return found


def _features(model: nn.Module, device: torch.device | str = "cpu", **options: Any) -> FeatureSet:
    photos, labels = class_photos(64)
    return collect_features(model, (photos.to(device), labels.to(device)), **_QUIET, **options)


@cache
def _usual() -> FeatureSet:
    return _features(small_net())


@check("`find_head`, `collect_features`: photos on the CPU")
def _(setup: Setup) -> str:
    net = small_net(setup.device).train()  # as in the middle of a training
    with unchanged(net):
        head = find_head(net, class_photos(2)[0])
        found = _features(net)
    expect(head is net.head, "another head was found")
    expect(found.features.device.type == "cpu", "the features are not on the CPU")
    return expect_close(found.features, _usual().features)


@check("`collect_features`: photos and labels on the device")
def _(setup: Setup) -> str:
    net = small_net(setup.device)
    with unchanged(net):
        found = _features(net, setup.device)
    expect(found.labels.device.type == "cpu", "the labels are not on the CPU")
    return expect_close(found.features, _usual().features)


@check("`collect_features`: a DataLoader with workers and pinned memory")
def _(setup: Setup) -> str:
    data = TensorDataset(*class_photos(64))
    loader = DataLoader(data, batch_size=16, num_workers=2, pin_memory=setup.is_cuda)
    found = collect_features(small_net(setup.device), loader, **_QUIET)
    return expect_close(found.features, _usual().features)


@check("`collect_features`: a Dataset of tensors on the device")
def _(setup: Setup) -> str:
    data = TensorDataset(*(t.to(setup.device) for t in class_photos(64)))
    found = collect_features(small_net(setup.device), data, **_QUIET)
    return expect_close(found.features, _usual().features)


@check("`collect_features` twice: the same bits")
def _(setup: Setup) -> str:
    data = smooth_photos(16, setup.size), torch.zeros(16, dtype=torch.int64)
    one, two = (collect_features(lite0(setup.device), data, **_QUIET) for _ in range(2))
    return _bits(one.features, two.features)


def _bits(one: Tensor, two: Tensor) -> str:
    same = torch.equal(one, two)
    return "the same bits" if same else f"NOT the same bits: differs by {difference(one, two):.1e}"


@check("`collect_features` and `find_head` with TF32 everywhere")
def _(setup: Setup) -> str:
    photos = smooth_photos(16, setup.size)
    notes = []
    for make in (lite0, resnet50):
        with tf32(matmul=True, cudnn=True):
            model = make(setup.device)
            data = photos, torch.zeros(16, dtype=torch.int64)
            found = collect_features(model, data, find_head(model, photos[:1]), **_QUIET)
            head = find_head(model, photos[:1])
        again = found.with_head(head.cpu())
        notes.append(f"features @ head against logits {difference(again.logits, found.logits):.1e}")
    return "; ".join(notes)


@check("a FeatureSet with tensors on the device")
def _(setup: Setup) -> str:
    data = _on(setup, _usual())
    data.accuracy(), data.class_accuracy(), data.confusion(), repr(data), data._repr_html_()
    mistakes, (one, _two) = data.mistakes(), data.split(0.5)
    expect(mistakes.features.device.type == "cpu", "a set lies on the CPU")
    one.without(mistakes), data.subset(torch.tensor([0, 2])), data.correct(1)
    data.with_head(small_net(setup.device).head)
    return f"{len(mistakes)} mistakes"


@check("a FeatureSet on the device, a head on the CPU: `with_head`")
def _(setup: Setup) -> str:
    found = _on(setup, _usual()).with_head(small_net().head)
    return expect_close(found.logits, _usual().logits)


@check("a FeatureSet on the CPU, a head on the device: `with_head`")
def _(setup: Setup) -> str:
    found = _usual().with_head(small_net(setup.device).head)
    return expect_close(found.logits, _usual().logits)


def _on(setup: Setup, data: FeatureSet) -> FeatureSet:
    tensors = (t.to(setup.device) for t in (data.features, data.logits, data.labels))
    return FeatureSet(*tensors, class_names=data.class_names)


def _solved(head: nn.Linear, data: FeatureSet) -> Tensor:
    return NeuronCounterfactual(head, head).attribute_features(data.features, data.labels)


@cache
def _expected_change() -> Tensor:
    return _solved(small_net().head, _usual().mistakes())


@check("counterfactuals: features on the CPU, head on the device")
def _(setup: Setup) -> str:
    w = _solved(small_net(setup.device).head, _usual().mistakes())
    return f"w on {w.device}, {expect_close(w, _expected_change())}"


@check("counterfactuals: features on the device, head on the CPU")
def _(setup: Setup) -> str:
    w = _solved(small_net().head, _on(setup, _usual().mistakes()))
    return f"w on {w.device}, {expect_close(w, _expected_change())}"


@check("counterfactuals: labels on the CPU, the rest on the device; a reference on the CPU")
def _(setup: Setup) -> str:
    mistakes, head = _usual().mistakes(), small_net(setup.device).head
    method = NeuronCounterfactual(head, head)
    for reference in (_usual(), _usual().correct().features):
        w = method.attribute_features(
            mistakes.features.to(setup.device), mistakes.labels, reference=reference
        )
    return f"w on {w.device}"


@check("counterfactuals twice: the same bits")
def _(setup: Setup) -> str:
    mistakes, net = _usual().mistakes(), small_net(setup.device)
    one, two = (_solved(net.head, _on(setup, mistakes)) for _ in range(2))
    return _bits(one, two)


@check("`attribute` with photos on the device, also of an inner layer")
def _(setup: Setup) -> str:
    net, (photos, labels) = small_net(setup.device), class_photos(16)
    with unchanged(net):
        for layer, more in ((net.head, {}), ("backbone.4", {"channelwise": True})):
            method = NeuronCounterfactual(net, layer)
            w = method.attribute(photos.to(setup.device), labels, **more)
    return f"w {tuple(w.shape)} on {w.device}"


@check("`attribute` with photos on the CPU, model on the device")
def _(setup: Setup) -> str:
    net, (photos, labels) = small_net(setup.device), class_photos(16)
    with unchanged(net):
        w = NeuronCounterfactual(net, net.head).attribute(photos, labels)
    return f"w on {w.device}"


@check("`rank_neurons`: w on the device, FeatureSets on the CPU")
def _(setup: Setup) -> str:
    mistakes, reference = _usual().mistakes(), _usual()
    w = _expected_change()
    found = rank_neurons(w.to(setup.device), features=mistakes, reference=reference)
    usual = rank_neurons(w, features=mistakes, reference=reference)
    expect(found.insufficient.neurons == usual.insufficient.neurons, "another order")
    rank_neurons(w.to(setup.device))
    return f"insufficient: {found.insufficient.neurons[:5]}"


@check("`rank_neurons`: w on the CPU, features on the device")
def _(setup: Setup) -> str:
    mistakes, reference = _on(setup, _usual().mistakes()), _on(setup, _usual())
    found = rank_neurons(_expected_change(), features=mistakes, reference=reference)
    return f"insufficient: {found.insufficient.neurons[:5]}"


@check("`neuron_saliency`: photos on the CPU, model on the device")
def _(setup: Setup) -> str:
    photos, net = class_photos(4)[0], small_net(setup.device)
    notes = []
    for method in ("gradient", "input_x_gradient", "integrated_gradients", "gradcam"):
        with unchanged(net):
            here = neuron_saliency(net, net.head, photos, [0, 5, 9], method=method)
        there = neuron_saliency(small_net(), "head", photos, [0, 5, 9], method=method)
        notes.append(f"{difference(here, there):.1e}")
        expect(here.device.type == "cpu", f"{method}: left the device of the photos")
    return f"differs by {', '.join(notes)}"


@check("`neuron_saliency` of Lite0 twice: the same bits")
def _(setup: Setup) -> str:
    photos, model = smooth_photos(4, setup.size).to(setup.device), lite0(setup.device)
    head = find_head(model, photos[:1])
    one, two = (neuron_saliency(model, head, photos, [3, 50]) for _ in range(2))
    return _bits(one, two)


@check("Captum beside it: NeuronGradient and LayerGradCam on the device")
def _(setup: Setup) -> str:
    from captum.attr import LayerGradCam, NeuronGradient

    net = small_net(setup.device)
    photos = class_photos(4)[0].to(setup.device).requires_grad_()
    at = {"attribute_to_neuron_input": True}
    theirs = NeuronGradient(net, net.head).attribute(photos, 5, **at)
    LayerGradCam(net, net.backbone[4]).attribute(photos, 1)
    return expect_close(neuron_saliency(net, net.head, photos, [5])[:, 0], theirs)


@check("`render_illusions`: neurons and classes as tensors on the device; the model after")
def _(setup: Setup) -> str:
    net = small_net(setup.device).train()
    asked = [torch.tensor(values, device=setup.device) for values in ([1, 5], [0, 2])]
    with unchanged(net):
        found = render_illusions(net, *asked, **_TINY)
        directions = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
        render_illusions(net, directions.to(setup.device), 1, **_TINY)
        render_illusions(
            net,
            directions,
            1,
            options=IllusionOptions(init=found.images[0].to(setup.device)),
            **_TINY,
        )
        render_illusions(net, [0], layer="backbone.4", param="maco", **_TINY)
    expect(found.images.device.type == "cpu", "the images are not on the CPU")
    found.grid(masked=True), found.remasked(blur=1.0, softness=0.5).to_pil()
    return ""


@check("`render_illusions` twice: the same bits; in other batches")
def _(setup: Setup) -> str:
    model, steps = lite0(setup.device), {"size": setup.size, "n_steps": 10, **_QUIET}
    with unchanged(model):
        one, two, other = (
            render_illusions(
                model,
                [3, 50, 121, 200],
                [7, 8, 9, 10],
                options=IllusionOptions(batch_size=n),
                **steps,
            ).images
            for n in (4, 4, 2)
        )
    return f"{_bits(one, two)}; in batches of 2: {_bits(other, one)}"


@check("`render_illusions`, precision='auto' and 'bfloat16', Lite0 and ResNet-50")
def _(setup: Setup) -> str:
    notes = []
    for make in (lite0, resnet50):
        for precision in ("auto", "bfloat16"):
            found = render_illusions(
                make(setup.device), [3], [7], size=setup.size, n_steps=3,
                options=IllusionOptions(precision=precision),
                **_QUIET,
            )  # fmt: skip
            chosen = found.settings["low_precision"]["model"]
            notes.append(f"{make.__name__} {precision}: bf16 {chosen}")
    return ", ".join(notes)


@check("`render_illusions`: an encoder on the CPU, a model on the device, and the other way")
def _(setup: Setup) -> str:
    for here, there in ((setup.device, "cpu"), ("cpu", setup.device)):
        encoder = LabelSpaceEncoder(small_net(there), NAMES, letters)
        net = small_net(here)
        with unchanged(net, encoder.network):
            found = render_illusions(
                net, [1, 2], [0, 1], encoder=encoder, class_names=NAMES,
                options=IllusionOptions(Guidance(negative=["a blot"])), **_TINY,
            )  # fmt: skip
    return f"similarities {found.similarities.tolist()}"


@check("an OpenCLIP encoder on the device, photos on the CPU; restored after")
def _(setup: Setup) -> str:
    tiny = Setup(setup.device, quick=True)
    with random_clip(tiny) as clip:
        encoder, usual = clip(setup.device), clip("cpu")
        net, photos = small_net(setup.device), class_photos(4)[0]
        with unchanged(net, encoder.network):
            render_illusions(
                net, [1, 2], [0, 1], encoder=encoder, class_names=NAMES,
                options=IllusionOptions(Guidance(encoder_every=2)), **_TINY,
            )  # fmt: skip
        text = difference(encoder.encode_text(NAMES), usual.encode_text(NAMES))
        return f"text {text:.1e}, {_close_images(encoder, usual, photos)}"


def _close_images(encoder: Any, usual: Any, photos: Tensor) -> str:
    with torch.no_grad():
        return "images " + expect_close(encoder.encode_image(photos), usual.encode_image(photos))


@check("words: `describe_neurons` with an encoder on the device")
def _(setup: Setup) -> str:
    from captum_neuroinspect import describe_neurons

    encoder = LabelSpaceEncoder(small_net(setup.device), NAMES, letters)
    photos = class_photos(16)[0]
    evidence = {1: photos[:8], 2: photos[8:].to(setup.device)}
    found = describe_neurons(evidence, encoder, phrases=[*NAMES, "sky", "grass"], n_phrases=2)
    return str(found[0])[:80]


Step = Callable[[], object]


def _steps(net: nn.Module, head: nn.Linear, photos: Tensor) -> dict[str, Step]:
    """What the package does with a model, its head and 64 photos."""
    train, validation, met, _ = small_sets()
    if head.weight.dtype != torch.float32:  # rounded weights are another head
        train, validation, met = (data.with_head(head) for data in (train, validation, met))
    usual, w, labels = _usual(), _expected_change(), class_photos(len(photos))[1]
    device, dtype = head.weight.device, head.weight.dtype
    there = photos.to(device, dtype)
    return {
        "collect_features": lambda: collect_features(
            net, (photos, labels), batch_size=32, **_QUIET
        ),
        "find_head": lambda: find_head(net, photos[:1]),
        "attribute": lambda: NeuronCounterfactual(net, head).attribute(there, labels.to(device)),
        "attribute_features": lambda: _solved(head, usual.mistakes()),
        "rank_neurons": lambda: rank_neurons(w, features=usual.mistakes(), reference=usual),
        "neuron_saliency": lambda: neuron_saliency(net, head, there[:2], [1, 2]),
        "gradcam": lambda: neuron_saliency(net, head, there[:2], [1, 2], method="gradcam"),
        "render_illusions": lambda: render_illusions(net, [1], [0], **_TINY),
        "split": lambda: train.split(0.5),
        "edit_head": lambda: edit_head(
            head, train, validation, target=1, neurons=[1], n_epochs=1
        ),
        "mend": lambda: mend(head, train, validation, met, target=1, n_neurons=5),
        "probability_ratio": lambda: probability_ratio(head, usual.features, [1], 1),
    }  # fmt: skip


def _all(steps: Mapping[str, Step], around: Callable[[], AbstractContextManager[Any]]) -> str:
    """Do each step, also after one fell, and say which fell."""
    fell = []
    for name, step in steps.items():
        try:
            with around(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                step()
        except Exception as error:
            fell.append(f"{name}: {type(error).__name__}: {str(error)[:150]}")
    expect(not fell, f"{len(fell)} of {len(steps)} fell: " + "; ".join(fell))
    return ", ".join(steps)


def _all_of(net: Any, around: Callable[[], AbstractContextManager[Any]] = nullcontext) -> str:
    steps = _steps(net, net.head, class_photos(64)[0])
    with unchanged(net):
        return _all(steps, around)


@check("each step under `torch.autocast` to bfloat16")
def _(setup: Setup) -> str:
    around = partial(torch.autocast, setup.device.type, torch.bfloat16)
    net = small_net(setup.device)
    done = _all_of(net, around)
    with around():
        found = _features(net)
    return f"features: {expect_close(found.features, _usual().features, 0.05)}; {done}"


@check("each step inside `torch.inference_mode` and `torch.no_grad`")
def _(setup: Setup) -> str:
    _all_of(small_net(setup.device), torch.no_grad)
    return _all_of(small_net(setup.device), torch.inference_mode)


@check("each step with the device as PyTorch's default")
def _(setup: Setup) -> str:
    return _all_of(small_net(setup.device), lambda: _default_device(setup))


@check("a session with the device as PyTorch's default")
def _(setup: Setup) -> str:
    small_net(), small_sets()  # made before the default changes
    with tempfile.TemporaryDirectory() as folder, _default_device(setup):
        return _session(setup, Path(folder))


@contextmanager
def _default_device(setup: Setup) -> Iterator[None]:
    torch.set_default_device(setup.device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@check("`channels_last` model and photos")
def _(setup: Setup) -> str:
    last = {"memory_format": torch.channels_last}
    net, (photos, labels) = small_net(setup.device).to(**last), class_photos(64)
    photos = photos.to(setup.device).contiguous(**last)
    with unchanged(net):
        found = collect_features(net, (photos, labels), **_QUIET)
        neuron_saliency(net, net.head, photos[:2], [1, 2], method="gradcam")
        NeuronCounterfactual(net, "backbone.4").attribute(photos[:8], labels[:8], channelwise=True)
        render_illusions(net, [1], [0], **_TINY)
    return expect_close(found.features, _usual().features)


@check("each step with a model in float16")
def _(setup: Setup) -> str:
    return _all_of(small_net(setup.device).to(torch.float16))


@check("each step with a model in bfloat16")
def _(setup: Setup) -> str:
    return _all_of(small_net(setup.device).to(torch.bfloat16))


@check("DataParallel")
def _(setup: Setup) -> str:
    net, (photos, labels) = small_net(setup.device), class_photos(64)
    model = nn.DataParallel(net)
    with unchanged(net):
        found = collect_features(model, (photos, labels), **_QUIET)
        w = NeuronCounterfactual(model, net.head).attribute(photos.to(setup.device), labels)
    return f"w on {w.device}, {expect_close(found.features, _usual().features)}"


@check("`torch.use_deterministic_algorithms`, `cudnn.benchmark`")
def _(setup: Setup) -> str:
    photos = smooth_photos(4, setup.size)
    model = lite0(setup.device)
    head = find_head(model, photos[:1])
    steps = {"size": setup.size, "n_steps": 4, **_QUIET}
    torch.backends.cudnn.benchmark = True
    render_illusions(model, [3, 5], [7, 8], **steps)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    try:
        neuron_saliency(model, head, photos.to(setup.device), [3])
        one, two = (render_illusions(model, [3, 5], [7, 8], **steps) for _ in range(2))
        return f"illusions twice: {_bits(one.images, two.images)}"
    finally:
        torch.use_deterministic_algorithms(False)


@check("`edit_head`, `mend`: a head on the device, FeatureSets on the CPU; applied, judged")
def _(setup: Setup) -> str:
    return _edits(setup, small_sets())


@check("`edit_head`, `mend`: a head and FeatureSets on the device")
def _(setup: Setup) -> str:
    return _edits(setup, tuple(_on(setup, data) for data in small_sets()))


def _edits(setup: Setup, sets: tuple[FeatureSet, ...]) -> str:
    train, validation, met, test = sets
    net, photos = small_net(setup.device), class_photos(8)[0].to(setup.device)
    with unchanged(net), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        edits = {
            "edit_head": edit_head(
                net.head, train, validation, target=1, neurons=[1, 2], mistakes=met.mistakes(),
                n_epochs=3, select="target", options=EditOptions(max_cost=1.0),
            ),
            "mend": mend(net.head, train, validation, met, target=1, n_neurons=5, max_cost=1.0),
        }  # fmt: skip
        for edit in edits.values():
            judged = edit.judge(test)
            judged.summary()
            with edit.applied(net, example=photos):
                net(photos)
        # An edit that was made elsewhere.
        with edit_head(
            small_net().head, *small_sets()[:2], target=1, neurons=[1], n_epochs=1
        ).applied(net):
            net(photos)
    edits["mend"].apply_(net)
    return ", ".join(f"{k} is on {e.head.weight.device}" for k, e in edits.items())


@check("`probability_ratio`: head on the device, features on the CPU, and the other way")
def _(setup: Setup) -> str:
    features = _usual().features
    one = probability_ratio(small_net(setup.device).head, features, [1, 2], 1)
    two = probability_ratio(small_net().head, features.to(setup.device), [1, 2], 1)
    return f"on {one.device} and {two.device}, {expect_close(one, two)}"


@check("files of a run on the device, read where no GPU is seen")
def _(setup: Setup) -> str:
    net, (train, validation, *_) = small_net(setup.device), small_sets()
    edit = edit_head(
        net.head, train, validation, target=1, neurons=[1, 2], n_epochs=1, select="target",
        options=EditOptions(max_cost=1.0),
    )  # fmt: skip
    made = render_illusions(net, [1, 2], [0, 1], **_TINY)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _features(net).save(folder / "features.safetensors")
        _on(setup, _usual()).save(folder / "device.safetensors")
        edit.save(folder / "edit.safetensors")
        made.save(folder / "illusions.safetensors")
        code = (
            "import sys, torch; from captum_neuroinspect import *\n"
            "assert not torch.cuda.is_available(); f = sys.argv[1]\n"
            "a = FeatureSet.load(f + '/features.safetensors')\n"
            "b = FeatureSet.load(f + '/device.safetensors')\n"
            "e = HeadEdit.load(f + '/edit.safetensors')\n"
            "i = Illusions.load(f + '/illusions.safetensors')\n"
            "print(a.features.device, b.features.device, e.head.weight.device, i.images.device)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, name], capture_output=True, text=True, check=False,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "",
                 "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
    expect(run.returncode == 0, run.stderr[-200:])
    return run.stdout.strip()


@check("a model loaded with device='auto'")
def _(setup: Setup) -> str:
    import torchvision
    from safetensors.torch import save_file

    from captum_neuroinspect.models.load import load_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.safetensors")
        torch.manual_seed(0)
        save_file(torchvision.models.resnet18().state_dict(), path)
        loaded = load_model("torchvision:resnet18", weights=path, device="auto")
    place = next(loaded.model.parameters()).device
    if setup.is_cuda:
        expect(place.type == "cuda", f"it is on {place}")
    return f"on {place}"


@check("a session on the device: photos from a folder, report")
def _(setup: Setup) -> str:
    with tempfile.TemporaryDirectory() as name:
        return _session(setup, Path(name))


def _session(setup: Setup, folder: Path) -> str:
    photos, labels = class_photos(240, seed=5)
    for i, (photo, label) in enumerate(zip(photos.cpu(), labels.tolist(), strict=True)):
        path = folder / "photos" / NAMES[label] / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(photo).save(path)
    net = small_net(setup.device)
    encoder = LabelSpaceEncoder(small_net(setup.device), NAMES, letters)

    def session(model: nn.Module) -> NeuroInspect:
        return NeuroInspect(
            model, class_names=NAMES, encoder=encoder, image_size=32, work=folder / "work",
            **_QUIET,
        )  # fmt: skip

    with unchanged(net, encoder.network), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine = session(net)
        mine.load(folder / "photos")
        mine.preflight(n_steps=2, size=32)
        mine.explain()
        made = mine.visualize(n_steps=3, size=32)
        mine.describe()
        mine.edit()
        mine.compare()
        page = mine.report(folder / "report.html")
        again = session(small_net("cpu"))  # goes on with the folder, on a CPU
        again.load(folder / "photos")
        again.explain()
    size = page.stat().st_size
    expect(size > 50_000, f"the report has {size} bytes")
    decision = mine.last_edit.verdict.decision
    return f"{len(made)} illusions, a report of {size // 1024} KiB, edit: {decision}"


@check("Lucent's `render_vis` with our objective and parameterization")
def _(setup: Setup) -> str:
    from lucent.optvis import render

    from captum_neuroinspect.encoders import class_embeddings
    from captum_neuroinspect.optvis import (
        GuidedModel,
        clean_hooks,
        clip_illusion,
        illusion_image,
        random_affine,
    )

    encoder = LabelSpaceEncoder(small_net(setup.device), NAMES, letters)
    guided = GuidedModel(small_net(setup.device), encoder)
    text = class_embeddings(encoder, [NAMES[1]])
    with clean_hooks(guided):
        images = render.render_vis(
            guided,
            clip_illusion("features", 5, 1, text),
            param_f=lambda: illusion_image(64, device=setup.device),
            transforms=[random_affine()],
            preprocess=False,
            show_image=False,
            thresholds=(4,),
            progress=False,
        )
    return f"{len(images)} x {images[0].shape}"


@check("out of memory: half as many at a time")
def _(setup: Setup) -> str:
    if not setup.is_cuda:
        return "only on a GPU"
    model, n = resnet50(setup.device), 64
    asked = {"size": setup.size, "n_steps": 2, "options": IllusionOptions(batch_size=n), **_QUIET}
    usual = render_illusions(model, list(range(n)), list(range(n)), **asked)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(setup.device).total_memory
    there = torch.cuda.memory_reserved() + 2 * 2**30
    torch.cuda.set_per_process_memory_fraction(there / total)
    try:
        with unchanged(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = render_illusions(model, list(range(n)), list(range(n)), **asked)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    together = found.settings["n_together"]
    expect(together < n, f"{together} fitted into 2 GiB more: nothing was tried")
    return f"{together} at a time; differs by {difference(found.images, usual.images):.1e}"


@check("each step with `torch.compile(model)`", _COMPILED)
def _(setup: Setup) -> str:
    net = small_net(setup.device)
    return _compiled(torch.compile(net), net)


@check("each step with `model.compile()`", _COMPILED)
def _(setup: Setup) -> str:
    net = small_net(setup.device)
    net.compile()
    return _compiled(net, net)


def _compiled(model: Any, net: Any) -> str:
    photos = class_photos(64)[0]
    model(photos[:2].to(net.head.weight.device))  # used before, as in a training
    done = _all(_steps(model, net.head, photos), nullcontext)
    found = _features(model, batch_size=32)
    made, usual = (render_illusions(m, [1], [0], **_TINY) for m in (model, small_net(_place(net))))
    close = expect_close(found.features, _usual().features)
    return f"features: {close}; illusions: {_bits(made.images, usual.images)}; {done}"


def _place(net: nn.Module) -> torch.device:
    return next(net.parameters()).device
