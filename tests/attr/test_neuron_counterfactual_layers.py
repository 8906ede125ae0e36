from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import left_unchanged
from torch import nn

from captum_neuroinspect import NeuronCounterfactual
from captum_neuroinspect.attr import FISTA, SGD, Reference

FAST = SGD(lr=0.1, max_steps=100)

# Few steps keep tests fast: that some samples then do not converge is said, and tested apart.
pytestmark = pytest.mark.filterwarnings("ignore:.* did not converge:RuntimeWarning")


class Net(nn.Module):
    """A residual net with in-place ReLUs and a square linear layer before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.mid, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu2, self.pool = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2)
        self.dropout, self.fc, self.relu3 = nn.Dropout(0.5), nn.Linear(16, 16), nn.ReLU(True)
        self.head = nn.Linear(16, 4)
        for parameter in self.parameters():
            parameter.data.mul_(2)

    def forward(self, images):
        return self.after_mid(x := self.relu1(self.stem(images)), self.mid(x))

    def after_mid(self, x, z):
        return self.after_relu2(x, self.relu2(self.norm(z)))

    def after_relu2(self, x, z):
        return self.after_fc(self.fc(self.dropout(self.pool(x + z)).flatten(1)))

    def after_fc(self, z):
        return self.head(self.relu3(z))


def _x(net, images):
    return net.relu1(net.stem(images))


# (layer, its input?) -> what follows the activation, written by hand.
TAILS = {
    ("mid", False): lambda net, images, z: net.after_mid(_x(net, images), z),
    ("mid", True): lambda net, images, z: net.after_mid(_x(net, images), net.mid(z)),
    ("relu1", False): lambda net, images, z: net.after_mid(z, net.mid(z)),
    ("relu2", False): lambda net, images, z: net.after_relu2(_x(net, images), z),
    ("relu2", True): lambda net, images, z: net.after_relu2(_x(net, images), z.relu()),
    ("fc", False): lambda net, images, z: net.after_fc(z * 1),
    ("fc", True): lambda net, images, z: net.after_fc(net.fc(z)),
    ("head", False): lambda net, images, z: z,
}
SITES = pytest.mark.parametrize("site", TAILS, ids=lambda site: f"{site[0]}-{site[1]}")


@pytest.fixture
def images():
    return torch.rand(6, 3, 5, 5)


@pytest.fixture
def net(images):
    """No class wins everywhere: a little change can turn a prediction."""
    net = Net().eval()
    with torch.no_grad():
        net.head.bias -= net(images).mean(0)
    return net


@pytest.fixture
def target(net, images):
    """The second best class, but for two samples that are right and one that asks for more."""
    ranked = net(images).argsort(1, descending=True)
    return torch.cat([ranked[:3, 1], ranked[3:5, 0], ranked[5:, 2]])


def _hooked(net, site, images, replacement=None):
    """Activation and prediction, by a hook of the test's own that may put in another activation."""
    seen = []

    def visit(z):
        seen.append(z.clone())
        return z if replacement is None else replacement.clone()

    layer = net.get_submodule(site[0])
    if site[1]:
        handle = layer.register_forward_pre_hook(lambda _, args: visit(*args))
    else:
        handle = layer.register_forward_hook(lambda _, __, output: visit(output))
    with torch.no_grad():
        predicted = net(images).argmax(1)
    handle.remove()
    return seen[0], predicted


def _changed(z, found):
    w = found.w.view(*found.w.shape, *[1] * (z.ndim - found.w.ndim))
    if w.shape == z.shape:
        return z + w
    bounded = found.feasible.view(-1, *[1] * (z.ndim - 1))
    return torch.where(bounded, (z + w).clamp(min=0), z + w)


