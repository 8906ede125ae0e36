from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import feature_set, linear
from torch import nn

from captum_neuroinspect.edit.baselines import Budget
from captum_neuroinspect.edit.baselines.head_training import cross_entropy, retrained


def _reference_adam_steps(head, data, n_steps, lr, weights):
    """Full-batch weighted cross entropy by autograd on a module: another path to the same."""
    copy = nn.Linear(head.in_features, head.out_features)
    copy.load_state_dict(head.state_dict())
    optimizer = torch.optim.Adam(copy.parameters(), lr=lr)
    for _ in range(n_steps):
        optimizer.zero_grad()
        losses = F.cross_entropy(copy(data.features), data.labels, reduction="none")
        (losses * weights / weights.sum()).sum().backward()
        optimizer.step()
    return copy


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 5.0, 1.0, 1.0, 2.0, 3.0])])
def test_retrained_is_adam_on_weighted_cross_entropy(weights):
    head, z = nn.Linear(3, 2), torch.rand(6, 3)
    data = feature_set(head, z, [0, 1, 0, 1, 1, 0])
    budget = Budget(n_epochs=1, batch_size=6, lr=0.05)
    new = retrained(head, data, data, budget=budget, seed=0, sample_weights=weights)
    expected = _reference_adam_steps(
        head, data, 1, 0.05, torch.ones(6) if weights is None else weights
    )
    torch.testing.assert_close(new.weight, expected.weight.detach())
    torch.testing.assert_close(new.bias, expected.bias.detach())


def test_retrained_keeps_the_head_when_every_epoch_is_worse():
    """One step turns both predictions round; validation wants them as they were."""
    head = linear(0.01 * torch.eye(2), torch.zeros(2))
    train, validation = (feature_set(head, torch.eye(2), labels) for labels in ([1, 0], [0, 1]))
    new = retrained(head, train, validation, budget=Budget(lr=0.1), seed=0)
    assert new is not head
    assert torch.equal(new.weight, head.weight)


def test_retrained_keeps_the_best_validation_epoch():
    """Training pulls towards the wrong labels: the first epoch is the best, and kept."""
    head = linear(2 * torch.eye(2), torch.zeros(2))
    train, validation = (feature_set(head, torch.eye(2), labels) for labels in ([1, 0], [0, 1]))
    first, last = (
        retrained(head, train, validation, budget=Budget(n_epochs=n, lr=0.1, patience=30), seed=0)
        for n in (1, 30)
    )
    assert torch.equal(first.weight, last.weight)
    assert not torch.equal(first.weight, head.weight)
    assert validation.with_head(last).accuracy() == 1
    changed = retrained(head, train, train, budget=Budget(n_epochs=30, lr=0.1, patience=30), seed=0)
    assert train.with_head(changed).accuracy() == 1


def test_retrained_stops_by_patience():
    calls = []

    def counted(logits, labels):
        calls.append(len(labels))
        return cross_entropy(logits, labels)

    head = linear(2 * torch.eye(2), torch.zeros(2))
    data = feature_set(head, torch.eye(2), [0, 1])
    retrained(head, data, data, budget=Budget(patience=3), seed=0, sample_loss=counted)
    assert len(calls) == 4  # the first is right everywhere, three more bring nothing


def test_retrained_adds_the_penalty():
    """The third feature is always 0: only the penalty moves its coefficients."""
    head = linear(torch.ones(2, 3), torch.zeros(2))
    data = feature_set(head, torch.eye(3)[:2], [0, 1])
    new = retrained(
        head, data, data, budget=Budget(lr=0.01), seed=0, penalty=lambda z, w, b: w[0, 2] ** 2
    )
    assert new.weight[0, 2] < 0.995
    assert new.weight[1, 2] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_epochs": 0}, "n_epochs=0, expected at least 1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"patience": 0}, "patience=0"),
        ({"lr": 0.0}, "lr=0.0, expected a positive number"),
        ({"lr": float("nan")}, "lr=nan"),
    ],
)
def test_budget_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Budget(**options)
