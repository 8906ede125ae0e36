"""Networks with one output, a sigmoid's logit: it decides between the classes 0 and 1."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import feature_set, left_unchanged, linear
from torch import nn

from captum_neuroinspect import NeuronCounterfactual, rank_neurons
from captum_neuroinspect.attr import FISTA, SGD, ElasticNet, Reference

SOLVERS = pytest.mark.parametrize("solver", [SGD(), SGD(lr=0.1), FISTA()])


@pytest.fixture
def head():
    head = nn.Linear(6, 1)
    head.weight.data *= 3
    return head


@pytest.fixture
def features(head):
    """About half of each side."""
    z = torch.rand(40, 6)
    head.bias.data -= head(z).median() + 0.01
    return z


def _two_outputs(head):
    """The same decision with two: the logit of class 0 is 0."""
    return linear(
        torch.cat([torch.zeros(1, 6), head.weight.data]),
        torch.cat([torch.zeros(1), head.bias.data]),
    )


def _reference_descent(head, z, label, feasible):
    """Binary cross entropy by autograd and torch's SGD, one sample at a time."""
    w = torch.zeros_like(z, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.01, momentum=0.9)
    for _ in range(2000):
        logit = head(z + w)[0]
        if bool(logit > 0) == bool(label):
            break
        norms = (0.1 * w.abs().sum() + 0.01 * w.norm()) / len(z)
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(logit, torch.tensor(float(label)))
        (loss + norms).backward()
        optimizer.step()
        if feasible:
            w.data = torch.maximum(w.data, -z)
    return w.detach()


@pytest.mark.parametrize("feasible", [True, False])
def test_it_is_the_descent_on_the_binary_cross_entropy(head, features, feasible):
    labels = torch.arange(40) % 2
    w = NeuronCounterfactual(head, head).attribute_features(features, labels, feasible=feasible)
    expected = [
        _reference_descent(head, z, y, feasible) for z, y in zip(features, labels, strict=True)
    ]
    torch.testing.assert_close(w, torch.stack(expected), atol=1e-5, rtol=1e-4)


@SOLVERS
@pytest.mark.parametrize("label", [0, 1])
def test_target_1_raises_the_logit_and_0_lowers_it(head, features, label, solver):
    said = (head(features) > 0).long().flatten()
    method = NeuronCounterfactual(head, head, solver=solver)
    found = method.attribute_features(features, label, return_details=True)
    assert torch.equal(found.already_correct, said == label)
    assert found.converged.all()
    before, after = head(features).flatten(), head(features + found.w).flatten()
    wrong = said != label
    assert wrong.sum() > 5
    assert ((after > before) if label else (after < before))[wrong].all()
    assert torch.equal((after > 0).long(), torch.full((40,), label))
    assert found.w[~wrong].eq(0).all()


@SOLVERS
def test_it_equals_a_head_with_two_outputs(head, features, solver):
    """Softmax over 0 and the logit is the sigmoid of the logit."""
    labels, two = torch.arange(40) % 2, _two_outputs(head)
    for penalty in (ElasticNet(), ElasticNet(scaling="paper")):
        one, other = (
            NeuronCounterfactual(h, h, solver=solver, penalty=penalty).attribute_features(
                features, labels
            )
            for h in (head, two)
        )
        torch.testing.assert_close(one, other)


class Net(nn.Module):
    def __init__(self, head, end=lambda logit: logit) -> None:
        super().__init__()
        self.first, self.relu, self.head, self.end = nn.Linear(6, 6), nn.ReLU(), head, end

    def forward(self, x):
        return self.end(self.head(self.relu(self.first(x))))


