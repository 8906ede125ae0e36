import pytest
import torch
from helpers import Boom, left_unchanged
from optvis_nets import TinyNet
from torch import nn
from torch.nn import functional as F

from captum_neuroinspect._core.modules import captured_output
from captum_neuroinspect.optvis.units.activation import (
    activation_map,
    find_feature_map,
    n_units,
    unit_activation,
)
from captum_neuroinspect.optvis.units.reader import UnitReader

NEURONS = torch.tensor([2, 0])
IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_features_maps_and_tokens():
    maps = torch.arange(24.0).view(2, 3, 2, 2)
    assert unit_activation(maps, NEURONS).tolist() == [9.5, 13.5]
    assert activation_map(maps, NEURONS).equal(torch.stack([maps[0, 2], maps[1, 0]]))
    assert unit_activation(maps.mean((2, 3)), NEURONS).tolist() == [9.5, 13.5]
    assert unit_activation(maps.flatten(2).transpose(1, 2), NEURONS).tolist() == [9.5, 13.5]


@pytest.mark.parametrize(
    ("shape", "n"), [((2, 3), 3), ((2, 3, 5, 5), 3), ((2, 7, 3), 3)], ids=["N,F", "maps", "tokens"]
)
def test_n_units(shape, n):
    assert n_units(torch.zeros(shape)) == n


@pytest.mark.parametrize("shape", [(2, 3), (2, 7, 3), (2, 3, 1, 1)])
def test_no_map_where_there_are_no_positions(shape):
    assert activation_map(torch.zeros(shape), NEURONS) is None


@pytest.mark.parametrize("function", [unit_activation, activation_map])
def test_bad_shapes(function):
    with pytest.raises(ValueError, match=r"output has shape \(2,\), expected"):
        function(torch.zeros(2), NEURONS)
    with pytest.raises(ValueError, match=r"neurons has shape \(1,\), expected \(2,\)"):
        function(torch.zeros(2, 3), NEURONS[:1])


def test_finds_the_map_behind_the_features():
    model = TinyNet()
    with left_unchanged(model):
        assert find_feature_map(model, model.fc, IMAGES) is model.act


class SharedActivation(nn.Module):
    """One ReLU module everywhere, as in EfficientNet-Lite; ``inplace`` as in ResNet."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 6, 3)
        self.act = nn.ReLU(inplace)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        maps = self.act(self.second(self.act(self.first(x))))
        return self.fc(F.adaptive_avg_pool2d(maps, 1).flatten(1))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_shared_module_is_read_at_its_last_call(inplace):
    model = SharedActivation(inplace).eval()
    found = find_feature_map(model, model.fc, IMAGES)
    assert found is model.act
    with captured_output(found) as maps:
        logits = model(IMAGES)
        torch.testing.assert_close(model.fc(maps.value.mean((2, 3))), logits)


class FunctionalActivation(nn.Module):
    """The last ReLU is no module and works in place, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x), inplace=True).mean((2, 3)))


def test_a_map_changed_in_place_is_found():
    model = FunctionalActivation().eval()
    assert find_feature_map(model, model.fc, IMAGES) is model.conv


@pytest.mark.parametrize(
    "pool",
    [nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), nn.Flatten()],
    ids=["maximum", "flat"],
)
def test_none_where_features_are_no_means(pool):
    features = pool(torch.zeros(1, 6, 6, 6)).shape[1]
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), pool, nn.Linear(features, 2))
    assert find_feature_map(model, model[-1], IMAGES) is None


def test_leaves_no_hook_when_the_model_fails():
    class Failing(TinyNet):
        def forward(self, x):
            super().forward(x)
            raise Boom

    model = Failing()
    with left_unchanged(model), pytest.raises(Boom):
        find_feature_map(model, model.fc, IMAGES)


def _maps(model, images=IMAGES, layer=None, neurons=NEURONS):
    reader = UnitReader(model, layer, None, None, images)
    return reader, activation_map(reader(images).maps, neurons)


def _mlp_net():
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(6 * 9, 5), nn.ReLU(), nn.Linear(5, 2))
    model.requires_grad_(False).eval()
    # Positive weights and no bias: the hidden units are open, and sums of what they read.
    model[4].weight.abs_()
    model[4].bias.zero_()
    return model


def test_a_unit_that_looks_left_has_its_map_on_the_left():
    model = _mlp_net()
    model[4].weight.view(5, 6, 3, 3)[..., 1:] = 0
    with left_unchanged(model):
        reader, maps = _maps(model)
    assert (reader.maps_are, reader.maps_place) == ("gradient", "output of 2")
    assert maps[..., 0].gt(0).any(1).all()
    assert maps[..., 1:].eq(0).all()