def _reference_descent(tail, z, target, channelwise):
    """The paper's loop for one sample: autograd, torch's SGD, stop when the prediction is right."""
    shape = (1, z.shape[1], *[1] * (z.ndim - 2)) if channelwise else z.shape
    w, feasible = torch.zeros(shape, requires_grad=True), bool((z >= 0).all())
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    for step in range(101):
        changed = (z + w).clamp(min=0) if feasible and channelwise else z + w
        logits = tail(changed)
        if logits.argmax() == target or step == 100:
            return w.detach().flatten(1) if channelwise else w.detach()
        norms = (0.1 * w.abs().sum() + 0.01 * w.norm()) / w.numel()
        optimizer.zero_grad()
        (F.cross_entropy(logits, target[None]) + norms).backward()
        optimizer.step()
        if feasible:
            w.data = torch.maximum(w.data, -(z.amax((2, 3), keepdim=True) if channelwise else z))


@SITES
@pytest.mark.parametrize("channelwise", [False, True])
def test_attribute_is_the_papers_descent(net, images, target, site, channelwise):
    """For any layer, at its input or output: sample by sample what the loop of the paper finds."""
    z, _ = _hooked(net, site, images)
    by_channel = channelwise and z.ndim > 2
    expected = [
        _reference_descent(lambda c, one=one: TAILS[site](net, one, c), z_one, y, by_channel)
        for one, z_one, y in zip(images.split(1), z.split(1), target, strict=True)
    ]
    w = NeuronCounterfactual(net, site[0], solver=FAST).attribute(
        images, target, None, site[1], channelwise=channelwise
    )
    torch.testing.assert_close(w, torch.cat(expected), atol=1e-5, rtol=1e-5)


@SITES
@pytest.mark.parametrize("channelwise", [False, True])
@pytest.mark.parametrize("solver", [FAST, FISTA(max_steps=50)])
def test_attribute_mends_the_network_that_is_run(net, images, target, site, channelwise, solver):
    """With the activation replaced the network predicts the target: exactly where it says so."""
    found = NeuronCounterfactual(net, site[0], solver=solver).attribute(
        images, target, None, site[1], channelwise=channelwise, return_details=True
    )
    z, before = _hooked(net, site, images)
    _, after = _hooked(net, site, images, _changed(z, found))
    assert torch.equal(after == target, found.converged)
    assert torch.equal(before == target, found.already_correct)
    assert torch.equal(found.w.flatten(1).eq(0).all(1), found.already_correct)
    assert found.converged.sum() >= 4
    assert torch.equal(found.feasible, z.flatten(1).ge(0).all(1))
    if found.feasible.any():
        largest = z.flatten(2).amax(2) if channelwise and z.ndim > 2 else z
        assert (largest + found.w >= 0)[found.feasible].all()
        assert (found.w < 0)[found.feasible].any()


@pytest.mark.parametrize("solver", [SGD(lr=0.1), FISTA()])
def test_attribute_of_a_layer_with_a_linear_tail(net, images, target, solver):
    """What runs behind the last ReLU is the head: its closed form gives the same, to the norm."""
    inner = NeuronCounterfactual(net, "relu3", solver=solver)
    head = NeuronCounterfactual(net, "head", solver=solver)
    found, expected = (m.attribute(images, target, return_details=True) for m in (inner, head))
    torch.testing.assert_close(found.w, expected.w, atol=1e-3, rtol=1e-3)
    assert torch.equal(found.already_correct, expected.already_correct)
    assert found.converged.all()
    if isinstance(solver, FISTA):
        assert (found.residual[:3] < 1e-4).all()
        assert found.residual[found.already_correct].isnan().all()


