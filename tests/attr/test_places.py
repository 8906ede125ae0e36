"""Where the neurons are follows from the layer's type and the argument, not from the numbers."""

from __future__ import annotations

import pytest
import torch
from helpers import ConvNet, left_unchanged
from torch import nn
from torch.nn.utils import parametrizations

from captum_neuroinspect import NeuronCounterfactual
from captum_neuroinspect.attr import FISTA, SGD
from captum_neuroinspect.attr._last_layer import followed, is_plain_linear
from captum_neuroinspect.attr._places import is_at_input

FAST = SGD(lr=0.1, max_steps=50)
# Made-up heads and few steps: that not all samples converge is tested apart.
pytestmark = pytest.mark.filterwarnings("ignore:.* did not converge:RuntimeWarning")


class Narrow(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("layer", "asked", "expected"),
    [
        (nn.Linear(2, 2), None, True),
        (Narrow(2, 2), None, True),
        (nn.Conv2d(2, 2, 1), None, False),
        (nn.Sequential(nn.Linear(2, 2)), None, False),
        (nn.Bilinear(2, 2, 2), None, False),
        (nn.Linear(2, 2), False, False),
        (nn.ReLU(), True, True),
    ],
)
def test_the_type_or_the_argument_decides(layer, asked, expected):
    assert is_at_input(layer, asked) is expected


class Ends(nn.Module):
    """A head, and what a network may do with its logits."""

    def __init__(self, end) -> None:
        super().__init__()
        self.first, self.fc, self.end = nn.Linear(3, 5), nn.Linear(5, 4), end

    def forward(self, x):
        return self.end(self.fc(self.first(x).relu()))


ENDS = {
    "nothing": lambda y: y,
    "temperature 1": lambda y: y / 1.0,
    "almost 1": lambda y: y / 1.0005,
    "temperature 2": lambda y: y / 2,
    "relu": torch.relu,
    "in-place relu": torch.relu_,
    "clamp": lambda y: y.clamp(-1e9, 1e9),
    "softmax": lambda y: y.softmax(1),
    "plus 0": lambda y: y + 0,
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("solver", [FAST, FISTA(max_steps=20)])
def test_the_shape_is_the_same_for_each_photo_and_end(name, solver):
    net = Ends(ENDS[name]).eval()
    for seed in range(3):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)) * 3
        for forward_func in (net, lambda x: net(x)):
            w = NeuronCounterfactual(forward_func, net.fc, solver=solver).attribute(x, 0)
            assert w.shape == (4, 5)
            w = NeuronCounterfactual(forward_func, net.first, solver=solver).attribute(x, 0)
            assert w.shape == (4, 3)


def test_a_relu_behind_the_head_is_kept_whatever_passes_it():
    """All logits are positive at first, and must not become negative on the way: also alone."""
    net = Ends(torch.relu).eval()
    net.fc.bias.data += 5
    x = torch.randn(6, 3)
    target = net(x).argmin(1)
    assert (net(x) > 0).all()
    assert torch.equal(net(x), net.fc(net.first(x).relu()))  # the ReLU does nothing here
    found = NeuronCounterfactual(net, "fc", solver=SGD(lr=1.0, max_steps=30)).attribute(
        x, target, return_details=True
    )
    z = net.first(x).relu()
    assert torch.equal(net.end(net.fc(z + found.w)).argmax(1) == target, found.converged)


