"""Architectures as they come from torchvision, timm and transformers, small and random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import timm
import torch
import transformers
from helpers import left_unchanged
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from captum_neuroinspect import NeuronCounterfactual, find_head
from captum_neuroinspect.attr import FISTA, SGD

FAST = SGD(lr=0.1, max_steps=150)


@dataclass(frozen=True)
class Case:
    """A network, and its places.

    Attributes:
        build: makes it.
        size: width of its pictures.
        head: name of the decision layer.
        whole: name of the module that ends with it, or None.
        inner: name of an earlier layer.
        channels: the dimension of that layer's output that counts them, where it is neither
            1 of maps nor the last of tokens.
        is_cube: as many channels as rows and columns, so that it must be said.
    """

    build: Callable[[], nn.Module]
    size: int
    head: str
    whole: str | None
    inner: str
    channels: int | None = None
    is_cube: bool = False


def _vgg():
    with torch.device("meta"):  # its own classifier has 120 million weights
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(True), nn.Conv2d(8, 512, 1), nn.ReLU(True)]
        model = models.VGG(nn.Sequential(*layers, nn.MaxPool2d(4)), init_weights=False)
        classifier = [nn.Linear(512 * 49, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 4)]
        model.classifier = nn.Sequential(*classifier)
    return model.to_empty(device="cpu")


def _convnext():
    return models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=4)


def _swin():
    return models.SwinTransformer([4, 4], 8, [1, 1], [1, 2], [4, 4], num_classes=4)


def _timm(name):
    return lambda: timm.create_model(name, pretrained=False, num_classes=4)


def _hugging_face(kind, **options):
    def build():
        config = getattr(transformers, f"{kind}Config")(num_labels=4, **options)
        return getattr(transformers, f"{kind}ForImageClassification")(config)

    return build


_VIT = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32}
_VIT |= {"num_hidden_layers": 2, "num_attention_heads": 2}
_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
_SWIN = {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}

CASES = {
    "resnet18": Case(lambda: models.resnet18(num_classes=4), 32, "fc", None, "layer3"),
    "vgg": Case(_vgg, 32, "classifier.3", "classifier", "features.2"),
    "mobilenet_v3_small": Case(
        lambda: models.mobilenet_v3_small(num_classes=4),
        32,
        "classifier.3",
        "classifier",
        "features.8",
    ),
    "convnext": Case(_convnext, 32, "classifier.2", "classifier", "features.1", is_cube=True),
    "swin": Case(_swin, 32, "head", None, "features.1", channels=-1, is_cube=True),
    "vision_transformer": Case(
        lambda: models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4),
        *(32, "heads.head", "heads", "encoder.layers.encoder_layer_0"),
    ),
    "timm vit": Case(_timm("test_vit"), 160, "head", None, "blocks.0"),
    "timm efficientnet": Case(_timm("test_efficientnet"), 64, "classifier", None, "blocks.1"),
    "timm resnet": Case(_timm("test_resnet"), 64, "fc", None, "layer3"),
    "timm convnext": Case(_timm("test_convnext"), 64, "head.fc", "head", "stages.1"),
    "hf vit": Case(_hugging_face("ViT", **_VIT), 32, "classifier", None, "vit.layers.0"),
    "hf resnet": Case(
        _hugging_face("ResNet", embedding_size=8, **_STAGES),
        *(32, "classifier.1", "classifier", "resnet.encoder.stages.0"),
    ),
    "hf swin": Case(
        _hugging_face("Swin", **_SWIN), 32, "classifier", None, "swin.encoder.layers.0"
    ),
    "hf convnext": Case(
        _hugging_face("ConvNext", num_stages=2, **_STAGES),
        *(32, "classifier", None, "convnext.encoder.stages.0", None, True),
    ),
}


@cache
def _prepared(name):
    """The network with weights that make it see, pictures, and the second best class of each."""
    case, generator = CASES[name], torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        model = case.build().eval()
    images = torch.randn(4, 3, case.size, case.size, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():  # zoos set some heads and scales to zero
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
            is_map = parameter.ndim > 1 and fan_in > 1
            parameter.copy_(noise * (1.5 / fan_in) ** 0.5 if is_map else 0.8 + 0.2 * noise)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        head = model.get_submodule(case.head)
        logits = _logits(model, images)
        head.weight /= logits.std(0).mean()
        head.bias.copy_(0 * head.bias)
        head.bias -= _logits(model, images).mean(0)
        target = _logits(model, images).argsort(1, descending=True)[:, 1]
    target[0] = _logits(model, images)[0].argmax()
    return case, model, images, target


def _logits(model, images):
    output = model(images)
    return getattr(output, "logits", output).detach()


def _replaced(model, images, layer, at_input, change):
    """What the network says when a hook of the test's own changes the activation."""

    def on_output(_, __, output):
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    if at_input:
        handle = layer.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    else:
        handle = layer.register_forward_hook(on_output)
    try:
        return _logits(model, images)
    finally:
        handle.remove()


