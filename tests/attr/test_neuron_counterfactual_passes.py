from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from captum.attr import NoiseTunnel
from helpers import Boom, hooks_of, left_unchanged
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_neuroinspect import NeuronCounterfactual, neuron_saliency
from captum_neuroinspect.attr import SGD

FAST = SGD(lr=0.1, max_steps=40)
TARGET = [0, 1, 2, 3, 0, 1]
# Few steps keep tests fast: that some samples then do not converge is said, and tested apart.
pytestmark = pytest.mark.filterwarnings("ignore:.* did not converge:RuntimeWarning")


class Does(nn.Module):
    """A function as a module, which counts its calls and may raise in one of them."""

    def __init__(self, function=lambda x: x, fails_at=0, error=Boom) -> None:
        super().__init__()
        self.function, self.calls, self.fails_at, self.error = function, 0, fails_at, error

    def forward(self, x):
        self.calls += 1
        if self.calls == self.fails_at:
            raise self.error
        return self.function(x)


class Net(nn.Module):
    """A residual net whose ReLU runs three times, in place; ``mid`` is the layer."""

    def __init__(self, before=None, after=None) -> None:
        super().__init__()
        self.before, self.after = before or nn.Identity(), after or nn.Identity()
        self.stem, self.mid = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.pool, self.head = nn.AdaptiveAvgPool2d(2), nn.Linear(16, 4)
        for parameter in self.parameters():
            parameter.data.mul_(3)

    def forward(self, images):
        x = self.stem(self.before(images))
        self.relu(x)  # nothing is made of the result: x itself is changed
        z = self.norm(self.mid(self.relu(x * 2)))
        z = self.after(self.relu(z) + x)
        return self.head(self.pool(z).flatten(1))


class Checkpointed(Net):
    def forward(self, images):
        return checkpoint(super().forward, images, use_reentrant=False)


@pytest.fixture
def images():
    return torch.rand(6, 3, 5, 5)


def _mid(net):
    return NeuronCounterfactual(net, net.mid, solver=FAST)


@pytest.mark.parametrize("layer", ["stem", "mid", "norm", "pool", "head"])
@pytest.mark.parametrize("at_input", [True, False])
def test_what_is_skipped_changes_nothing(images, layer, at_input):
    """Around a plain function all of the network runs each time: the same comes out."""
    net = Net().eval()
    module = net.get_submodule(layer)
    skipping = NeuronCounterfactual(net, module, solver=FAST)
    plain = NeuronCounterfactual(lambda x: net(x), module, solver=FAST)
    w, expected = (m.attribute(images, TARGET, None, at_input) for m in (skipping, plain))
    assert torch.equal(w, expected)
    assert w.flatten(1).ne(0).any(1).sum() >= 3


def test_modules_before_the_layer_are_not_run_again(images):
    """Two passes need them, to look and to remember; what follows the layer runs at each step."""
    net = Net(Does(), Does(torch.tanh)).eval()
    details = _mid(net).attribute(images, TARGET, return_details=True)
    n_steps = int(details.n_steps.max())
    assert n_steps > 1
    assert net.after.calls == 4 + n_steps  # to look, remember, check; and before each step
    assert net.before.calls == net.after.calls  # the input itself is returned: nothing to remember
    net = Net(Does(lambda x: x * 1), Does(torch.tanh)).eval()
    _mid(net).attribute(images, TARGET, internal_batch_size=3)
    assert net.before.calls == 4
    assert net.after.calls > 8


def test_gradient_checkpointing_runs_layers_in_the_backward_pass(images):
    """They meet the replaced activation there too."""
    torch.manual_seed(0)
    net = Net().eval()
    torch.manual_seed(0)
    again = Checkpointed().eval()
    assert torch.equal(_mid(again).attribute(images, TARGET), _mid(net).attribute(images, TARGET))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_as_it_was(images, training):
    """Values, flags, hooks, gradients and global randomness, with dropout in training mode too."""
    net = Net(after=nn.Dropout(0.5)).eval()
    expected, state = _mid(net).attribute(images, TARGET), torch.get_rng_state()
    net.train(training)
    with left_unchanged(net):
        assert torch.equal(_mid(net).attribute(images, TARGET), expected)
    with left_unchanged(net), pytest.raises(ValueError, match="target=4 is out of range"):
        _mid(net).attribute(images, 4)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("where", "call"), [("before", 1), ("before", 2)] + [("after", n) for n in (1, 2, 3, 6)]
)
def test_the_model_stays_as_it_was_after_an_error(images, error, where, call):
    """While reading, while remembering, or in the middle of the descent."""
    net = Net(**{where: Does(lambda x: x * 1, call, error)})
    with left_unchanged(net), pytest.raises(error):
        _mid(net).attribute(images, TARGET)
    assert getattr(net, where).calls == call
    assert not any(hooks for module in net.modules() for hooks in hooks_of(module).values())


class CosineHead(nn.Linear):
    def forward(self, x):
        return 9 * F.linear(F.normalize(x), F.normalize(self.weight))


