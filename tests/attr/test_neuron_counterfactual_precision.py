from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from helpers import ConvNet, left_unchanged
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from captum_neuroinspect import NeuronCounterfactual
from captum_neuroinspect.attr import FISTA, SGD

PAPER = SGD(max_steps=500)
# Behind a ReLU no residual vanishes at its kinks: that it is said is tested apart.
pytestmark = pytest.mark.filterwarnings("ignore:.* but not the minimum:RuntimeWarning")
# The head; an inner layer with signed activations, one without, and the pooled features.
LAYERS = pytest.mark.parametrize("layer", ["head", "backbone.0", "backbone.2", "backbone.4"])


@pytest.fixture
def images():
    return torch.rand(6, 3, 8, 8)


@pytest.fixture
def net(images):
    """No class wins everywhere: a little change can turn a prediction."""
    net = ConvNet().eval()
    with torch.no_grad():
        net.head.bias -= net(images).mean(0)
    return net


@pytest.fixture
def target(net, images):
    """The second best class; the best for the last sample, which is right."""
    ranked = net(images).argsort(1, descending=True)
    return torch.cat([ranked[:5, 1], ranked[5:, 0]])


def _attribute(forward_func, layer, images, target, solver=PAPER, **options):
    method = NeuronCounterfactual(forward_func, layer, solver=solver)
    return method.attribute(images, target, return_details=True, **options)


# How a network computes with few digits, and what that costs: the largest relative error
# of a change whose descent takes as many steps as in float32.
PRECISIONS = {
    "autocast bfloat16": (None, torch.bfloat16, 0.05),
    "autocast float16": (None, torch.float16, 0.02),
    "bfloat16": (torch.bfloat16, None, 0.05),
    "float16": (torch.float16, None, 0.02),
    "float64": (torch.float64, None, 1e-4),
}


def _in_precision(net, images, name):
    dtype, autocast, tolerance = PRECISIONS[name]
    if dtype is not None:
        net, images = copy.deepcopy(net).to(dtype), images.to(dtype)
    context = torch.autocast("cpu", dtype=autocast) if autocast else nullcontext()
    return net, images, context, tolerance


@LAYERS
@pytest.mark.parametrize("name", PRECISIONS)
def test_attributions_are_float32_or_float64_as_the_network(net, images, target, layer, name):
    """Close to those of the float32 network; a rounded logit may cost or save one step."""
    expected = _attribute(net, layer, images, target)
    other, pictures, context, tolerance = _in_precision(net, images, name)
    with left_unchanged(other), context:
        found = _attribute(other, layer, pictures, target)
    dtype = torch.float64 if name == "float64" else torch.float32
    assert found.w.dtype == dtype
    assert torch.equal(found.feasible, expected.feasible)
    assert torch.equal(found.converged, expected.converged)
    assert torch.equal(found.already_correct, expected.already_correct)
    apart = (found.n_steps - expected.n_steps).abs()
    assert apart.max() <= 1
    assert (apart == 0).sum() >= 4
    error = (found.w - expected.w).float().flatten(1).norm(dim=1)
    assert (error <= tolerance * expected.w.flatten(1).norm(dim=1))[apart == 0].all()
    assert expected.w.flatten(1).ne(0).any(1).tolist() == [True] * 5 + [False]


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_low_precision_network_predicts_the_target_at_the_change(net, images, target, name):
    """Judged by that network itself, not by a float32 one."""
    other, pictures, context, _ = _in_precision(net, images, name)
    for layer in ("backbone.2", "backbone.0"):
        module, seen = other.get_submodule(layer), []
        with context, torch.no_grad():
            found = _attribute(other, layer, pictures, target)

            def replace(_, __, z, found=found, seen=seen):
                seen.append(z.dtype)
                return (z.float() + found.w).to(z.dtype)

            handle = module.register_forward_hook(replace)
            predicted = other(pictures).argmax(1)
            handle.remove()
        assert torch.equal(predicted == target, found.converged)
        assert found.converged.all()
        assert seen == [PRECISIONS[name][0] or seen[0]]


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("around_inputs", [True, False])
@LAYERS
def test_gradient_modes_around_the_call_change_nothing(
    net, images, target, layer, context, around_inputs
):
    """Also when inputs were made in inference mode, and for a function, which is not frozen."""
    expected = _attribute(net, layer, images, target)
    with context():
        pictures = images * 1 if around_inputs else images
        for forward_func in (net, lambda x: net(x)):
            found = _attribute(forward_func, net.get_submodule(layer), pictures, target)
            assert torch.equal(found.w, expected.w)
            assert not found.w.requires_grad
            assert not found.w.is_inference()
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_features_collected_in_inference_mode(net, images, target):
    """Behind a linear layer, and behind a module that ends with it."""
    expected = _attribute(net, "head", images, target).w
    tail = nn.Sequential(net.head, nn.Hardtanh(-99, 99))  # which is no linear layer
    with torch.inference_mode():
        features = net.backbone(images)
        for layer in (net.head, tail):
            method = NeuronCounterfactual(layer, layer, solver=PAPER)
            torch.testing.assert_close(method.attribute_features(features, target), expected)


