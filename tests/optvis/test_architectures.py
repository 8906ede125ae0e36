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
from torch.nn import functional as F
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from captum_neuroinspect import collect_activations
from captum_neuroinspect.optvis import activation_mask, render_illusions
from captum_neuroinspect.optvis.units.activation import activation_map
from captum_neuroinspect.optvis.units.reader import UnitReader

N_CLASSES = 4


@dataclass(frozen=True)
class Case:
    """A network, and what is known of it.

    Attributes:
        build: makes it.
        size: width of its pictures.
        head: name of the decision layer.
        maps_are: the kind of map that the inputs of the decision layer have.
        layers: layer -> kind of map and dimension that counts its units.
        neurons: units to look at; ``None``: those that noise excites most.
    """

    build: Callable[[], nn.Module]
    size: int
    head: str
    maps_are: str
    layers: dict[str, tuple[str, int]]
    neurons: tuple[int, int] | None = None


def _vgg():
    with torch.device("meta"):  # its own classifier has 120 million weights
        model = models.vgg11(init_weights=False)
        layers = [nn.Linear(512 * 49, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, N_CLASSES)]
        model.classifier = nn.Sequential(*layers)
    return model.to_empty(device="cpu")


def _convnext():
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return models.ConvNeXt(blocks, num_classes=N_CLASSES)


def _swin():
    return models.SwinTransformer([4, 4], 12, [1, 1], [1, 2], [4, 4], num_classes=N_CLASSES)


def _vit(**options):
    return lambda: models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=N_CLASSES, **options)


def _torchvision(name):
    return lambda: getattr(models, name)(num_classes=N_CLASSES)


def _timm(name, **options):
    return lambda: timm.create_model(name, pretrained=False, num_classes=N_CLASSES, **options)


def _hugging_face(kind, **options):
    def build():
        config = getattr(transformers, f"{kind}Config")(num_labels=N_CLASSES, **options)
        return getattr(transformers, f"{kind}ForImageClassification")(config)

    return build


_VIT = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32}
_VIT |= {"num_hidden_layers": 2, "num_attention_heads": 2}
_DINO = {key: value for key, value in _VIT.items() if key != "intermediate_size"}
_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
_ODD = {"hidden_sizes": [12, 20], "depths": [1, 1]}  # no stage has as many channels as rows
_SWIN = {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}

_WINDOWS = "swin.encoder.layers.0.blocks.0.attention"