def _check(found, model, images, target, layer, at_input, channel_dim=None):
    # What else the layer gives leads nowhere, and so has no change.
    change_of_first, *others = found.attribution if found.shapes else (found.w,)
    assert all(other.eq(0).all() for other in others)

    def change(z):
        if change_of_first.shape == z.shape:
            return z + change_of_first
        usual = 1 if z.ndim == 4 else -1
        w = change_of_first.view(len(z), -1, *[1] * (z.ndim - 2)).movedim(1, channel_dim or usual)
        bounded = found.feasible.view(-1, *[1] * (z.ndim - 1))
        return torch.where(bounded, (z + w).clamp(min=0), z + w)

    right = _logits(model, images).argmax(1) == target
    assert torch.equal(found.already_correct, right)
    assert right.tolist() == [True, False, False, False]
    assert found.w[0].eq(0).all()
    assert found.w.isfinite().all()
    predicted = _replaced(model, images, layer, at_input, change).argmax(1)
    assert torch.equal(predicted == target, found.converged)
    assert found.converged.all()


@pytest.mark.parametrize("name", CASES)
def test_decision_layer(name):
    """Found by what it computes; behind it the change is closed form, for both solvers."""
    case, model, images, target = _prepared(name)
    head = find_head(model, images)
    assert head is model.get_submodule(case.head)
    for solver in (FAST, FISTA()):
        method = NeuronCounterfactual(model, head, solver=solver)
        with left_unchanged(model):
            found = method.attribute(images, target, return_details=True)
        assert found.w.shape == (4, head.in_features)
        _check(found, model, images, target, head, True)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.whole])
def test_head_as_a_whole(name):
    """A head with a norm, a pool or hidden layers: the change of what goes into it."""
    case, model, images, target = _prepared(name)
    whole = model.get_submodule(case.whole)
    method = NeuronCounterfactual(model, whole, solver=FAST)
    with left_unchanged(model):
        found = method.attribute(
            images,
            target,
            attribute_to_layer_input=True,
            internal_batch_size=3,
            return_details=True,
        )
    _check(found, model, images, target, whole, True)


@pytest.mark.parametrize("channelwise", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_inner_layer(name, channelwise):
    """The same with an earlier layer, by element and by channel: nothing is skipped that counts."""
    case, model, images, target = _prepared(name)
    layer = model.get_submodule(case.inner)
    dim = (case.channels or 1) if channelwise and case.is_cube else None
    method = NeuronCounterfactual(model, case.inner, solver=FAST)
    if dim is not None:
        with pytest.raises(ValueError, match=r"\(4, 8, 8, 8\), which this model .*channel_dim"):
            method.attribute(images, target, channelwise=True)
    with left_unchanged(model):
        found = method.attribute(
            images, target, channelwise=channelwise, channel_dim=dim, return_details=True
        )
    _check(found, model, images, target, layer, False, case.channels if channelwise else None)