@LAYERS
def test_inputs_that_require_gradients_get_none(net, images, target, layer):
    """Attributing is not training: no gradient is left on inputs or weights."""
    expected = _attribute(net, layer, images, target)
    images = images.clone().requires_grad_()
    for forward_func in (net, lambda x: net(x)):
        with left_unchanged(net):
            found = _attribute(forward_func, net.get_submodule(layer), images, target)
        assert torch.equal(found.w, expected.w)
        assert not found.w.requires_grad
        assert images.grad is None
        assert images.requires_grad


@LAYERS
@pytest.mark.parametrize("solver", [PAPER, FISTA(max_steps=50)])
def test_data_parallel_equals_the_plain_network(net, images, target, layer, solver):
    """By name or module, with its own device_ids or those of the constructor."""
    expected = _attribute(net, layer, images, target, solver)
    parallel = nn.DataParallel(net)
    for device_ids in (None, list(parallel.device_ids)):
        for the_layer in (layer, net.get_submodule(layer)):
            method = NeuronCounterfactual(parallel, the_layer, device_ids, solver=solver)
            with left_unchanged(parallel):
                w = method.attribute(images, target)
            torch.testing.assert_close(w, expected.w)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@LAYERS
def test_data_parallel_on_several_devices(net, images, target, layer):
    """Whatever the order of devices: rows come back in the order of samples."""
    expected = _attribute(net, layer, images, target)
    for device_ids in ([0, 1], [1, 0]):
        device = torch.device("cuda", device_ids[0])
        parallel = nn.DataParallel(copy.deepcopy(net).to(device), device_ids)
        method = NeuronCounterfactual(parallel, layer, device_ids, solver=PAPER)
        for pictures in (images, images.to(device)):
            w = method.attribute(pictures, target)
            torch.testing.assert_close(w.cpu(), expected.w, atol=1e-3, rtol=1e-3)


@LAYERS
@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: lambda x: ImageClassifierOutput(logits=net(x), hidden_states=(x, x)),
        lambda net: lambda x: ImageClassifierOutput(logits=net(x)).logits,
        lambda net: lambda x: (net(x), x),
        lambda net: net.forward,
    ],
)
def test_functions_around_the_network(net, images, target, layer, wrap):
    """What wraps the logits, or takes them out, does not change what is found."""
    expected = _attribute(net, layer, images, target)
    with left_unchanged(net):
        found = _attribute(wrap(net), net.get_submodule(layer), images, target)
    torch.testing.assert_close(found.w, expected.w)


@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax])
def test_probabilities_of_the_head_are_its_logits(net, images, target, function):
    """Around the decision layer a softmax is recognised: equation (1) is about its logits."""
    expected = _attribute(net, "head", images, target)
    found = _attribute(lambda x: function(net(x), 1), net.head, images, target)
    assert torch.equal(found.w, expected.w)
    doubled = _attribute(lambda x: function(2 * net(x), 1), net.head, images, target)
    assert doubled.w.shape == expected.w.shape  # the layer is the same, if not what follows it
    assert not torch.allclose(doubled.w, expected.w)
