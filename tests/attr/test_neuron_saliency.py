from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from captum.attr import (
    LayerAttribution,
    LayerGradCam,
    NeuronGradient,
    NeuronGuidedBackprop,
    NeuronIntegratedGradients,
)
from captum.attr import visualization as captum_pictures
from helpers import Boom, ConvNet, hooks_of, left_unchanged
from torch import nn
from torchvision import models

from captum_neuroinspect import rank_neurons
from captum_neuroinspect.attr import NeuronList, _neuron_gradients, neuron_saliency, saliency_figure

ALL = slice(None)
NEURONS = [5, 0, 11]
METHODS = ["gradient", "input_x_gradient", "gradcam", "integrated_gradients"]


@pytest.fixture
def net():
    return ConvNet().eval()


@pytest.fixture
def images():
    return torch.rand(3, 3, 10, 8)


def _reference_gradient(model, layer, images, selector, at_input, **options):
    images = images.clone().requires_grad_()  # Captum warns if it has to do this itself
    return NeuronGradient(model, layer).attribute(
        images, selector, attribute_to_neuron_input=at_input, **options
    )


def _reference_integrated(model, layer, images, selector, at_input, **options):
    return NeuronIntegratedGradients(model, layer).attribute(
        images, selector, attribute_to_neuron_input=at_input, **options
    )


def _one_at_a_time(reference, model, layer, images, selectors, at_input, **options):
    each = [reference(model, layer, images, s, at_input, **options) for s in selectors]
    return torch.stack(each, 1).detach()


def _assert_equal(actual, expected, atol=1e-5):
    assert expected.abs().max() > 10 * atol  # a reference of zeros would say nothing
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


def test_gradient_equals_captum_at_the_heads_inputs(net, images):
    saliency = neuron_saliency(net, net.head, images, NEURONS)
    expected = _one_at_a_time(_reference_gradient, net, net.head, images, NEURONS, True)
    assert saliency.shape == (3, 3, 3, 10, 8)
    assert saliency.dtype == torch.float32
    assert not saliency.requires_grad
    _assert_equal(saliency, expected)


def test_gradient_equals_captum_for_tuples_in_a_conv_layer(net, images):
    """A tuple is Captum's: slices are summed, numbers are one position."""
    selectors = [(2, ALL, ALL), (0, 3, 1), (1, slice(2, 5), 4)]
    saliency = neuron_saliency(net, "backbone.0", images, selectors)
    expected = _one_at_a_time(
        _reference_gradient, net, net.backbone[0], images, selectors, at_input=False
    )
    _assert_equal(saliency, expected)


def test_a_number_is_the_mean_over_positions(net, images):
    means = neuron_saliency(net, net.backbone[2], images, [3, 1])
    sums = neuron_saliency(net, net.backbone[2], images, [(3, ALL, ALL), (1, ALL, ALL)])
    _assert_equal(means * 8 * 6, sums)


def test_input_x_gradient_is_the_product(net, images):
    expected = _one_at_a_time(_reference_gradient, net, net.head, images, NEURONS, True)
    saliency = neuron_saliency(net, net.head, images, NEURONS, "input_x_gradient")
    _assert_equal(saliency, expected * images.unsqueeze(1))


@pytest.mark.parametrize("baselines", [None, 0.5, "tensor"])
@pytest.mark.parametrize("at_input", [True, False])
def test_integrated_gradients_equal_captum(net, images, baselines, at_input):
    layer, selectors = (net.head, NEURONS) if at_input else (net.backbone[1], [(1, ALL, ALL)])
    if baselines == "tensor":
        baselines = torch.rand_like(images)
    saliency = neuron_saliency(
        net, layer, images, selectors, "integrated_gradients", baselines=baselines, n_steps=7
    )
    expected = _one_at_a_time(
        _reference_integrated,
        *(net, layer, images, selectors, at_input),
        baselines=baselines,
        n_steps=7,
    )
    _assert_equal(saliency, expected)


