import pytest
import torch
from helpers import Boom, left_unchanged
from torch import nn
from torch.nn import functional as F
from transformers.activations import get_activation as activation

from captum_neuroinspect.optvis import RedirectedRectifiers


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def _gradient(function, value, *, upstream=None, mode=None):
    """Gradient at ``value`` of ``(function(value) * upstream).sum()``, to be descended."""
    value = value.clone().requires_grad_()
    upstream = -torch.ones_like(value) if upstream is None else upstream
    # `+ 0`: in-place functions may not change a leaf.
    if mode is None:
        output = function(value + 0)
    else:
        with mode:
            output = function(value + 0)
    (output * upstream).sum().backward()
    return output.detach(), value.grad


RECTIFIERS = {
    "F.relu": F.relu,
    "F.relu inplace": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": torch.Tensor.relu,
    "Tensor.relu_": torch.Tensor.relu_,
    "F.relu6": F.relu6,
    "F.relu6 inplace": lambda x: F.relu6(x, inplace=True),
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "F.hardtanh_": lambda x: F.hardtanh_(x, 0.0, 6.0),
    "F.hardswish": lambda x: F.hardswish(x - 2),
    "F.gelu": F.gelu,
    "F.gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "F.silu": lambda x: F.silu(3 * x),
    "F.silu inplace": lambda x: F.silu(3 * x, inplace=True),
    "torch.clamp": lambda x: torch.clamp(x, min=0),
    "torch.clamp_": lambda x: torch.clamp_(x, 0, 6),
    "torch.clamp_min": lambda x: torch.clamp_min(x, 0),
    "torch.clip": lambda x: torch.clip(x, 0.0),
    "Tensor.clamp": lambda x: x.clamp(0, 1),
    "Tensor.clamp_": lambda x: x.clamp_(min=0),
    "Tensor.clamp_min_": lambda x: x.clamp_min_(0),
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU inplace": nn.ReLU(inplace=True),
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 inplace": nn.ReLU6(inplace=True),
    "nn.Hardtanh": nn.Hardtanh(),
    "nn.Hardswish inplace": nn.Sequential(nn.Hardswish(), nn.Hardswish(inplace=True)),
    "nn.GELU": nn.GELU(),
    "nn.SiLU inplace": nn.Sequential(nn.Hardtanh(-9, 9), Scale(3), nn.SiLU(inplace=True)),
    **{f"transformers {name}": activation(name) for name in ("gelu", "gelu_pytorch_tanh", "relu")},
    "transformers silu": nn.Sequential(Scale(3), activation("silu")),
}
every_rectifier = pytest.mark.parametrize("function", RECTIFIERS.values(), ids=RECTIFIERS.keys())


@every_rectifier
def test_values_and_open_gradients_stay(function):
    value = 3 * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    expected = _gradient(function, value, upstream=upstream)
    found = _gradient(function, value, upstream=upstream, mode=RedirectedRectifiers())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@every_rectifier
def test_a_dead_image_gets_a_gradient_and_its_neighbour_the_true_one(function):
    value = torch.stack([torch.full((3, 2, 2), -7.0), torch.full((3, 2, 2), 0.5)])
    _, expected = _gradient(function, value)
    _, found = _gradient(function, value, mode=RedirectedRectifiers())
    assert expected[0].abs().max() < 1e-6
    assert found[0].lt(-0.1).all()
    assert found[1].equal(expected[1])


@every_rectifier
def test_an_image_that_is_not_named_gets_its_true_gradient(function):
    value = torch.full((2, 3, 2, 2), -7.0)
    _, expected = _gradient(function, value)
    _, found = _gradient(function, value, mode=RedirectedRectifiers(torch.tensor([True, False])))
    assert found[0].lt(-0.1).all()
    assert found[1].equal(expected[1])


@every_rectifier
def test_nothing_is_left_behind_by_an_exception(function):
    value = torch.full((2, 3, 2, 2), -7.0)
    expected = _gradient(function, value)
    modes = torch.overrides._get_current_function_mode_stack()

    def fail():
        function(value.clone().requires_grad_() + 0)
        raise Boom

    with pytest.raises(Boom), RedirectedRectifiers():
        fail()
    assert torch.overrides._get_current_function_mode_stack() == modes
    for one, other in zip(_gradient(function, value), expected, strict=True):
        assert one.equal(other)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(min=1e-6),
        lambda x: x.clamp(-1, 1),
        lambda x: x.clamp(max=-8),
        lambda x: x.clamp(torch.zeros(3, 1, 1)),
    ],
    ids=["small", "both sides", "maximum", "tensor"],
)
def test_bounds_that_are_no_rectifiers_are_left_alone(function):
    value = torch.full((2, 3, 2, 2), -7.0)
    _, found = _gradient(function, value, mode=RedirectedRectifiers())
    assert found.eq(0).all()