def _leads(end, layer=None, x=None):
    layer = layer or nn.Linear(3, 4)
    x = torch.randn(2, 3) if x is None else x
    with left_unchanged(layer), followed(layer) as last:
        return last.leads_to(end(layer(x)))


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda y: y, True),
        (lambda y: (y, None), True),
        (lambda y: {"logits": y}, True),
        (nn.Identity(), True),
        (nn.Dropout(0.5).eval(), True),
        (lambda y: y.detach(), True),
        (lambda y: y.clone(), True),
        (lambda y: y.double(), True),
        (lambda y: y.view(2, 4), True),
        (lambda y: y[:, :, None].squeeze(2), True),
        (lambda y: y.softmax(1), True),
        (lambda y: y.log_softmax(-1), True),
        (nn.Softmax(dim=1), True),
        (lambda y: y.softmax(0), False),
        (lambda y: y.softmax(1).softmax(1), False),
        (lambda y: y.sigmoid(), False),
        (lambda y: y.relu(), False),
        (lambda y: y.relu_(), False),
        (lambda y: y.clone().mul_(1), False),
        (lambda y: y.detach().relu_(), False),
        (lambda y: y / 1.0, False),
        (lambda y: y + 0, False),
        (lambda y: y[:, [0, 1, 2, 3]], False),
        (lambda y: y.t().reshape(2, 4), False),
        (lambda y: y[:, :1], False),
        (lambda y: torch.zeros_like(y), False),
    ],
)
def test_the_last_layer_is_told_by_operations(end, expected):
    """The same for zeros, where many of them change no number."""
    assert _leads(end) is expected
    layer = nn.Linear(3, 4)
    layer.bias.data.fill_(1.0)
    assert _leads(end, layer, torch.zeros(2, 3)) is expected


def test_the_last_layer_under_no_grad_and_inference_mode():
    def quiet(y):
        return y

    layer = nn.Linear(3, 4)
    with followed(layer) as last, torch.no_grad():
        assert last.leads_to(quiet(layer(torch.rand(2, 3))))
    with followed(layer) as last, torch.inference_mode():
        output = layer(torch.rand(2, 3))  # where nothing can be noted: not taken for it
    assert not last.leads_to(output)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


class Normalising(nn.Linear):
    def forward(self, x):
        return super().forward(nn.functional.normalize(x))


def test_plain_linear_layers_are_told_by_their_code():
    plain = nn.Linear(3, 4)
    assert is_plain_linear(plain)
    assert is_plain_linear(Narrow(3, 4))
    assert is_plain_linear(parametrizations.weight_norm(nn.Linear(3, 4)))
    assert not is_plain_linear(Normalising(3, 4))
    assert not is_plain_linear(nn.Conv2d(3, 4, 1))
    hooked, patched = nn.Linear(3, 4), nn.Linear(3, 4)
    hooked.register_forward_hook(lambda *_: None)
    patched.forward = lambda x: nn.Linear.forward(patched, x)
    assert not is_plain_linear(hooked)
    assert not is_plain_linear(patched)


@pytest.mark.parametrize("change", ["hook", "forward", "subclass"])
def test_features_of_layers_that_are_linear_for_the_first_sample_only(change):
    """A scale of 1 for small features: no sample is judged by what another one shows."""
    head = nn.Linear(4, 3)

    def scaled(x):
        return x * torch.where(x.norm(dim=1, keepdim=True) > 1, 3.0, 1.0)

    if change == "hook":
        head.register_forward_pre_hook(lambda _, args: (scaled(args[0]),))
    elif change == "forward":
        head.forward = lambda x: nn.Linear.forward(head, scaled(x))
    else:
        head.__class__ = type("Scaling", (nn.Linear,), {
            "forward": lambda self, x: nn.Linear.forward(self, scaled(x))
        })  # fmt: skip
    features = torch.cat([torch.rand(1, 4) * 0.1, torch.rand(5, 4) + 1])
    target = head(features).argmin(1)
    found = NeuronCounterfactual(head, head, solver=SGD(lr=0.05)).attribute_features(
        features, target, return_details=True
    )
    assert torch.equal(head(features + found.w).argmax(1) == target, found.converged)
    assert found.converged.any()
    alone = [
        NeuronCounterfactual(head, head, solver=SGD(lr=0.05)).attribute_features(z[None], int(y))
        for z, y in zip(features, target, strict=True)
    ]
    torch.testing.assert_close(torch.cat(alone), found.w, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("solver", [SGD(), FISTA()])
@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (1, 1), (-1, -1)])
def test_features_beside_others_are_as_alone(solver, signs):
    """Whatever signs the others have; by one call, by chunks and by one each."""
    head = nn.Linear(8, 3)
    head.weight.data *= 2
    features = torch.rand(8, 8) * torch.tensor(signs * 4)[:, None]
    features[-1, 3] *= -1  # and one of both signs
    target = head(features).argmin(1)
    method = NeuronCounterfactual(head, head, solver=solver)
    batch = method.attribute_features(features, target, return_details=True)
    assert torch.equal(batch.feasible, features.ge(0).all(1))
    singles = torch.cat(
        [method.attribute_features(z[None], int(y)) for z, y in zip(features, target, strict=True)]
    )
    torch.testing.assert_close(singles, batch.w, atol=2e-5, rtol=1e-4)
    assert (features + batch.w >= -1e-6)[batch.feasible].all()