def test_integrated_gradients_sum_to_the_change_of_the_neuron(net, images):
    """Completeness; the default of 50 steps is enough for it."""
    saliency = neuron_saliency(net, net.head, images, NEURONS, "integrated_gradients")
    with torch.no_grad():
        change = net.backbone(images) - net.backbone(torch.zeros_like(images))
    torch.testing.assert_close(saliency.flatten(2).sum(2), change[:, NEURONS], atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", ["backbone.0", "backbone.2"])
def test_gradcam_equals_captum_at_the_heads_inputs(net, images, name):
    cams = neuron_saliency(net, net.head, images, NEURONS, "gradcam", cam_layer=name)
    grad_cam = LayerGradCam(net.backbone, net.get_submodule(name))
    expected = torch.stack([grad_cam.attribute(images, j) for j in NEURONS], 1).detach()
    assert cams.shape == (3, 3, 1, 8, 6)
    _assert_equal(cams, expected)


def test_gradcam_finds_the_last_maps_before_the_neurons(net, images):
    """The pooled maps have more than one position here, those of the head none."""
    found = neuron_saliency(net, net.head, images, NEURONS, "gradcam")
    pooled = neuron_saliency(net, net.head, images, NEURONS, "gradcam", cam_layer=net.backbone[3])
    assert torch.equal(found, pooled)
    inner = neuron_saliency(net, net.backbone[1], images, [2], "gradcam")
    itself = neuron_saliency(
        net, net.backbone[1], images, [2], "gradcam", cam_layer=net.backbone[1]
    )
    assert torch.equal(inner, itself)
    before = neuron_saliency(
        net, net.backbone[1], images, [2], "gradcam", attribute_to_neuron_input=True
    )
    _assert_equal(before[:, 0, 0], net.backbone[0](images)[:, 2].detach() / 48)


class SharedReLU(nn.Module):
    """One in-place ReLU in three places; the middle one is before the maps' layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(5, 2)

    def forward(self, images):
        maps = self.relu(self.conv2(self.relu(self.conv1(images))))
        return self.relu(self.head(maps.mean((2, 3))))


def test_gradcam_does_not_take_a_module_that_runs_again_later(images):
    net = SharedReLU()
    found = neuron_saliency(net, net.head, images, [0], "gradcam", attribute_to_neuron_input=True)
    conv = neuron_saliency(
        *(net, net.head, images, [0], "gradcam"),
        attribute_to_neuron_input=True,
        cam_layer="conv2",
    )
    assert torch.equal(found, conv)


@pytest.mark.parametrize("name", ["conv1", "conv2", "relu"])
def test_layers_before_and_of_in_place_operations(images, name):
    """What is read is the layer's own value, not what the next layer makes of it."""
    net = SharedReLU()
    selectors = [(1, 2, 3), (0, ALL, ALL)] if name != "relu" else [0, 1]
    saliency = neuron_saliency(net, name, images, selectors)
    expected = _one_at_a_time(
        _reference_gradient, net, net.get_submodule(name), images, selectors, at_input=False
    )
    _assert_equal(saliency, expected)
    if name != "relu":
        selector = selectors[1]
        cams = neuron_saliency(net, "conv2", images, [selector], "gradcam", cam_layer="conv1")

        def channel(pictures):
            return net.conv2(net.relu(net.conv1(pictures)))[:, 0].sum((1, 2))

        expected = LayerGradCam(channel, net.conv1).attribute(images)
        _assert_equal(cams[:, 0], expected.detach())


def test_neurons_of_linear_layers_are_their_inputs_of_others_the_outputs(net, images):
    """The type decides, not what the network makes of the layer's output."""
    as_captum = {"attribute_to_neuron_input": True}
    head = neuron_saliency(net, net.head, images, [3])
    assert torch.equal(head, neuron_saliency(net, net.head, images, [3], **as_captum))
    classes = neuron_saliency(net, net.head, images, [3], attribute_to_neuron_input=False)
    expected = _reference_gradient(net, net.head, images, 3, False)
    _assert_equal(classes[:, 0], expected)
    assert not torch.equal(classes, head)
    two = nn.Sequential(nn.Flatten(), nn.Linear(240, 6), nn.ReLU(), nn.Linear(6, 3))
    inner = neuron_saliency(two, two[1], images, [5])
    _assert_equal(inner[:, 0], _reference_gradient(two, two[1], images, 5, True))
    _assert_equal(
        neuron_saliency(two, two[2], images, [5])[:, 0],
        _reference_gradient(two, two[2], images, 5, False),
    )
    in_place = nn.Sequential(net, nn.ReLU(inplace=True))
    assert torch.equal(neuron_saliency(in_place, net.head, images, [3]), head)


@pytest.mark.parametrize("method", METHODS)
def test_order_and_duplicates_of_neurons(net, images, method):
    one = neuron_saliency(net, net.head, images, [5, 0, 11], method)
    other = neuron_saliency(net, net.head, images, [11, 5, 5, 0], method)
    torch.testing.assert_close(other, one[:, [2, 0, 0, 1]], atol=1e-7, rtol=1e-5)
    assert not torch.allclose(one[:, 0], one[:, 1])


@pytest.mark.parametrize("method", METHODS)
def test_batch_equals_singles_and_any_batch_size(net, images, method):
    batch = neuron_saliency(net, net.head, images, NEURONS, method)
    singles = [neuron_saliency(net, net.head, one[None], NEURONS, method) for one in images]
    _assert_equal(torch.cat(singles), batch)
    for sizes in ({"internal_batch_size": 1}, {"internal_batch_size": 2, "neurons_per_pass": 2}):
        _assert_equal(neuron_saliency(net, net.head, images, NEURONS, method, **sizes), batch)


@pytest.mark.parametrize("method", METHODS)
def test_one_neuron_a_pass_equals_all_in_one(net, images, method, monkeypatch):
    passes = []
    products = _neuron_gradients._products

    def counted(*args, **kwargs):
        passes.append(kwargs)
        return products(*args, **kwargs)

    monkeypatch.setattr(_neuron_gradients, "_products", counted)
    arguments = (net, net.head, images, NEURONS, method)
    together = neuron_saliency(*arguments, internal_batch_size=150, neurons_per_pass=3)
    assert len(passes) == 1
    one = neuron_saliency(*arguments, internal_batch_size=150, neurons_per_pass=1)
    assert len(passes) == 1 + len(NEURONS)
    _assert_equal(one, together)


def test_large_photos_on_a_cpu_go_one_by_one(monkeypatch):
    """By default: where folding neurons into one pass was measured to be slower."""
    sizes = []
    pull_back = _neuron_gradients.pull_back

    def recorded(value, leaf, cotangents):
        sizes.append(len(cotangents))
        return pull_back(value, leaf, cotangents)

    monkeypatch.setattr(_neuron_gradients, "pull_back", recorded)
    net = ConvNet()
    neuron_saliency(net, net.head, torch.rand(1, 3, 96, 96), [0, 1])
    neuron_saliency(net, net.head, torch.rand(1, 3, 32, 32), list(range(16)) * 3)
    assert sizes == [1, 1, 32, 16]


class _DataDependent(torch.autograd.Function):
    """Its backward pass asks for a value: that cannot be batched."""

    n_calls = 0

    @staticmethod
    def forward(ctx, value):
        return value * 3

    @staticmethod
    def backward(ctx, gradient):
        _DataDependent.n_calls += 1
        return gradient * 3 if gradient.any() else gradient


class _Raises(torch.autograd.Function):
    n_calls = 0

    @staticmethod
    def forward(ctx, value):
        return value * 1

    @staticmethod
    def backward(ctx, gradient):
        _Raises.n_calls += 1
        raise RuntimeError("out of memory")


class _Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, value):
        return self.function.apply(value)