def test_the_parts_of_a_unit_of_an_mlp_add_up_to_it():
    model = _mlp_net()
    _, maps = _maps(model)
    torch.testing.assert_close(maps.sum((1, 2)), model[:6](IMAGES)[[0, 1], NEURONS])


def _reference_grad_cam(features, tail, images, neurons):
    """Selvaraju et al., equations (1) and (2), without the constant 1 / n positions."""
    maps = features(images).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(tail(maps)[[0, 1], neurons].sum(), maps)
    return (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()


def test_behind_a_mean_the_gradient_map_is_grad_cam():
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
    model = nn.Sequential(features, pool, nn.Linear(6, 5), nn.Hardswish(), nn.Linear(5, 2)).eval()
    reader, maps = _maps(model)
    assert reader.maps_are == "gradient"
    expected = _reference_grad_cam(model[0], model[1:4], IMAGES, NEURONS)
    assert expected.any()
    torch.testing.assert_close(maps, expected.detach())


def test_a_linear_layer_deep_in_the_model_has_maps_too():
    model = _mlp_net()
    by_layer, maps = _maps(model, layer="5")
    assert by_layer.maps_are == "gradient"
    assert maps.equal(_maps(model)[1])


class NormedMean(nn.Module):
    """A LayerNorm of the mean over positions, as in ConvNeXt."""

    def __init__(self, *, affine: bool) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 2)
        self.norm = nn.LayerNorm(6, elementwise_affine=affine)
        if affine:
            nn.init.normal_(self.norm.weight)
            nn.init.normal_(self.norm.bias)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x).mean((2, 3))))


@pytest.mark.parametrize("affine", [True, False])
def test_a_normalised_mean_is_the_mean_of_its_map(affine):
    model = NormedMean(affine=affine)
    reader, maps = _maps(model)
    units = model.norm(model.conv(IMAGES).mean((2, 3)))[[0, 1], NEURONS]
    assert (reader.maps_are, reader.maps_place) == ("normalised", "output of conv")
    torch.testing.assert_close(maps.mean((1, 2)), units)


class ChannelsLast(nn.Module):
    """Everything as (N, H, W, C), as in Swin; as many rows as columns, and fewer channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 6, 2, stride=2), nn.LayerNorm(6)
        self.block, self.fc = nn.Identity(), nn.Linear(6, 2)

    def forward(self, x):
        x = self.block(self.norm(self.patches(x).permute(0, 2, 3, 1)))
        return self.fc(x.mean((1, 2)))


@pytest.mark.parametrize("layer", [None, "norm", "block"])
def test_channels_last(layer):
    model = ChannelsLast()
    reader, maps = _maps(model, layer=layer)
    found = reader(IMAGES).units
    expected = model.norm(model.patches(IMAGES).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected if layer else expected.mean((2, 3)))
    torch.testing.assert_close(maps, expected[[0, 1], NEURONS])


def test_patches_of_an_oblong_image_lie_as_they_were_cut():
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.tokens = nn.Conv2d(3, 6, 8, stride=8), nn.Identity()
            self.fc = nn.Linear(6, 2)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            return self.fc(self.tokens(torch.cat([x.mean(1, keepdim=True), x], 1))[:, 0])

    images = torch.rand(2, 3, 50, 30)  # 6 x 3 patches, the rest is left out
    model = Cut()
    _, maps = _maps(model, images)
    torch.testing.assert_close(maps, model.patches(images)[[0, 1], NEURONS])


def test_no_maps_where_nothing_has_positions():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 2))
    reader = UnitReader(model, None, None, None, IMAGES)
    assert reader.maps_are is None is reader.maps_place
    assert reader(IMAGES).maps is None


def test_maps_are_asked_for_in_any_state():
    model = _mlp_net()
    reader, expected = _maps(model)
    model.requires_grad_(True).train()
    reading = reader(IMAGES)
    with left_unchanged(model), torch.no_grad():
        assert activation_map(reading.maps, NEURONS).equal(expected)


def test_looking_around_leaves_no_hook_when_the_model_fails():
    class FailsSecond(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.countdown = _mlp_net(), 3

        def forward(self, x):
            self.countdown -= 1
            if not self.countdown:
                raise Boom
            return self.net(x)

    model = FailsSecond()
    with left_unchanged(model), pytest.raises(Boom):
        UnitReader(model, None, None, None, IMAGES)
