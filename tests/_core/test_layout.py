"""Which dimension counts channels: one rule for attributions and for illusions."""

from __future__ import annotations

import threading

import pytest
import timm
import torch
from helpers import left_unchanged
from torch import nn
from torchvision import models

from captum_neuroinspect import NeuronCounterfactual
from captum_neuroinspect._core.layout import Shapes, shapes_noted, traced
from captum_neuroinspect.attr import SGD
from captum_neuroinspect.optvis.units.reader import UnitReader


def _swin():
    return models.SwinTransformer([4, 4], 12, [1, 1], [2, 2], [4, 4], num_classes=4)


def _timm(name):
    return timm.create_model(name, pretrained=False, num_classes=4)


# What to build, size of its pictures, layer, channels of the layer.
CASES = {
    "swin": (_swin, 32, "features.1", 12),
    "swin, merged": (_swin, 32, "features.2", 24),
    "swin, a norm": (_swin, 32, "norm", 24),
    "swin, a block's mlp": (_swin, 32, "features.1.0.mlp", 12),
    "swin, permuted back": (_swin, 32, "permute", 24),
    "vit": (lambda: _timm("test_vit"), 160, "blocks.0", 64),
    "resnet": (lambda: models.resnet18(num_classes=4), 64, "layer2", 128),
    "convnext": (lambda: models.convnext_tiny(num_classes=4), 64, "features.1", 96),
    "convnext, inside": (
        lambda: models.convnext_tiny(num_classes=4),
        64,
        "features.1.0.block.2",
        96,
    ),
}


@pytest.mark.filterwarnings("ignore:.* did not converge:RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
def test_attributions_have_as_many_channels_as_illusions_have_neurons(name):
    build, size, layer, n_channels = CASES[name]
    network, images = build().eval(), torch.rand(2, 3, size, size)
    with left_unchanged(network):
        units = UnitReader(network, layer, None, None, images)(images).units
    method = NeuronCounterfactual(network, layer, solver=SGD(max_steps=1))
    with left_unchanged(network):
        w = method.attribute(images, 1, channelwise=True)
    assert w.shape == (2, n_channels)
    assert units.shape[2 if units.ndim == 3 else 1] == n_channels
    function = NeuronCounterfactual(
        lambda x: network(x), network.get_submodule(layer), solver=SGD(max_steps=1)
    )
    torch.testing.assert_close(function.attribute(images, 1, channelwise=True), w)


@pytest.mark.filterwarnings("ignore:.* did not converge:RuntimeWarning")
def test_inputs_of_a_layer_have_their_own_layout():
    """Swin's permutation takes (N, H, W, C) and gives (N, C, H, W)."""
    network, images = _swin().eval(), torch.rand(2, 3, 32, 32)
    method = NeuronCounterfactual(network, "permute", solver=SGD(max_steps=1))
    assert method.attribute(images, 1, None, True).shape == (2, 4, 4, 24)
    assert method.attribute(images, 1, None, True, channelwise=True).shape == (2, 24)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.ReLU(), (2, 7), 1),
        (nn.ReLU(), (2, 5, 7), 2),
        (nn.ReLU(), (2, 7, 5, 6), 1),
        (nn.ReLU(), (2, 7, 5, 6, 4), 1),
        (nn.Conv1d(7, 7, 1), (2, 7, 5), 1),
        (nn.BatchNorm1d(7), (2, 7, 5), 1),
        (nn.Linear(7, 7), (2, 5, 7), 2),
        (nn.Linear(7, 7), (2, 5, 6, 7), 3),
        (nn.Linear(7, 7), (2, 4, 5, 6, 7), 4),
        (nn.LayerNorm(7), (2, 5, 6, 7), 3),
        (nn.Conv2d(7, 7, 1), (2, 7, 7, 7), 1),
        (nn.Conv3d(7, 7, 1), (2, 7, 4, 5, 6), 1),
        (nn.GroupNorm(1, 7), (2, 7, 5, 6), 1),
        (nn.GroupNorm(1, 7), (2, 7, 5), 1),
    ],
)
def test_types_and_shapes_by_themselves(module, shape, expected):
    assert Shapes().channel_dim(module, torch.zeros(shape)) == expected


def test_a_module_without_channels_of_its_own_goes_by_what_ran_on_such_a_shape():
    shapes, relu = Shapes(), nn.ReLU()
    maps, last = torch.zeros(1, 3, 4, 5), torch.zeros(1, 6, 7, 8)
    shapes.remember(nn.Conv2d(3, 3, 1), (maps,), maps)
    shapes.remember(nn.Linear(8, 8), (last,), last)
    sequence = torch.zeros(1, 9, 5)
    shapes.remember(nn.Conv1d(9, 9, 1), (sequence,), sequence)
    assert shapes.channel_dim(relu, torch.zeros(4, 3, 4, 5)) == 1
    assert shapes.channel_dim(relu, torch.zeros(4, 6, 7, 8)) == 3
    assert shapes.channel_dim(relu, torch.zeros(4, 9, 5)) == 1
    assert shapes.channel_dim(relu, torch.zeros(4, 5, 9)) == 2
    shapes.remember(nn.LayerNorm(5), (maps,), maps)
    with pytest.raises(ValueError, match=r"ReLU has shape \(4, 3, 4, 5\), which this model uses"):
        shapes.channel_dim(relu, torch.zeros(4, 3, 4, 5))
    assert shapes.channel_dim(nn.Conv2d(3, 3, 1), torch.zeros(4, 3, 4, 5)) == 1


def test_shapes_are_noted_of_one_model_or_of_one_thread():
    conv, other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1)
    images = torch.rand(1, 3, 2, 2)
    with left_unchanged(conv), shapes_noted(conv) as shapes:
        conv(images), other(images)
    assert shapes.first == {torch.Size((3, 2, 2)), torch.Size((4, 2, 2))}
    with shapes_noted(None) as shapes:
        conv(images)
        thread = threading.Thread(target=other, args=(images,))
        thread.start()
        thread.join()
    assert shapes.first == {torch.Size((3, 2, 2)), torch.Size((4, 2, 2))}
    other(images)
    assert len(shapes.first) == 2  # nothing is noted afterwards


def test_volumes_do_not_confuse_the_grid_of_tokens():
    net = nn.Sequential(nn.Conv3d(2, 3, 1), nn.Conv1d(3, 3, 1))
    with traced(net, (4, 4)) as trace:
        net[0](torch.zeros(1, 2, 4, 4, 4))
        net[1](torch.zeros(1, 3, 8))
    layout = trace.layout(nn.Identity(), torch.zeros(1, 17, 6))
    assert layout is not None
    assert layout.grid == (4, 4)