def test_an_operation_without_a_batching_rule_goes_one_by_one(net, images):
    whole = nn.Sequential(_Applied(_DataDependent), net)
    _DataDependent.n_calls = 0
    saliency = neuron_saliency(whole, net.head, images, NEURONS)
    assert _DataDependent.n_calls == 1 + len(NEURONS)
    expected = _one_at_a_time(_reference_gradient, whole, net.head, images, NEURONS, True)
    _assert_equal(saliency, expected)


def test_other_errors_of_the_backward_pass_are_passed_on_at_once(net, images):
    whole = nn.Sequential(_Applied(_Raises), net)
    _Raises.n_calls = 0
    with left_unchanged(whole), pytest.raises(RuntimeError, match="out of memory"):
        neuron_saliency(whole, net.head, images, NEURONS)
    assert _Raises.n_calls == 1


def _timm_net():
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_vit", num_classes=5, img_size=32)
    return model, model.head, model.blocks[0], [(1, 3), (2, 0)], torch.rand(2, 3, 32, 32)


def _torchvision_net():
    resnet = pytest.importorskip("torchvision.models.resnet")
    model = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=5)
    for module in model.modules():  # statistics of a trained net: not 0 and 1
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    inner = model.layer2[0].conv2
    return model, model.fc, inner, [(7, ALL, ALL), (3, 0, 1)], torch.rand(2, 3, 32, 32)


