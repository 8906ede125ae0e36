"""Shortcuts give the same numbers and gradients, and leave no trace."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from captum_neuroinspect import render_illusions
from captum_neuroinspect._core.modules import captured_output, frozen
from captum_neuroinspect.optvis._shortcuts.shortened import shortened

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def with_statistics(network):
    """Normalisations that do something, as after training."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


class ConvUsedTwice(Blocks):
    """What the convolution gives is also used without the normalisation."""

    def forward(self, x):
        convolved = self.conv(x)
        return self.fc((self.norm(convolved) + convolved).relu().mean((2, 3)))


class SharedNorm(Blocks):
    def forward(self, x):
        return self.fc(self.norm(self.norm(self.conv(x))).relu().mean((2, 3)))


class Attending(nn.Module):
    def __init__(self, batch_first, weights=False, mask=False):
        super().__init__()
        torch.manual_seed(0)
        self.cut = nn.Conv2d(3, 16, 8, stride=8)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=batch_first)
        self.fc = nn.Linear(16, 4)
        self.batch_first, self.weights, self.mask = batch_first, weights, mask

    def forward(self, x):
        tokens = self.cut(x).flatten(2).transpose(1, 2)
        tokens = tokens if self.batch_first else tokens.transpose(0, 1)
        mask = torch.ones(16, 16).triu(1).bool() if self.mask else None
        mixed, weights = self.attention(
            tokens, tokens, tokens, need_weights=self.weights, attn_mask=mask
        )
        if self.weights:
            mixed = mixed * weights.amax()
        return self.fc(mixed.mean(1 if self.batch_first else 0))


def values_and_gradient(network):
    images = IMAGES.clone().requires_grad_()
    output = network(images)
    (gradient,) = torch.autograd.grad(output[:, 1].sum(), images)
    return output.detach(), gradient


def everything(network):
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    forwards = [vars(module).get("forward") for module in network.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()]
    identity = [(name, id(p), p.requires_grad) for name, p in network.named_parameters()]
    return tensors, forwards, hooks, identity


def assert_unchanged(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1:] == after[1:]


NETWORKS = {
    "conv and norm": Blocks,
    "conv used twice": ConvUsedTwice,
    "shared norm": SharedNorm,
    "batch first": lambda: Attending(True),
    "tokens first": lambda: Attending(False),
    "attention with weights": lambda: Attending(True, weights=True),
    "masked attention": lambda: Attending(True, mask=True),
    "resnet18": lambda: torchvision.models.resnet18(num_classes=4),
    "mobilenet_v3": lambda: torchvision.models.mobilenet_v3_small(num_classes=4),
    "timm, norm with activation": lambda: timm.create_model("efficientnet_lite0", num_classes=4),
    "vit": lambda: torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_values_and_gradients_and_no_trace(name):
    torch.manual_seed(0)
    network = with_statistics(NETWORKS[name]())
    with frozen(network):
        before, expected = everything(network), values_and_gradient(network)
        with shortened(network, lambda: [network(IMAGES)]):
            output, gradient = values_and_gradient(network)
        for ours, theirs in zip((output, gradient), expected, strict=True):
            assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
        assert_unchanged(before, everything(network))


@pytest.mark.parametrize(
    ("name", "n_changes"),
    [
        ("conv and norm", 3),  # weight, bias, and the norm's forward
        ("conv used twice", 0),
        ("shared norm", 0),
        ("batch first", 2),  # patches and attention
        ("resnet18", 60),
        ("timm, norm with activation", 147),
    ],
)
def test_shortcuts_are_taken(name, n_changes):
    torch.manual_seed(0)
    network = with_statistics(NETWORKS[name]())
    with frozen(network), shortened(network, lambda: [network(IMAGES)]) as changes:
        assert len(changes) == n_changes


def test_a_layer_that_is_read_stays_what_it_is():
    network = with_statistics(Blocks())
    with captured_output(network.conv) as captured:
        expected = network(IMAGES), captured.value
        with shortened(network, lambda: [network(IMAGES)], keep=[network.conv]) as changes:
            network(IMAGES)
            assert torch.equal(captured.value, expected[1])
            assert len(changes) == 0


def test_a_computed_weight_is_left_alone():
    network = Blocks()
    network.conv = weight_norm(network.conv)
    with_statistics(network)
    with shortened(network, lambda: [network(IMAGES)]) as changes:
        assert len(changes) == 0


def test_put_back_after_an_exception():
    network = with_statistics(Blocks())
    before = everything(network)
    with pytest.raises(RuntimeError, match="inside"), shortened(network, lambda: [network(IMAGES)]):
        raise RuntimeError("inside")
    assert_unchanged(before, everything(network))


def test_a_change_that_the_network_refuses_is_left_out():
    network = with_statistics(Blocks())
    own = network.conv.weight
    network.register_forward_pre_hook(lambda *_: _require(network.conv.weight is own))
    with shortened(network, lambda: [network(IMAGES)]) as changes:
        assert len(changes) == 0
        network(IMAGES)


def _require(condition):
    if not condition:
        raise RuntimeError("this network watches its weights")


def test_an_own_forward_of_an_instance_comes_back():
    network = with_statistics(Blocks())
    own = network.norm.forward
    network.norm.forward = own
    with shortened(network, lambda: [network(IMAGES)]):
        assert network.norm.forward is not own
    assert network.norm.forward is own


def test_illusions_of_a_convolution_before_its_norm():
    """The layer that is read is the one that folding would have changed."""
    network = with_statistics(Blocks())
    found = render_illusions(
        network, [0, 3], [1, 2], layer="conv", size=16, n_steps=2, progress=False
    )
    with torch.no_grad():
        maps = network.conv(found.images)
    expected = maps[torch.arange(2), [0, 3]].mean((1, 2))
    torch.testing.assert_close(found.activations, expected, rtol=1e-5, atol=1e-6)