def test_a_linear_class_that_is_not_linear_is_run(images):
    """A head that normalises is no linear layer, whatever it inherits from."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(75, 8), CosineHead(8, 4, bias=False))
    target = net(images).argsort(1)[:, 2]
    method = NeuronCounterfactual(net, "2", solver=FAST)
    found = method.attribute(images, target, attribute_to_layer_input=True, return_details=True)
    assert found.converged.all()
    assert torch.equal(net[2](net[1](images.flatten(1)) + found.w).argmax(1), target)


def _one_hot(z):
    return torch.zeros_like(z).flatten(1).scatter(1, z.flatten(1).argmax(1, True), 1).view_as(z)


@pytest.mark.parametrize(
    ("after", "error", "message"),
    [
        (
            Does(lambda z: F.dropout(z, training=True)),
            RuntimeError,
            "gives other logits when it",
        ),
        (Does(lambda z: z.detach()), ValueError, "has no gradient in the layer's activation"),
        (Does(_one_hot), ValueError, "has no gradient in the layer's activation"),
        (Does(lambda z: z * torch.nan), ValueError, "the network's output has NaN"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: lambda x: net(x)])
def test_networks_that_cannot_be_explained(images, after, error, message, wrap):
    net = Net(after=after).eval()
    with left_unchanged(net), pytest.raises(error, match=message):
        NeuronCounterfactual(wrap(net), net.mid).attribute(images, TARGET)


def test_errors_of_the_network_are_its_own(images):
    """A gradient that fails is not taken for one that is missing."""

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z * 1

        @staticmethod
        def backward(ctx, gradient):
            raise Boom

    net = Net(after=Does(Fails.apply)).eval()
    with left_unchanged(net), pytest.raises(Boom):
        _mid(net).attribute(images, TARGET)


def test_layers_that_cannot_be_explained(images):
    net = Net().eval()
    with left_unchanged(net), pytest.raises(ValueError, match="ReLU runs 3 times in one forward"):
        NeuronCounterfactual(net, "relu").attribute(images, TARGET)
    net.unused = nn.Linear(4, 4)
    with left_unchanged(net), pytest.raises(RuntimeError, match="did not run the layer Linear"):
        NeuronCounterfactual(net, "unused").attribute(images, TARGET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_dim": 1}, "channel_dim=1 is given but channelwise is False"),
        ({"channel_dim": 0, "channelwise": True}, r"channel_dim=0, .* activation \(6, 4, 5, 5\)"),
        ({"channel_dim": -4, "channelwise": True}, "channel_dim=-4, expected a dimension"),
        ({"channel_dim": 4, "channelwise": True}, "channel_dim=4, expected a dimension"),
        ({"internal_batch_size": 0}, "internal_batch_size=0, expected at least 1"),
        ({"reference": torch.rand(3, 7)}, "reference has 7 features"),
    ],
)
def test_refused_options(images, options, message):
    with pytest.raises(ValueError, match=message):
        _mid(Net().eval()).attribute(images, TARGET, **options)


@pytest.mark.parametrize("channel_dim", [None, -1, 2])
def test_tokens_have_their_channels_last(channel_dim):
    """And one channel, or one unit, is a number like any other."""
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Flatten(), nn.Linear(20, 1), nn.Linear(1, 3))
    tokens, target = torch.randn(6, 4, 3), [0, 1, 2, 0, 1, 2]
    method = NeuronCounterfactual(net, "0", solver=FAST)
    w = method.attribute(tokens, target, None, False, channelwise=True, channel_dim=channel_dim)
    assert w.shape == (6, 5)
    by_token = method.attribute(tokens, target, None, False, channelwise=True, channel_dim=1)
    assert by_token.shape == (6, 4)
    for options in ({}, {"channelwise": True}):
        unit = nn.Sequential(net[:4], nn.ReLU(), net[4])
        method = NeuronCounterfactual(unit, "1", solver=FAST)
        found = method.attribute(tokens, target, return_details=True, **options)
        assert found.w.shape == (6, 1)
        assert found.feasible.all()


def test_inside_captums_noise_tunnel(images):
    """Without noise the average of equal samples is the attribution itself."""
    net = Net().eval()
    expected = _mid(net).attribute(images, TARGET)
    with left_unchanged(net):
        smooth = NoiseTunnel(_mid(net)).attribute(images, nt_samples=2, stdevs=0.0, target=TARGET)
    torch.testing.assert_close(smooth, expected, atol=1e-5, rtol=1e-5)
    unwrapped = NeuronCounterfactual.attribute.__wrapped__(_mid(net), images, target=TARGET)
    assert torch.equal(unwrapped, expected)


def test_a_layer_of_another_output_is_told() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.age, self.sex = nn.Linear(6, 4), nn.Linear(4, 5), nn.Linear(4, 2)

        def forward(self, x):
            z = self.body(x).relu()
            return self.age(z), self.sex(z)

    torch.manual_seed(0)
    net, x = Two(), torch.rand(3, 6)
    assert NeuronCounterfactual(net, net.age).attribute(x, target=1).shape == (3, 4)
    with pytest.raises(ValueError, match="layer is not on the way to it"):
        NeuronCounterfactual(net, net.sex).attribute(x, target=1)
    alone = nn.Sequential(net.body, nn.ReLU(), net.sex)
    of_sex = neuron_saliency(net, net.sex, x, [1], attribute_to_neuron_input=False)
    expected = neuron_saliency(alone, net.sex, x, [1], attribute_to_neuron_input=False)
    torch.testing.assert_close(of_sex, expected)
    assert NeuronCounterfactual(alone, net.sex).attribute(x, target=1).shape == (3, 4)