CASES = {
    "resnet18": Case(
        *(_torchvision("resnet18"), 64, "fc", "mean"), {"layer3.1.conv2": ("output", 1)}
    ),
    "vgg11": Case(
        *(_vgg, 64, "classifier.3", "gradient"),
        {"features.8": ("output", 1), "classifier.0": ("gradient", 1)},
    ),
    "mobilenet_v3_small": Case(
        *(_torchvision("mobilenet_v3_small"), 64, "classifier.3", "gradient"),
        {"features.8": ("output", 1), "features.4.block.2.fc1": ("gradient", 1)},
    ),
    "efficientnet_b0": Case(
        *(_torchvision("efficientnet_b0"), 64, "classifier.1", "mean"),
        {"features.3": ("output", 1)},
    ),
    "convnext": Case(
        *(_convnext, 32, "classifier.2", "normalised"),
        {
            "features.1.0.block.0": ("output", 1),
            "features.1.0.block.3": ("output", -1),
            "features.1.0.block.4": ("output", -1),
            "features.3": ("output", 1),
        },
    ),
    "swin": Case(
        *(_swin, 32, "head", "mean"),
        {"features.1": ("output", -1), "features.1.0.mlp.1": ("output", -1)},
    ),
    "vision_transformer": Case(
        *(_vit(), 32, "heads.head", "token"),
        {
            "conv_proj": ("output", 1),
            "encoder.layers.encoder_layer_0": ("output", -1),
            "encoder.layers.encoder_layer_0.mlp.0": ("output", -1),
        },
    ),
    "vision_transformer with an MLP": Case(
        *(_vit(representation_size=8), 32, "heads.head", "gradient", {}),
        neurons=(4, 7),  # the tanh of the others is saturated
    ),
    "timm vit": Case(_timm("test_vit"), 160, "head", "token", {"blocks.0": ("output", -1)}),
    "timm vit of means": Case(
        _timm("test_vit2", img_size=64, global_pool="avg"), 64, "head", "normalised", {}
    ),
    "timm efficientnet": Case(
        *(_timm("test_efficientnet"), 64, "classifier", "mean"), {"blocks.1": ("output", 1)}
    ),
    "timm resnet": Case(_timm("test_resnet"), 64, "fc", "mean", {"layer3": ("output", 1)}),
    "timm byobnet": Case(_timm("test_byobnet"), 64, "head.fc", "mean", {}),
    "timm nfnet": Case(_timm("test_nfnet"), 96, "head.fc", "mean", {}),
    "timm convnext": Case(
        *(_timm("test_convnext"), 64, "head.fc", "normalised"),
        {"stages.1": ("output", 1), "stages.1.blocks.0.mlp.fc1": ("output", -1)},
    ),
    "hf vit": Case(
        *(_hugging_face("ViT", **_VIT), 32, "classifier", "token"),
        {"vit.layers.0": ("output", -1)},
    ),
    "hf resnet": Case(
        *(_hugging_face("ResNet", embedding_size=8, **_STAGES), 32, "classifier.1", "mean"),
        {"resnet.encoder.stages.0": ("output", 1)},
    ),
    "hf swin": Case(
        *(_hugging_face("Swin", **_SWIN), 32, "classifier", "mean"),
        {"swin.encoder.layers.1.blocks.0": ("output", -1)},
    ),
    "hf dinov2": Case(_hugging_face("Dinov2", **_DINO), 32, "classifier", "token", {}, (3, 20)),
    "hf beit": Case(_hugging_face("Beit", **_VIT), 32, "classifier", "normalised", {}),
    "hf convnext": Case(
        *(_hugging_face("ConvNext", num_stages=2, **_ODD), 32, "classifier", "normalised"),
        {"convnext.encoder.stages.0": ("output", 1)},
    ),
}
LAYERS = [(name, layer) for name, case in CASES.items() for layer in (None, *case.layers)]
each_layer = pytest.mark.parametrize(("name", "layer"), LAYERS)


@cache
def _model(name):
    """The network with weights that make it see: zoos set some scales and heads to zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        model = CASES[name].build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
            is_map = parameter.ndim > 1 and fan_in > 1
            parameter.copy_(noise * (1.5 / fan_in) ** 0.5 if is_map else 0.8 + 0.2 * noise)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
    return model


def _reference_units(model, head, layer, images):
    """What goes into the head or comes out of the layer, by a hook of the test's own."""
    seen = []

    def keep(module, args, output):
        value = args if layer is None else output
        value = value[0] if isinstance(value, tuple) else value
        seen.append(value.detach().clone())

    handle = model.get_submodule(head if layer is None else layer).register_forward_hook(keep)
    with torch.no_grad():
        model(images)
    handle.remove()
    return seen[-1]


def _expected(name, layer, images):
    """One number per image and unit, (N, F)."""
    units = _reference_units(_model(name), CASES[name].head, layer, images)
    channel_dim = 1 if layer is None else CASES[name].layers[layer][1]
    units = units.movedim(channel_dim, 1)
    return units.flatten(2).mean(2) if units.ndim > 2 else units


def _neurons(name, layer):
    """Two units that noise excites, so that rectifiers and clamped maps are not all zero."""
    size, chosen = CASES[name].size, CASES[name].neurons
    if chosen is not None:
        return list(chosen)
    noise = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    return _expected(name, layer, noise).mean(0).topk(2).indices.tolist()


@each_layer
def test_renders_what_the_unit_is(name, layer):
    case, model, neurons = CASES[name], _model(name), _neurons(name, layer)
    with left_unchanged(model):
        found = render_illusions(
            model, neurons, 1, layer=layer, size=case.size, n_steps=2, progress=False
        )
    units = _expected(name, layer, found.images)
    largest = float(units.abs().max())
    torch.testing.assert_close(
        found.activations, units[[0, 1], neurons], rtol=1e-3, atol=1e-4 * largest
    )
    assert found.masks.shape == (2, 1, case.size, case.size)


@pytest.mark.parametrize(("name", "layer"), [pair for pair in LAYERS if pair[1] is not None])
def test_collected_activations_are_those_units(name, layer):
    case, model = CASES[name], _model(name)
    photos = torch.rand(3, 3, case.size, case.size, generator=torch.Generator().manual_seed(2))
    with left_unchanged(model):
        found = collect_activations(model, photos, layer, batch_size=2)
    expected = _expected(name, layer, photos)
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * largest)


