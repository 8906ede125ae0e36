from __future__ import annotations

import pytest
import torch
from helpers import feature_set, linear
from torch import nn

from captum_neuroinspect.edit.baselines import (
    Budget,
    ClassWeighting,
    JustTrainTwice,
    Retraining,
    class_weights,
)

BUDGET = Budget(n_epochs=3, lr=0.01)


def _train(method, head, data, **options):
    return method(head, data, data, **({"target": 0, "neurons": []} | options))


@pytest.fixture
def balanced():
    head = nn.Linear(5, 3)
    return head, feature_set(head, torch.rand(30, 5), torch.arange(30) % 3)


# --- class weighting -----------------------------------------------------------------


def test_class_weights_give_each_class_the_same_sum():
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = class_weights(labels, 5)
    sums = torch.zeros(5).index_add_(0, labels, weights[labels])
    torch.testing.assert_close(sums, torch.tensor([10 / 3, 10 / 3, 0, 10 / 3, 0]))
    assert weights[[2, 4]].tolist() == [0, 0]


def test_class_weighting_of_balanced_data_is_plain_retraining(balanced):
    weighted, plain = (_train(m(budget=BUDGET), *balanced) for m in (ClassWeighting, Retraining))
    assert torch.equal(weighted.weight, plain.weight)
    assert torch.equal(weighted.bias, plain.bias)


def test_class_weighting_helps_the_rare_class():
    """Overlapping classes, 19 to 1: plain training gives the rare one up."""
    head = linear([[0.0], [0.0]], [1.0, 0.0])
    z = torch.cat([torch.linspace(0, 1, 190), torch.linspace(0.6, 1.6, 10)])[:, None]
    data = feature_set(head, z, [0] * 190 + [1] * 10)
    budget = Budget(lr=0.05, patience=20)
    plain, weighted = (_train(m(budget=budget), head, data) for m in (Retraining, ClassWeighting))
    assert data.with_head(weighted).class_accuracy()[1] > data.with_head(plain).class_accuracy()[1]


def test_class_weighting_upweights_the_target(balanced):
    """A factor of 3 is each of the target's samples written down three times."""
    head, data = balanced
    budget = Budget(n_epochs=3, batch_size=100, lr=0.05)
    rows = torch.arange(30).repeat_interleave(torch.tensor([3, 1, 1]).repeat(10))
    weighted = _train(ClassWeighting(3, budget), head, data)
    plain = Retraining(budget)(head, data.subset(rows), data, target=0, neurons=[])
    torch.testing.assert_close(weighted.weight, plain.weight)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_class_weighting_refuses(factor):
    with pytest.raises(ValueError, match=r"target_factor=.*, expected a positive number"):
        ClassWeighting(factor)


# --- JTT -----------------------------------------------------------------------------


def test_jtt_without_mistakes_is_plain_retraining():
    head, z = nn.Linear(5, 3), torch.rand(30, 5)
    data = feature_set(head, z, head(z).argmax(1))
    assert data.accuracy() == 1
    jtt, plain = (_train(m(budget=BUDGET), head, data) for m in (JustTrainTwice, Retraining))
    assert torch.equal(jtt.weight, plain.weight)


def test_jtt_with_factor_1_is_plain_retraining(balanced):
    head, data = balanced
    options = {"mistakes": data.mistakes()}
    jtt = _train(JustTrainTwice(1, BUDGET), head, data, **options)
    assert torch.equal(jtt.weight, _train(Retraining(BUDGET), head, data, **options).weight)


@pytest.mark.parametrize("given", [False, True])
def test_jtt_is_training_with_repeated_mistakes(given):
    """One full-batch step on weights equals one on samples written down several times."""
    head = linear(torch.eye(3), torch.zeros(3))
    train = feature_set(head, torch.eye(3), [0, 1, 0])
    # What the user gives counts, even if this head is right on it.
    mistakes = feature_set(head, torch.tensor([[0.2, 0.9, 0.1]]), [1]) if given else None
    rows = [0, 1, *[2] * 4] + ([3] * 4 if given else [])
    z = torch.cat([torch.eye(3), torch.tensor([[0.2, 0.9, 0.1]])])
    repeated = feature_set(head, z[rows], torch.tensor([0, 1, 0, 1])[rows])
    budget = Budget(n_epochs=1, batch_size=100, lr=0.1)
    jtt = _train(JustTrainTwice(4, budget), head, train, mistakes=mistakes)
    plain = _train(Retraining(budget), head, repeated)
    torch.testing.assert_close(jtt.weight, plain.weight)


@pytest.mark.parametrize("factor", [0.9, float("nan")])
def test_jtt_refuses(factor):
    with pytest.raises(ValueError, match=r"factor=.*, expected 1 or more"):
        JustTrainTwice(factor)