@pytest.mark.parametrize("channelwise", [False, True])
@pytest.mark.parametrize("solver", [FAST, FISTA(max_steps=30)])
def test_feasible_is_decided_for_each_sample(net, images, target, channelwise, solver):
    """A negative number frees its own sample, in any batch; signed activations refuse it."""
    whole = nn.Sequential(nn.Identity(), net)
    method = NeuronCounterfactual(whole, whole[0], solver=solver)
    options = {"channelwise": channelwise}
    bound = method.attribute(images, target, feasible=True, **options)
    images[2, 0, 0, 0] = -1e-4
    free = method.attribute(images, target, feasible=False, **options)
    for size in (None, 1, 2, 6):
        found = method.attribute(
            images, target, return_details=True, internal_batch_size=size, **options
        )
        assert found.feasible.tolist() == [i != 2 for i in range(6)]
        torch.testing.assert_close(found.w[2], free[2], atol=1e-5, rtol=1e-4)
        others = [0, 1, 3, 4, 5]
        torch.testing.assert_close(found.w[others], bound[others], atol=1e-5, rtol=1e-4)
    with left_unchanged(whole), pytest.raises(ValueError, match="activations reach -0"):
        method.attribute(images, target, feasible=True, **options)


@pytest.mark.parametrize(("name", "default"), [("head", True), ("fc", True), ("relu2", False)])
def test_attribute_to_layer_input_none(net, images, target, name, default):
    """None: the input of every linear layer, the output of any other, square or not."""
    method = NeuronCounterfactual(net, name, solver=FAST)
    w = method.attribute(images, target)
    assert torch.equal(w, method.attribute(images, target, None, default))
    other = method.attribute(images, target, None, not default)
    assert w.shape != other.shape or not torch.allclose(w, other)
    by_module = NeuronCounterfactual(net, net.get_submodule(name), solver=FAST)
    assert torch.equal(w, by_module.attribute(images, target))


@pytest.mark.parametrize("site", [("head", True), ("fc", False), ("mid", False)])
@pytest.mark.parametrize("channelwise", [False, True])
def test_reference_contrasts_the_change(net, images, target, site, channelwise):
    """Attributions are then the contrast of w, from activations as they are or as channel means."""
    usual, _ = _hooked(net, site, torch.rand(9, 3, 5, 5))
    method, options = NeuronCounterfactual(net, site[0], solver=FAST), {"channelwise": channelwise}
    options |= {"internal_batch_size": 4, "attribute_to_layer_input": site[1]}
    plain = method.attribute(images, target, return_details=True, **options)
    assert plain.contrast is None
    z, _ = _hooked(net, site, images)
    means = [m.flatten(2).mean(2) if channelwise and m.ndim > 2 else m for m in (usual, z)]
    expected = Reference.of(means[0]).contrast(plain.w.flatten(1), means[1].flatten(1))
    for reference in (usual, means[0], Reference.of(means[0])):
        found = method.attribute(
            images, target, reference=reference, return_details=True, **options
        )
        torch.testing.assert_close(found.w, plain.w, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.contrast.flatten(1), expected, atol=1e-4, rtol=1e-3)
        assert found.contrast.shape == plain.w.shape
    w = method.attribute(images, target, reference=usual, **options)
    torch.testing.assert_close(w, found.contrast, atol=1e-4, rtol=1e-3)


def test_details_of_samples_given_up(net, images, target):
    """A sample that runs out of steps says so; those before it keep their own counts."""
    long = NeuronCounterfactual(net, "mid", solver=FAST).attribute(
        images, target, return_details=True
    )
    longest = int(long.n_steps.max())
    assert longest > 1
    short = NeuronCounterfactual(net, "mid", solver=SGD(lr=0.1, max_steps=longest - 1))
    found = short.attribute(images, target, return_details=True)
    assert torch.equal(found.converged, long.n_steps < longest)
    assert torch.equal(found.n_steps, long.n_steps.clamp(max=longest - 1))
    assert torch.equal(found.w[found.converged], long.w[found.converged])
    assert found.residual.isnan().all()


def test_permuted_samples_give_permuted_attributions(net, images, target):
    order = torch.randperm(6)
    method = NeuronCounterfactual(net, "mid", solver=FAST)
    w, permuted = method.attribute(images, target), method.attribute(images[order], target[order])
    torch.testing.assert_close(permuted, w[order], atol=1e-5, rtol=1e-5)