def test_no_gradient_that_would_close_it_further():
    value = torch.full((1, 1, 2, 2), -1.0)
    upstream = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]]])
    _, found = _gradient(F.relu, value, upstream=upstream, mode=RedirectedRectifiers())
    assert found.tolist() == [[[[0.0, -2.0], [0.0, 0.0]]]]


def test_saturated_units_are_lowered_but_not_raised():
    value = torch.full((1, 1, 1, 2), 8.0)
    upstream = torch.tensor([[[[1.0, -2.0]]]])
    _, found = _gradient(F.relu6, value, upstream=upstream, mode=RedirectedRectifiers())
    assert found.tolist() == [[[[1.0, 0.0]]]]


def test_nothing_is_redirected_while_something_gets_through():
    value = torch.full((1, 2, 2, 2), -1.0)
    value[0, 1, 0, 0] = 1.0
    _, found = _gradient(F.relu, value, mode=RedirectedRectifiers())
    assert found.count_nonzero() == 1


@pytest.mark.parametrize(
    ("shape", "channel_dim"),
    [((2, 3, 2, 2), 1), ((2, 3), 1), ((2, 5, 3), 2), ((2, 4, 4, 3), 3)],
    ids=["maps", "N,F", "tokens", "channels last"],
)
def test_a_named_channel_is_redirected_by_itself(shape, channel_dim):
    value = torch.full(shape, -1.0)
    value.select(channel_dim, 0).fill_(1.0)  # open in both images
    mode = RedirectedRectifiers(channels=torch.tensor([1, 0]), n_channels=3)
    _, found = _gradient(F.relu, value, mode=mode)
    by_channel = found.movedim(channel_dim, 1).flatten(2).sum(2) if len(shape) > 2 else found
    assert by_channel.ne(0).tolist() == [[True, True, False], [True, False, False]]


def test_channels_count_only_in_tensors_with_that_many():
    value = torch.tensor([[1.0, -1.0, -1.0]])
    mode = RedirectedRectifiers(channels=torch.tensor([1]), n_channels=4)
    assert _gradient(F.relu, value, mode=mode)[1].tolist() == [[-1.0, 0.0, 0.0]]


def test_only_chosen_images_are_helped():
    value = torch.full((2, 3), -1.0)
    mode = RedirectedRectifiers(torch.tensor([False, True]))
    assert _gradient(F.relu, value, mode=mode)[1].tolist() == [[0.0] * 3, [-1.0] * 3]
    # Five windows of an image are not five images.
    windows = torch.full((5, 3), -1.0)
    assert _gradient(F.relu, windows, mode=mode)[1].eq(0).all()


def test_a_frozen_model_under_autocast():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.Conv2d(4, 2, 3))
    model.requires_grad_(False)
    model[0].bias.fill_(-100)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    with left_unchanged(model):
        with torch.autocast("cpu", torch.bfloat16), RedirectedRectifiers():
            output = model(images)
        assert output.dtype == torch.bfloat16
        output.float().sum().neg().backward()
    assert images.grad.abs().sum() > 0


def test_without_gradients_nothing_happens():
    with RedirectedRectifiers(), torch.no_grad():
        assert F.relu(torch.tensor([[-1.0, 2.0]])).tolist() == [[0.0, 2.0]]
    with RedirectedRectifiers():
        assert not F.relu(torch.ones(1, 2)).requires_grad


def test_is_over_after_the_block():
    with RedirectedRectifiers():
        pass
    assert _gradient(F.relu, -torch.ones(1, 2))[1].eq(0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": torch.ones(2)}, TypeError, "images has dtype torch.float32"),
        ({"images": torch.ones(2, 2).bool()}, TypeError, r"shape \(2, 2\), expected torch.bool"),
        ({"channels": torch.ones(2), "n_channels": 2}, TypeError, "channels has dtype"),
        ({"channels": torch.ones(2).long()}, ValueError, "belong together"),
        ({"n_channels": 2}, ValueError, "belong together"),
    ],
)
def test_bad_values(arguments, error, message):
    with pytest.raises(error, match=message):
        RedirectedRectifiers(**arguments)
