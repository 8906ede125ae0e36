import pytest
import torch
from helpers import Boom, left_unchanged
from optvis_nets import TinyNet
from torch import nn
from torch.nn import functional as F

from captum_neuroinspect._modules import captured_output
from captum_neuroinspect.optvis.units import (
    activation_map,
    find_feature_map,
    n_units,
    unit_activation,
)

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
