"""What an image gets does not depend on how many share its batch, to the last bit."""

import pytest
import torch
from torch import nn

from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.optvis import IllusionOptions, render_illusions
from captum_neuroinspect.optvis._shortcuts.separate_rows import separate_rows

N_CLASSES = 300
NAMES = [f"class {i}" for i in range(N_CLASSES)]


def network(seed=0):
    """Linear layers wide enough for a processor to choose another order of sums.

    There is no convolution, whose rounding is the library's own affair.
    """
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(12),
        nn.Flatten(),
        nn.Linear(432, 512),
        nn.ReLU(),
        nn.Linear(512, N_CLASSES),
    ).eval()


def random_texts(texts):
    return torch.randn(len(texts), 384, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def encoder():
    return LabelSpaceEncoder(network(seed=1), NAMES, random_texts)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_guided_illusion_is_the_same_in_any_batch(encoder, batch_size):
    pairs = {"neurons": [3, 50, 121, 400, 7], "classes": [7, 81, 204, 17, 299]}
    options = {"size": 24, "n_steps": 12, "progress": False}
    guided = {"encoder": encoder, "class_names": NAMES}
    together, apart = (
        render_illusions(
            network(), **pairs, **options, **guided, options=IllusionOptions(batch_size=n)
        )
        for n in (5, batch_size)
    )
    assert together.images.equal(apart.images)


def test_rows_are_the_layers_values_with_their_gradient():
    layer, features = nn.Linear(6, 4), torch.randn(3, 6, requires_grad=True)
    expected = layer(features)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), features)
    with separate_rows(layer):
        values = layer(features)
        (gradient,) = torch.autograd.grad(values.square().sum(), features)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    assert "forward" not in vars(layer)


@pytest.mark.parametrize("shape", [(0, 6), (5, 6), (2, 7, 6), (65, 6), (6,)])
def test_other_shapes_pass(shape):
    layer, features = nn.Linear(6, 4), torch.randn(shape)
    with separate_rows(layer):
        torch.testing.assert_close(layer(features), nn.Linear.forward(layer, features))


def test_a_layer_with_a_forward_of_its_own_keeps_it():
    layer = nn.Linear(6, 4)
    layer.forward = lambda features: features + 1
    with separate_rows(layer):
        assert layer(torch.zeros(2, 6)).eq(1).all()
    assert layer(torch.zeros(2, 6)).eq(1).all()