def _transformers_net():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
        num_labels=3,
    )
    model = transformers.ViTForImageClassification(config)
    for parameter in model.parameters():  # the usual start is so small that gradients are ~1e-4
        nn.init.normal_(parameter, std=0.3)
    embeddings = model.get_submodule("vit.embeddings")
    return model, model.classifier, embeddings, [(1, 3), (2, ALL)], torch.rand(2, 3, 16, 16)


@pytest.mark.parametrize("make", [_timm_net, _transformers_net])
def test_gradcam_of_a_transformer_is_of_its_patches(make):
    """Not of the heads and tokens inside an attention, which are four-dimensional too."""
    model, head, _, _, images = make()
    patches = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    found = neuron_saliency(model, head, images, [0, 7], "gradcam")
    _assert_equal(found, neuron_saliency(model, head, images, [0, 7], "gradcam", cam_layer=patches))
    n_rows = images.shape[-1] // patches.stride[0]
    assert found.shape[-2:] == (n_rows, n_rows)


@pytest.mark.parametrize("make", [_timm_net, _torchvision_net, _transformers_net])
def test_known_libraries_equal_captum(make):
    model, head, inner, selectors, images = make()
    model.eval()
    with left_unchanged(model):
        features = neuron_saliency(model, head, images, [0, 7])
        integrated = neuron_saliency(model, head, images, [0, 7], "integrated_gradients", n_steps=4)
        values = neuron_saliency(model, inner, images, selectors)
    of_head, of_inner = (
        (model, head, images, [0, 7], True),
        (model, inner, images, selectors, False),
    )
    _assert_equal(features, _one_at_a_time(_reference_gradient, *of_head))
    _assert_equal(integrated, _one_at_a_time(_reference_integrated, *of_head, n_steps=4))
    _assert_equal(values, _one_at_a_time(_reference_gradient, *of_inner))


def test_a_number_of_a_transformers_layer_is_the_mean_over_tokens():
    model, _, inner, _, images = _transformers_net()
    tokens = neuron_saliency(model, inner, images, [4])
    sums = _reference_gradient(model.eval(), inner, images, (ALL, 4), False)
    _assert_equal(tokens[:, 0] * 17, sums)


def test_neurons_in_all_forms_agree(net, images):
    expected = neuron_saliency(net, net.head, images, [5, 0])
    listed = NeuronList((5, 0), (0.5, 0.4), (1.0, 1.0))
    forms = [listed, listed.neurons, np.array([5, 0]), torch.tensor([5, 0]), [np.int64(5), (0,)]]
    forms += [iter([5, 0]), [lambda z: z[:, 5], lambda z: z[:, 0]]]
    for neurons in forms:
        assert torch.equal(neuron_saliency(net, net.head, images, neurons), expected)
    assert torch.equal(neuron_saliency(net, net.head, images, 5), expected[:, :1])


