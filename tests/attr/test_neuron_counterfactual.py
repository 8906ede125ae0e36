from __future__ import annotations

import pytest
import torch
from captum.attr import LayerAttribution, NoiseTunnel
from helpers import Boom, ConvNet, feature_set, hooks_of, left_unchanged
from torch import nn

from captum_neuroinspect import NeuronCounterfactual
from captum_neuroinspect.attr import SGD


@pytest.fixture
def net():
    return ConvNet().eval()


@pytest.fixture
def images():
    return torch.rand(6, 3, 8, 8)


LABELS = [0, 1, 2, 3, 0, 1]


def _features(net, images):
    with torch.no_grad():
        return net.backbone(images)


def test_attribute_is_a_change_that_mends_the_prediction(net, images):
    """w > 0 for what is missing, w < 0 for what is too much: z + w is judged right."""
    method = NeuronCounterfactual(net, net.head)
    w = method.attribute(images, LABELS)
    assert isinstance(method, LayerAttribution)
    assert w.shape == (6, 16)
    assert not w.requires_grad
    changed = net.head(_features(net, images) + w).argmax(1)
    assert changed.tolist() == LABELS
    right = net(images).argmax(1) == torch.tensor(LABELS)
    assert w[right].eq(0).all()
    assert w[~right].ne(0).any(1).all()


def test_attribute_equals_attribute_features(net, images):
    method = NeuronCounterfactual(net, net.head)
    with_backbone = method.attribute(images, LABELS)
    collected = method.attribute_features(_features(net, images), LABELS)
    torch.testing.assert_close(with_backbone, collected)


def test_attribute_batch_equals_singles(net, images):
    method = NeuronCounterfactual(net, net.head)
    batch = method.attribute(images, LABELS)
    singles = [method.attribute(images[i : i + 1], LABELS[i]) for i in range(6)]
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "target", [[2] * 6, (2,), [(2,)] * 6, torch.tensor(2), torch.tensor([2]), torch.full((6,), 2)]
)
def test_attribute_target_formats_agree(net, images, target):
    method = NeuronCounterfactual(net, net.head)
    assert torch.equal(method.attribute(images, target), method.attribute(images, 2))


def test_attribute_has_captums_wrapped_method(net, images):
    """NoiseTunnel and TCAV of Captum call the undecorated method."""
    method = NeuronCounterfactual(net, net.head)
    unwrapped = NeuronCounterfactual.attribute.__wrapped__(method, images, target=1)
    assert torch.equal(unwrapped, method.attribute(images, target=1))


def test_attribute_inside_captums_noise_tunnel(net, images):
    """Without noise the average of equal samples is the attribution itself."""
    method = NeuronCounterfactual(net, net.head)
    smooth = NoiseTunnel(method).attribute(images, nt_samples=2, stdevs=0.0, target=LABELS)
    torch.testing.assert_close(smooth, method.attribute(images, LABELS), atol=1e-6, rtol=1e-5)


def test_head_as_forward_func_and_layer(net, images):
    features = _features(net, images)
    alone = NeuronCounterfactual(net.head, net.head).attribute(features, LABELS)
    torch.testing.assert_close(alone, NeuronCounterfactual(net, net.head).attribute(images, LABELS))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, left, right, factor=1.0):
        return self.head(torch.relu(left - right) * factor)


def test_attribute_tuple_inputs_and_additional_arguments():
    net = TwoInputs()
    left, right = torch.rand(5, 4), torch.rand(5, 4) - 1
    method = NeuronCounterfactual(net, net.head)
    w = method.attribute((left, right), 1, additional_forward_args=3.0)
    expected = method.attribute_features(torch.relu(left - right) * 3, 1)
    assert torch.equal(w, expected)
    assert not torch.equal(w, method.attribute((left, right), 1))


def test_a_network_in_a_function_is_in_eval_mode_and_stays_as_it_was():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
    net, x = nn.Sequential(body, nn.Linear(8, 3)).train(), torch.rand(5, 6)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    around = NeuronCounterfactual(lambda x: net(x), net[1]).attribute(x, target=1)
    assert torch.equal(around, NeuronCounterfactual(net, net[1]).attribute(x, target=1))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_attribute_forward_func_may_be_a_function(net, images):
    method = NeuronCounterfactual(lambda x: net(x).softmax(1), net.head)
    expected = NeuronCounterfactual(net, net.head).attribute(images, LABELS)
    assert torch.equal(method.attribute(images, LABELS), expected)


@pytest.mark.parametrize("training", [False, True])
def test_attribute_leaves_the_model_unchanged(net, images, training):
    """Also in training mode: no dropout, and BatchNorm's statistics stay."""
    expected = NeuronCounterfactual(net, net.head).attribute(images, LABELS)
    net.train(training)
    method = NeuronCounterfactual(net, net.head)
    with left_unchanged(net):
        assert torch.equal(method.attribute(images, LABELS), expected)
    with left_unchanged(net), pytest.raises(ValueError, match="out of range"):
        method.attribute(images, 4)


@pytest.mark.parametrize("before_the_head", [True, False])
def test_attribute_unhooks_a_model_that_raises(net, images, before_the_head):
    class Fails(nn.Module):
        def forward(self, x):
            raise Boom

    whole = nn.Sequential(net.backbone, net.head)
    whole.insert(1 if before_the_head else 2, Fails())
    method = NeuronCounterfactual(whole, net.head)
    with left_unchanged(whole), pytest.raises(Boom):
        method.attribute(images, LABELS)
    assert not any(hooks for module in whole.modules() for hooks in hooks_of(module).values())