@pytest.mark.parametrize(
    "end", [lambda logit: logit, lambda logit: logit.squeeze(1), lambda logit: logit[:, 0]]
)
@pytest.mark.parametrize("layer", ["head", "relu", "first"])
def test_any_layer_and_either_shape_of_the_output(head, features, end, layer):
    """Outputs (N, 1) and (N,); behind the ReLU the changes are those of the head."""
    net, labels = Net(head, end), torch.arange(40) % 2
    head.bias.data -= head(net.relu(net.first(features))).median() + 0.01  # none at the border
    found = NeuronCounterfactual(net, layer).attribute(features, labels, return_details=True)
    said = (net(features).flatten() > 0).long()
    assert torch.equal(found.already_correct, said == labels)
    assert found.converged.all()
    if layer != "first":
        z = net.relu(net.first(features)).detach()
        expected = NeuronCounterfactual(head, head).attribute_features(z, labels)
        torch.testing.assert_close(found.w, expected, atol=1e-4, rtol=1e-3)


def test_a_sigmoid_after_the_head_is_seen_through(head, features):
    net, labels = Net(head, torch.sigmoid), torch.arange(40) % 2
    w = NeuronCounterfactual(net, "head").attribute(features, labels)
    z = net.relu(net.first(features)).detach()
    torch.testing.assert_close(w, NeuronCounterfactual(head, head).attribute_features(z, labels))
    assert net(features).gt(0.5).any()


@pytest.mark.parametrize(
    "end",
    [
        torch.sigmoid,
        lambda logit: logit.sigmoid().squeeze(1),
        lambda logit: logit.double().sigmoid()[:, 0],
        nn.Sigmoid(),
    ],
)
def test_a_probability_is_not_taken_for_a_logit(head, features, end):
    """It is always above 0: class 1 would be right everywhere, and class 0 nowhere."""
    net = Net(head, end)
    for label in (0, 1):
        with (
            left_unchanged(net),
            pytest.raises(ValueError, match="single output is the probability that a sigmoid"),
        ):
            NeuronCounterfactual(net, "relu").attribute(features, label)


@pytest.mark.parametrize("target", [2, -1, [0] * 39 + [2]])
def test_other_targets_are_refused(head, features, target):
    message = r"target=-?\d is out of range: expected 0..1 \(one output decides between two classe"
    with pytest.raises(ValueError, match=message):
        NeuronCounterfactual(head, head).attribute_features(features, target)
    net = Net(head)
    with pytest.raises(ValueError, match=message):
        NeuronCounterfactual(net, "relu").attribute(features, target)


def test_dense_single_outputs(features):
    """(N, 1, H, W) and a tuple (label, row, column), as for several classes."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh(), nn.Conv2d(4, 1, 1))
    images = torch.randn(5, 3, 4, 4)
    method = NeuronCounterfactual(net, "1", solver=SGD(lr=0.1))
    labels = 1 - (net(images)[:, 0, 2, 3] > 0).long()
    target = [(int(label), 2, 3) for label in labels]
    found = method.attribute(images, target, return_details=True)
    assert found.converged.all()
    assert not found.already_correct.any()
    assert found.w.ne(0).flatten(2).any(1).nonzero()[:, 1].unique().tolist() == [2 * 4 + 3]


def test_rankings_and_references_with_the_labels_0_and_1(head, features):
    """Levels are those of each label, and what moves the logit up ranks as it should."""
    labels = (head(features).flatten() > 0).long()
    labels[::3] = 1 - labels[::3]
    data = feature_set(head, features, labels)
    reference, wrong = Reference.of(data), data.mistakes()
    assert reference.level.shape == (2, 6)
    torch.testing.assert_close(reference.level[0], data.correct(0).features.mean(0))
    for label in (0, 1):
        missed = wrong.subset(wrong.labels == label)
        w = NeuronCounterfactual(head, head).attribute_features(missed.features, label)
        ranking = rank_neurons(w, k=6)
        weights = head.weight[0] * (1 if label else -1)
        assert all(weights[j] > 0 for j in ranking.insufficient.neurons)
        assert all(weights[j] < 0 for j in ranking.excessive.neurons)
        assert ranking.insufficient.neurons
        contrasted = rank_neurons(w, k=6, features=missed, reference=data)
        by_hand = Reference.of(data.correct(label).features).contrast(w, missed.features)
        usual = Reference.of(data, effect=0.25).contrast(w, missed.features, missed.labels)
        assert usual.sign().equal(by_hand.sign())
        assert contrasted.n_mistakes == len(missed)
