from __future__ import annotations

import pytest
import torch
from helpers import feature_set, linear
from torch import nn

from captum_neuroinspect.edit.baselines import (
    SpuriousDirectionRemoval,
    without_spurious_direction,
)

TARGET, NEURONS = 1, [0, 2, 3]


@pytest.fixture
def problem():
    head, z = nn.Linear(5, 3), torch.rand(30, 5)
    labels = torch.arange(30) % 3
    z[labels == TARGET, 2] += 1
    return head, feature_set(head, z, labels)


def _removed(head, data, neurons=NEURONS, centre="all"):
    return SpuriousDirectionRemoval(centre)(head, data, data, target=TARGET, neurons=neurons)


@pytest.mark.parametrize("centre", ["all", "class"])
def test_removal_is_the_formula_sample_by_sample(problem, centre):
    head, data = problem
    psi = (data.features * head.weight[TARGET].detach())[:, NEURONS]
    means = {"all": psi.mean(0), "class": psi[data.labels == TARGET].mean(0)}
    direction = means["class"] - means["all"]
    direction = direction / direction.norm()
    alpha = direction.sum() * ((psi - means[centre]) @ direction)
    after = data.with_head(_removed(head, data, centre=centre)).logits
    torch.testing.assert_close(after[:, TARGET], data.logits[:, TARGET] - alpha)
    others = [0, 2]
    torch.testing.assert_close(after[:, others], data.logits[:, others])


def test_removal_takes_away_what_the_neurons_give_the_class_on_average(problem):
    """At the class mean all of their excess goes, at the mean of all data nothing does."""
    head, data = problem
    new = _removed(head, data)
    overall = data.features.mean(0)
    of_class = data.features[data.labels == TARGET].mean(0)
    excess = (head.weight[TARGET] * (of_class - overall))[NEURONS].sum()
    torch.testing.assert_close(new(overall), head(overall).detach())
    torch.testing.assert_close((head(of_class) - new(of_class)).detach()[TARGET], excess.detach())


def test_removal_of_one_neuron_zeroes_its_coefficient_and_keeps_its_mean(problem):
    head, data = problem
    new = _removed(head, data, [2])
    assert new.weight[TARGET, 2] == 0
    expected = head.bias[TARGET] + head.weight[TARGET, 2] * data.features[:, 2].mean()
    torch.testing.assert_close(new.bias[TARGET], expected.detach())


def test_removal_changes_nothing_when_the_class_is_like_all():
    head = nn.Linear(2, 2)
    data = feature_set(head, torch.ones(4, 2), [0, 1, 0, 1])
    new = _removed(head, data, [0, 1])
    torch.testing.assert_close(new.weight, head.weight.detach())
    torch.testing.assert_close(new.bias, head.bias.detach())


def test_removal_refuses_another_centre():
    with pytest.raises(ValueError, match="centre='median', expected 'all' or 'class'"):
        SpuriousDirectionRemoval("median")


def test_removal_refuses_a_class_without_samples():
    head = linear(torch.eye(2), torch.zeros(2))
    data = feature_set(head, torch.eye(2), [0, 0])
    weight, bias = head.weight.detach(), head.bias.detach()
    with pytest.raises(ValueError, match="target=1 has no sample in train"):
        without_spurious_direction(weight, bias, data, 1, torch.tensor([0]))