def test_a_function_may_be_anything_with_one_number_per_image(net, images):
    saliency = neuron_saliency(net, net.head, images, [lambda z: z[:, 1] * z[:, 2].exp()])
    expected = _reference_gradient(net, net.head, images, lambda z: z[:, 1] * z[:, 2].exp(), True)
    _assert_equal(saliency[:, 0], expected)


class WithArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, images, scale, weights, power=1):
        maps = torch.relu(self.conv(images)) * scale.view(-1, 1, 1, 1) * weights.view(-1, 1, 1)
        return self.head(maps.mean((2, 3)) ** power)


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "gradcam"])
def test_additional_arguments_of_images_are_split_with_them(images, method):
    net, weights, scale = WithArguments(), torch.rand(4), torch.tensor([1.0, 5.0, 0.2])
    whole = neuron_saliency(
        *(net, net.head, images, [2], method), additional_forward_args=(scale, weights, 2)
    )
    each = [
        neuron_saliency(
            *(net, net.head, images[i : i + 1], [2], method),
            additional_forward_args=(scale[i : i + 1], weights, 2),
        )
        for i in range(3)
    ]
    _assert_equal(whole, torch.cat(each))
    chunks = neuron_saliency(
        *(net, net.head, images, [2], method),
        additional_forward_args=(scale, weights, 2),
        internal_batch_size=2,
    )
    _assert_equal(chunks, whole)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("training", [False, True])
def test_model_and_inputs_are_left_as_they_were(net, images, method, training):
    expected = neuron_saliency(net, net.head, images, NEURONS, method)
    net.train(training)
    net.head.weight.requires_grad_(False)
    before = images.clone()
    with left_unchanged(net):
        saliency = neuron_saliency(net, net.head, images, NEURONS, method)
    assert torch.equal(saliency, expected)
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert images.grad is None
    asked = images.clone().requires_grad_()
    assert torch.equal(neuron_saliency(net, net.head, asked, NEURONS, method), expected)
    assert asked.requires_grad
    assert asked.grad is None
    with left_unchanged(net), pytest.raises(ValueError, match="out of range"):
        neuron_saliency(net, net.head, images, [0, 16], method)


class _NormalisesInPlace(nn.Module):
    def forward(self, images):
        return images.sub_(0.5).div_(0.2)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_works_in_place_does_not_reach_the_images(net, images, method):
    before = images.clone()
    whole = nn.Sequential(_NormalisesInPlace(), net)
    saliency = neuron_saliency(whole, net.head, images, NEURONS, method)
    assert torch.equal(images, before)
    if method == "gradient":
        plain = neuron_saliency(net, net.head, (images - 0.5) / 0.2, NEURONS, method)
        _assert_equal(saliency, plain / 0.2)


class _Fails(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, value):
        raise self.error


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize("place", [1, 2])
def test_a_model_that_raises_is_left_without_hooks(net, images, method, error, place):
    whole = nn.Sequential(net.backbone, net.head).train()
    whole.insert(place, _Fails(error))
    with left_unchanged(whole), pytest.raises(error):
        neuron_saliency(whole, net.head, images, NEURONS, method)
    assert not any(hooks for module in whole.modules() for hooks in hooks_of(module).values())


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", METHODS)
def test_works_where_gradients_are_off(net, images, surrounding, method):
    expected = neuron_saliency(net, net.head, images, NEURONS, method)
    with surrounding():
        inside = neuron_saliency(net, net.head, images.clone(), NEURONS, method)
    assert torch.equal(inside, expected)


@pytest.mark.parametrize("method", METHODS)
def test_float64_models_give_float64(net, images, method):
    expected = neuron_saliency(net, net.head, images, NEURONS, method)
    double = neuron_saliency(net.double(), net.head, images.double(), NEURONS, method)
    assert (expected.dtype, double.dtype) == (torch.float32, torch.float64)
    _assert_equal(double.float(), expected)
    assert not torch.equal(double.float().double(), double)  # no copy of float32


