"""CON against equation (9) of the authors' code, written out in float64."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import feature_set, nudged
from torch import nn

from captum_neuroinspect.edit.baselines import CON, Budget, Retraining


@pytest.fixture
def problem():
    rng = torch.Generator().manual_seed(5)
    head = nn.Linear(5, 3)
    with torch.no_grad():
        head.weight.copy_(torch.randn(3, 5, generator=rng))
    return head, feature_set(head, torch.rand(30, 5, generator=rng), torch.arange(30) % 3)


def _trained(problem, method, neurons=(0, 2)):
    head, data = problem
    easy = nudged(data.correct().subset(torch.tensor([0])))  # no small change can be worse on it
    return method(head, data, easy, target=1, neurons=list(neurons))


def test_con_without_strength_is_plain_retraining(problem):
    budget = Budget(n_epochs=3)
    con = _trained(problem, CON(0, budget)).weight
    assert torch.equal(con, _trained(problem, Retraining(budget)).weight)


def test_con_makes_the_step_of_the_written_out_loss(problem):
    head, data = problem
    found = _trained(problem, CON(3, Budget(n_epochs=1, batch_size=30, lr=0.01)))
    layer = copy.deepcopy(head).double()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    z = data.features.double()
    penalty = 0.0
    for row in z:
        square = 0.0
        for j in (0, 2):
            share = layer.weight[1, j] * row[j] + layer.bias[1]
            square = square + share.clamp(min=0) ** 2
        penalty = penalty + square.sqrt() / len(z)
    (F.cross_entropy(layer(z), data.labels) + 3 * penalty).backward()
    optimizer.step()
    torch.testing.assert_close(found.weight.double(), layer.weight.data, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.bias.double(), layer.bias.data, atol=1e-6, rtol=0)


@pytest.mark.parametrize("strength", [-1.0, float("nan")])
def test_con_refuses(strength):
    with pytest.raises(ValueError, match=r"strength=.*, expected 0 or more"):
        CON(strength)
