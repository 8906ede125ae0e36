from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import feature_set
from torch import nn

from captum_neuroinspect.edit.baselines import Budget, FocalLoss, Retraining, focal_loss


def test_focal_loss_without_gamma_is_cross_entropy():
    logits, labels = 3 * torch.randn(20, 4), torch.randint(0, 4, (20,))
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0), expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_by_hand(gamma):
    """Two classes, p = 0.8 for the label."""
    logits = torch.tensor([[math.log(0.8), math.log(0.2)]])
    value = focal_loss(logits, torch.tensor([0]), gamma)
    assert value.item() == pytest.approx(-(0.2**gamma) * math.log(0.8), rel=1e-4)


def test_focal_loss_weakens_what_is_right():
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    labels = torch.tensor([0, 0])
    share = focal_loss(logits, labels) / F.cross_entropy(logits, labels, reduction="none")
    assert share[0] < 0.01
    assert share[1] > 0.9


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_has_a_finite_gradient_where_p_is_1(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0, 0]), gamma).sum().backward()
    assert logits.grad.isfinite().all()


def test_focal_training_without_gamma_is_plain_retraining():
    head = nn.Linear(5, 3)
    data = feature_set(head, torch.rand(30, 5), torch.arange(30) % 3)
    budget = Budget(n_epochs=3)
    focal, plain = (
        method(head, data, data, target=0, neurons=[])
        for method in (FocalLoss(0, budget), Retraining(budget))
    )
    torch.testing.assert_close(focal.weight, plain.weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gamma", [-1.0, float("nan")])
def test_focal_refuses(gamma):
    with pytest.raises(ValueError, match=r"gamma=.*, expected 0 or more"):
        FocalLoss(gamma)