@each_layer
def test_masks_follow_maps_that_tell_places_apart(name, layer):
    case, model, neurons = CASES[name], _model(name), torch.tensor(_neurons(name, layer))
    images = torch.rand(2, 3, case.size, case.size, generator=torch.Generator().manual_seed(2))
    with left_unchanged(model):
        reader = UnitReader(model, layer, None, None, images)
        with torch.no_grad():
            reading = reader(images)
        maps = activation_map(reading.maps, neurons)
    assert reader.maps_are == (case.maps_are if layer is None else case.layers[layer][0])
    assert maps.shape[0] == 2
    assert maps[0].numel() > 1
    assert maps.std((1, 2)).gt(0).all()
    masks = activation_mask(maps, case.size)
    assert (masks.amin((1, 2, 3)) < masks.amax((1, 2, 3))).all()
    if reader.maps_are in ("mean", "normalised"):  # the law that makes them exact
        units = _expected(name, layer, images)[[0, 1], neurons]
        torch.testing.assert_close(maps.mean((1, 2)), units, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["vgg11", "vision_transformer", "hf dinov2", "convnext"])
def test_a_direction_along_a_unit_has_its_map(name):
    model, size = _model(name), CASES[name].size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    reading = UnitReader(model, None, None, None, images)(images)
    neurons = torch.tensor(_neurons(name, None))
    direction = 2.0 * F.one_hot(neurons, reading.units.shape[1])
    torch.testing.assert_close(reading.maps(direction), 2 * reading.maps(neurons))


def test_the_class_token_shares_its_dimensions_with_the_patches():
    model = _model("vision_transformer")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    reading = UnitReader(model, None, None, None, images)(images)
    with torch.no_grad():
        tokens = _reference_units(model, "encoder", "encoder", images)
    maps = activation_map(reading.maps, torch.tensor([5, 9]))
    expected = torch.stack([tokens[0, 1:, 5].view(4, 4), tokens[1, 1:, 9].view(4, 4)])
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize(("token", "row"), [("cls", 0), (3, 3), (-1, 16)])
def test_one_token_of_a_layer(token, row):
    model, layer = _model("vision_transformer"), "encoder.layers.encoder_layer_0"
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    reader = UnitReader(model, layer, None, None, images, token=token)
    tokens = _reference_units(model, "", layer, images)
    torch.testing.assert_close(reader(images).units, tokens[:, row])
    assert activation_map(reader(images).maps, torch.tensor([0, 1])).shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("convnext", {"layer": "features.1"}, r"both as \(N, C, H, W\) and as \(N, H, W, C\)"),
        ("vision_transformer", {"layer": "encoder", "token": 17}, r"token=17, but the layer's"),
        ("resnet18", {"layer": "layer3", "token": "cls"}, r"expected tokens \(N, T, D\)"),
        ("resnet18", {"layer": "layer3", "token": "last"}, "token='last', expected 'mean'"),
        ("hf swin", {"layer": _WINDOWS, "token": 3}, "expected 'mean' for a layer of windows"),
    ],
)
def test_what_is_not_certain_is_refused(name, arguments, message):
    model, size = _model(name), CASES[name].size
    images = torch.rand(2, 3, size, size)
    with left_unchanged(model), pytest.raises(ValueError, match=message):
        UnitReader(model, head=None, preprocess=None, example=images, **arguments)


def test_windows_are_the_tokens_of_an_image():
    model, size = _model("hf swin"), CASES["hf swin"].size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    with left_unchanged(model):
        reading = UnitReader(model, _WINDOWS, None, None, images)(images)
        maps = activation_map(reading.maps, torch.tensor([0, 1]))
    windows = _reference_units(model, "", _WINDOWS, images)
    assert len(windows) > 2
    torch.testing.assert_close(reading.units.mean(1), windows.unflatten(0, (2, -1)).mean((1, 2)))
    assert maps.ndim == 3
    assert maps.any()


def test_a_step_runs_the_network_once_whatever_the_maps():
    model = _model("vgg11")
    images = torch.rand(2, 3, 64, 64)
    reader = UnitReader(model, None, None, None, images)
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    reading = reader(images)
    assert len(calls) == 1
    reading.maps(torch.tensor([0, 1]))
    handle.remove()
    assert len(calls) == 2