def test_units_of_maps_with_channels_last():
    """Swin's maps are (N, H, W, C): whole numbers count its channels, and so does gradcam."""
    net = models.SwinTransformer([4, 4], 6, [1, 1], [1, 2], [4, 4], num_classes=3).eval()
    images = torch.rand(2, 3, 32, 32)
    maps = net.features[:2](images).detach()
    assert maps.shape == (2, 8, 8, 6)
    found = neuron_saliency(net, "features.1", images, [5, 0])
    sums = neuron_saliency(net, "features.1", images, [(ALL, ALL, 5), (ALL, ALL, 0)])
    _assert_equal(found * 64, sums, atol=1e-4)
    with pytest.raises(ValueError, match=r"neurons=6 is out of range: expected 0..5 \(axis 3"):
        neuron_saliency(net, "features.1", images, [6])
    # At its own output the gradient of a channel's mean is the same everywhere.
    cams = neuron_saliency(net, "features.1", images, [4], "gradcam", cam_layer="features.1")
    _assert_equal(cams[:, 0, 0], maps[..., 4] / 64)


class Cube(nn.Module):
    """Two maps of one shape, one with its channels first and one with them last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.turn, self.norm = nn.Conv2d(3, 5, 1), nn.Identity(), nn.LayerNorm(5)
        self.head = nn.Linear(5, 2)

    def forward(self, images):
        return self.head(self.norm(self.turn(self.conv(images).movedim(1, 3))).mean((1, 2)))


def test_units_of_maps_that_may_be_either_are_refused():
    net, images = Cube(), torch.rand(2, 3, 5, 5)
    with left_unchanged(net), pytest.raises(ValueError, match=r"both .* or give neurons as tuples"):
        neuron_saliency(net, "turn", images, [0])
    assert neuron_saliency(net, "turn", images, [(ALL, ALL, 0)]).shape == (2, 1, 3, 5, 5)
    assert neuron_saliency(net, "norm", images, [0]).shape == (2, 1, 3, 5, 5)


def test_inputs_need_not_be_images():
    mlp = nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3))
    rows = torch.rand(5, 7)
    for method, reference in (
        ("gradient", _reference_gradient),
        ("integrated_gradients", _reference_integrated),
    ):
        saliency = neuron_saliency(mlp, mlp[2], rows, [4, 1], method)
        _assert_equal(saliency, _one_at_a_time(reference, mlp, mlp[2], rows, [4, 1], True))


def test_progress_is_shown_when_asked_for(net, images, capsys):
    neuron_saliency(net, net.head, images, NEURONS)
    assert capsys.readouterr().err == ""
    options = {"n_steps": 2, "progress": True}
    neuron_saliency(net, net.head, images, NEURONS, "integrated_gradients", **options)
    shown = capsys.readouterr().err
    assert "saliency" in shown
    assert "18/18" in shown


@pytest.mark.parametrize(
    ("neurons", "error", "message"),
    [
        ([0, 16], ValueError, r"neurons=16 is out of range: expected 0..15 \(axis 1 .*\(3, 16\)"),
        ([-1], ValueError, "neurons=-1 is out of range"),
        ([(16,)], ValueError, "neurons=16 is out of range"),
        ([(0, ALL)], ValueError, r"has 2 entries, expected 1..1 for the layer's value \(3, 16\)"),
        ([()], ValueError, "has 0 entries, expected 1..1"),
        ([], ValueError, "neurons is empty"),
        ([lambda z: z], ValueError, r"gave shape \(3, 16\), expected \(3,\): one number per image"),
        ([1, 0.5], TypeError, r"neurons\[1\]=0.5, expected a whole number"),
        ([True], TypeError, r"neurons\[0\]=True, expected a whole number"),
        ((2, ALL, ALL), TypeError, r"neurons\[1\]=slice\(None, None, None\)"),
        ("abc", TypeError, r"neurons\[0\]='a'"),
        (torch.rand(2), TypeError, "neurons has dtype torch.float32"),
        (None, TypeError, "neurons is NoneType, expected a sequence"),
    ],
)
def test_refuses_neurons(net, images, neurons, error, message):
    with left_unchanged(net), pytest.raises(error, match=message):
        neuron_saliency(net, net.head, images, neurons)


def test_a_whole_ranking_is_refused_with_a_hint(net, images):
    ranking = rank_neurons(torch.randn(4, 16))
    with pytest.raises(TypeError, match=r"of a ranking, one of its lists such as `\.excessive`"):
        neuron_saliency(net, net.head, images, ranking)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "saliency"}, ValueError, "method='saliency', expected one of gradient, "),
        ({"layer": "backbone.9"}, ValueError, "layer='backbone.9' is not in ConvNet"),
        ({"layer": nn.Linear(2, 2)}, ValueError, "Linear is not a submodule of this ConvNet"),
        ({"layer": 3}, TypeError, "layer is int, expected a module or its dotted name"),
        ({"inputs": [1.0]}, TypeError, "inputs are list, expected a floating point tensor"),
        ({"inputs": torch.ones(1, 3, 8, 8).int()}, TypeError, "inputs are torch.int32"),
        ({"inputs": torch.ones(0, 3, 8, 8)}, ValueError, "expected at least one image"),
        ({"baselines": 0.0}, ValueError, "baselines are for integrated_gradients"),
        ({"cam_layer": "backbone.0"}, ValueError, "cam_layer is for gradcam"),
        ({"n_steps": 0}, ValueError, "n_steps=0, expected at least 1"),
        ({"internal_batch_size": 0}, ValueError, "internal_batch_size=0, expected at least 1"),
        ({"neurons_per_pass": 0}, ValueError, "neurons_per_pass=0, expected at least 1"),
        (
            {"method": "integrated_gradients", "baselines": torch.rand(2)},
            ValueError,
            r"baselines have shape \(2,\), expected a number or what broadcasts",
        ),
        ({"method": "gradcam", "cam_layer": "head"}, ValueError, "cam_layer does not give maps"),
        ({"method": "gradcam", "cam_layer": "nose"}, ValueError, "cam_layer='nose' is not in"),
        (
            {"method": "gradcam", "cam_layer": "backbone.2", "layer": "backbone.1"},
            ValueError,
            "the neurons do not depend on what they are explained by",
        ),
    ],
)
def test_refuses_options(net, images, options, error, message):
    arguments = {"layer": net.head, "inputs": images, "neurons": [0]} | options
    with left_unchanged(net), pytest.raises(error, match=message):
        neuron_saliency(net, **arguments)


def test_gradcam_without_maps_is_refused():
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
    with left_unchanged(mlp), pytest.raises(ValueError, match="no module that runs before"):
        neuron_saliency(mlp, mlp[3], torch.rand(2, 3, 2, 2), [0], "gradcam")


class _Detaches(nn.Module):
    def forward(self, images):
        return images.detach()


def test_neurons_that_do_not_depend_on_the_images_are_refused(net, images):
    whole = nn.Sequential(_Detaches(), net)
    with pytest.raises(ValueError, match=r"without a detach\(\)"):
        neuron_saliency(whole, net.head, images, [0])


def test_a_layer_that_is_not_run_is_refused(net, images):
    net.extra = nn.ReLU()
    with left_unchanged(net), pytest.raises(RuntimeError, match="layer was not run"):
        neuron_saliency(net, net.extra, images, [0])


def test_captums_pictures_take_it(net, images):
    saliency = neuron_saliency(net, net.head, images, [5], "integrated_gradients")
    photo = images[0].permute(1, 2, 0).numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Attempting to normalize by value approximately 0")
        figure, axes = captum_pictures.visualize_image_attr(
            saliency[0, 0].permute(1, 2, 0).numpy(),
            photo,
            "blended_heat_map",
            "all",
            use_pyplot=False,
        )
    assert axes in figure.axes
    cams = neuron_saliency(net, net.head, images, [5, 1], "gradcam")
    assert LayerAttribution.interpolate(cams.flatten(1, 2), (10, 8)).shape == (3, 2, 10, 8)


def test_rankings_go_into_captums_guided_backprop_and_into_ours(net, images):
    """Guided backpropagation is the gradient where only positive ones reach the ReLU."""
    excessive = rank_neurons(torch.randn(6, 16)).excessive
    guided = NeuronGuidedBackprop(net, net.head)
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        each = [
            guided.attribute(images.clone().requires_grad_(), j, attribute_to_neuron_input=True)
            for j in excessive.neurons
        ]
    assert len(each) > 1
    _assert_equal(neuron_saliency(net, net.head, images, excessive), torch.stack(each, 1))


def _pixels(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_figure_has_a_row_a_photo_and_a_column_a_neuron(net, images):
    saliency = neuron_saliency(net, net.head, images, NEURONS)
    listed = NeuronList(tuple(NEURONS), (0.5,) * 3, (1.0,) * 3)
    figure = saliency_figure(saliency, images, listed, names=["one", "two", "three"])
    axes = np.array(figure.axes).reshape(3, 4)
    assert [a.get_title() for a in axes[0]] == ["photo", "neuron 5", "neuron 0", "neuron 11"]
    assert [a.get_ylabel() for a in axes[:, 0]] == ["one", "two", "three"]
    assert [len(a.images) for a in axes[0]] == [1, 2, 2, 2]
    heat = axes[1, 2].images[1].get_array()
    expected = saliency[1, 1].sum(0).abs()
    assert heat.shape == expected.shape
    assert heat.argmax() == expected.argmax()
    assert _pixels(figure).std() > 0


def test_figure_brings_gradcam_to_the_photos_size_and_draws_what_is_positive(images):
    cams = torch.zeros(3, 1, 1, 5, 4)
    cams[:, 0, 0, 1, 2], cams[:, 0, 0, 4, 0] = 1, -3
    figure = saliency_figure(cams, images, [(2, ALL, ALL)])
    heat = figure.axes[1].images[1].get_array()
    assert heat.shape == (10, 8)
    assert heat.min() == 0
    assert heat[2:4, 4:6].max() == heat.max() == 1
    assert figure.axes[1].get_title() == "2, :, :"
    both = saliency_figure(cams, images, sign="all").axes[1].images[1].get_array()
    assert both.min() == -1


def test_figure_of_zeros_and_of_tiny_values(images):
    """Captum refuses the first and warns of the second."""
    saliency = torch.zeros(3, 2, 3, 10, 8)
    saliency[:, 1] = 1e-9 * torch.rand(3, 3, 10, 8)
    figure = saliency_figure(saliency, images, [lambda z: z[:, 0], 4])
    assert figure.axes[1].images[1].get_alpha() == 0
    marks = [[text.get_text() for text in axes.texts] for axes in figure.axes[:3]]
    assert marks == [[], ["zero"], []]
    assert figure.axes[2].images[1].get_array().max() == 1
    assert figure.axes[1].get_title() == "<lambda>"


def test_figure_of_grey_photos_opens_no_window(images):
    from matplotlib import pyplot

    saliency_figure(torch.rand(3, 1, 1, 10, 8), images[:, :1])
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"saliency": torch.rand(3, 3, 10, 8)}, r"expected \(3, K, C, H, W\)"),
        ({"saliency": torch.rand(2, 1, 3, 10, 8)}, r"expected \(3, K, C, H, W\)"),
        ({"saliency": torch.full((3, 1, 3, 10, 8), torch.nan)}, "saliency has NaN"),
        ({"images": torch.rand(3, 10, 8)}, r"expected \(N, 3, H, W\)"),
        ({"images": torch.rand(3, 3, 10, 8) * 255}, "expected photos in 0..1"),
        ({"neurons": [1]}, "neurons has 1 entries, expected 2"),
        ({"sign": "both"}, "sign='both', expected one of absolute_value, positive"),
        ({"names": ["a"]}, "names has 1 entries, expected 3"),
    ],
)
def test_figure_refuses(images, options, message):
    arguments = {"saliency": torch.rand(3, 2, 3, 10, 8), "images": images} | options
    with pytest.raises(ValueError, match=message):
        saliency_figure(**arguments)