def test_chunks_of_features_do_not_matter(monkeypatch):
    head = nn.Linear(8, 3)
    features = torch.randn(10, 8)
    features[::2] = features[::2].abs()
    method = NeuronCounterfactual(head, head)
    expected = method.attribute_features(features, 1, return_details=True)
    monkeypatch.setattr("captum_neuroinspect.attr._solving._BATCH_NUMBERS", 3 * 11)
    found = method.attribute_features(features, 1, return_details=True)
    torch.testing.assert_close(found.w, expected.w)
    assert torch.equal(found.feasible, expected.feasible)
    assert torch.equal(found.ran_out, expected.ran_out)


@pytest.mark.parametrize(("net", "x"), [(torch.float32, torch.float64), (torch.float64,) * 2])
def test_float64_is_kept_all_the_way(net, x):
    """To the last digits: float32 on the way would leave 1e-8."""
    head, features = nn.Linear(5, 3).to(net), torch.rand(6, 5, dtype=x)
    reference = torch.rand(9, 5, dtype=torch.float64)
    for solver, tolerance in ((SGD(), None), (FISTA(tolerance=1e-13), 1e-13)):
        method = NeuronCounterfactual(head, head, solver=solver)
        found = method.attribute_features(features, 1, reference=reference, return_details=True)
        assert found.w.dtype == found.contrast.dtype == torch.float64
        if tolerance:
            assert (found.residual[~found.already_correct] <= tolerance).all()
    if net == torch.float64:
        conv = ConvNet().double().eval()
        images = torch.rand(4, 3, 8, 8, dtype=torch.float64)
        for layer in ("head", "backbone.2"):
            for options in ({}, {"channelwise": layer != "head"}):
                w = NeuronCounterfactual(conv, layer, solver=FAST).attribute(images, 1, **options)
                assert w.dtype == torch.float64
                assert not torch.equal(w, w.float().double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_solved_in_float32(dtype):
    head, features = nn.Linear(5, 3), torch.rand(6, 5).to(dtype)
    half = nn.Linear(5, 3).to(dtype)
    half.load_state_dict(head.state_dict())
    w = NeuronCounterfactual(half, half).attribute_features(features, 1)
    rounded = nn.Linear(5, 3)
    rounded.load_state_dict(half.state_dict())
    assert w.dtype == torch.float32
    expected = NeuronCounterfactual(rounded, rounded).attribute_features(features.float(), 1)
    torch.testing.assert_close(w, expected)


def test_layers_without_a_row_for_each_sample_are_refused():
    class Folded(nn.Module):
        """Windows of each sample side by side in the batch, as in a Swin's attention."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(2, 2), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.inner(x.reshape(-1, 2)).reshape(-1, 4))

    net = Folded()
    with left_unchanged(net), pytest.raises(ValueError, match=r"shape \(12, 2\) for 6 sample\(s\)"):
        NeuronCounterfactual(net, "inner").attribute(torch.rand(6, 4), 0)
