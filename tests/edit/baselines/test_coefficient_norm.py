from __future__ import annotations

import pytest
import torch
from helpers import feature_set
from torch import nn

from captum_neuroinspect.edit.baselines import (
    Budget,
    CoefficientNorm,
    Retraining,
)


@pytest.fixture
def problem():
    head = nn.Linear(5, 3)
    return head, feature_set(head, torch.rand(30, 5), torch.arange(30) % 3)


def _trained(problem, method):
    head, data = problem
    return method(head, data, data, target=1, neurons=[0, 2]).weight


def test_coefficient_norm_without_strength_is_plain_retraining(problem):
    budget = Budget(n_epochs=3)
    kept = _trained(problem, CoefficientNorm(0, budget))
    assert torch.equal(kept, _trained(problem, Retraining(budget)))


def test_coefficient_norm_shrinks_the_coefficients(problem):
    budget = Budget(n_epochs=10, lr=0.02, patience=10)
    sizes = [
        _trained(problem, CoefficientNorm(strength, budget))[1, [0, 2]].norm()
        for strength in (0, 1)
    ]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("strength", [-1.0, float("nan")])
def test_coefficient_norm_refuses(strength):
    with pytest.raises(ValueError, match=r"strength=.*, expected 0 or more"):
        CoefficientNorm(strength)