def test_attribute_features_details(net, images):
    method = NeuronCounterfactual(net, net.head)
    features = _features(net, images)
    details = method.attribute_features(features, LABELS, return_details=True)
    assert torch.equal(details.w, method.attribute_features(features, LABELS))
    assert details.converged.all()
    right = (net(images).argmax(1) == torch.tensor(LABELS)).tolist()
    assert details.already_correct.tolist() == right
    assert [steps == 0 for steps in details.n_steps.tolist()] == right


def test_attribute_features_takes_the_options(net, images):
    features = _features(net, images)
    short = NeuronCounterfactual(net, net.head, solver=SGD(max_steps=1))
    with pytest.warns(RuntimeWarning, match="4 of 5 samples that were wrong did not converge"):
        details = short.attribute_features(features, LABELS, return_details=True)
    assert details.n_steps.max() == 1
    assert not details.converged.all()


class Cosine(nn.Linear):
    """A subclass of Linear that is not linear: it normalises its features."""

    def forward(self, features):
        return super().forward(10 * nn.functional.normalize(features, dim=1))


def test_attribute_features_behind_a_linear_layer_that_is_not_linear():
    """The closed form would be wrong: the layer itself judges z + w."""
    head, features = Cosine(6, 4), torch.randn(20, 6)
    details = NeuronCounterfactual(head, head).attribute_features(features, 2, return_details=True)
    assert (~details.already_correct & details.converged).any()
    predicted = head(features + details.w).argmax(1)
    assert torch.equal(predicted == 2, details.converged)
    through_attribute = NeuronCounterfactual(head, head).attribute(
        features, 2, attribute_to_layer_input=True
    )
    torch.testing.assert_close(details.w, through_attribute)


def test_attribute_features_without_bias():
    head = nn.Linear(5, 3, bias=False)
    features = torch.rand(4, 5)
    w = NeuronCounterfactual(head, head).attribute_features(features, 1)
    assert head(features + w).argmax(1).tolist() == [1] * 4


@pytest.mark.parametrize(("signed", "expected"), [(False, True), (True, False)])
def test_attribute_features_is_feasible_when_no_feature_is_negative(signed, expected):
    net = ConvNet(signed=signed).eval()
    features = _features(net, torch.rand(8, 3, 8, 8))
    assert bool((features < 0).any()) is signed
    method = NeuronCounterfactual(net, net.head)
    details = method.attribute_features(features, 1, return_details=True)
    assert details.feasible.tolist() == [expected] * 8
    free = method.attribute_features(features, 1, feasible=False, return_details=True)
    assert not free.feasible.any()
    if expected:
        assert (features + details.w >= 0).all()
        assert (features + free.w < 0).any()  # else the constraint were no constraint


def test_attribute_features_moves_nothing_global(net, images):
    features = _features(net, images).requires_grad_()
    state = torch.get_rng_state()
    with left_unchanged(net):
        NeuronCounterfactual(net, net.head).attribute_features(features, LABELS)
    assert torch.equal(torch.get_rng_state(), state)
    assert features.grad is None


def test_attribute_features_progress_is_shown(net, images, capsys):
    method = NeuronCounterfactual(net, net.head)
    method.attribute(images, LABELS)
    assert capsys.readouterr().err == ""
    method.attribute(images, LABELS, progress=True)
    assert "counterfactual" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (None, ValueError, "target is missing: give the right class"),
        (4, ValueError, r"target=4 is out of range: expected 0..3 \(the network has 4 classes\)"),
        (-1, ValueError, "target=-1 is out of range"),
        ([0, 1, 2, 3, 0, 7], ValueError, "target=7 is out of range"),
        ([0, 1], ValueError, "target has 2 entries for 6 samples"),
        ([], ValueError, "target has 0 entries for 6 samples"),
        (1.0, TypeError, "target has dtype torch.float32, expected whole numbers"),
        (torch.rand(6), TypeError, "target has dtype torch.float32"),
    ],
)
def test_attribute_refuses_targets(net, images, target, error, message):
    method = NeuronCounterfactual(net, net.head)
    with left_unchanged(net), pytest.raises(error, match=message):
        method.attribute(images, target)


@pytest.mark.parametrize(
    ("features", "options", "error", "message"),
    [
        (torch.rand(2, 5), {}, ValueError, r"shape \(2, 5\), expected \(N, 16\)"),
        (torch.rand(16), {}, ValueError, r"shape \(16,\), expected \(N, 16\)"),
        (torch.empty(0, 16), {}, ValueError, "at least one sample"),
        (torch.full((1, 16), torch.nan), {}, ValueError, "features have NaN or infinite"),
        (torch.full((1, 16), torch.inf), {}, ValueError, "features have NaN or infinite"),
        (
            -torch.ones(1, 16),
            {"feasible": True},
            ValueError,
            "feasible=True but activations reach -1",
        ),
        ([[0.0] * 16], {}, TypeError, "features are list, expected a tensor"),
    ],
)
def test_attribute_features_refuses(net, features, options, error, message):
    with pytest.raises(error, match=message):
        NeuronCounterfactual(net, net.head).attribute_features(features, 1, **options)


def test_attribute_features_refuses_a_feature_set(net, images):
    collected = feature_set(net.head, _features(net, images), LABELS)
    with pytest.raises(TypeError, match=r"of a FeatureSet, its `\.features`"):
        NeuronCounterfactual(net, net.head).attribute_features(collected, LABELS)


def test_attribute_refuses_pixels_that_are_not_finite(net, images):
    images[2, 0, 3, 3] = torch.nan
    message = r"inputs of Linear have NaN or infinite values in 1 of 6 .* first in sample 2"
    with left_unchanged(net), pytest.raises(ValueError, match=message):
        NeuronCounterfactual(net, net.head).attribute(images, LABELS)
