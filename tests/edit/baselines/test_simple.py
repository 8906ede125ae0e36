from __future__ import annotations

import pytest
import torch
from helpers import feature_set, linear
from torch import nn

from captum_neuroinspect.edit.baselines import Budget, Retraining, Unchanged, Zeroing


@pytest.fixture
def problem():
    head, z = nn.Linear(5, 3), torch.rand(12, 5)
    return head, feature_set(head, z, torch.arange(12) % 3)


def test_unchanged_is_a_copy(problem):
    head, data = problem
    same = Unchanged()(head, data, data, target=0, neurons=[])
    assert torch.equal(same.weight, head.weight)
    assert torch.equal(same.bias, head.bias)
    assert same.weight.data_ptr() != head.weight.data_ptr()


def test_retraining_continues_from_the_weights(problem):
    """With a tiny step the new head is next to the old one."""
    head, data = problem
    new = Retraining(Budget(lr=1e-6))(head, data, data, target=0, neurons=[])
    torch.testing.assert_close(new.weight, head.weight.detach(), atol=1e-4, rtol=0)
    assert not torch.equal(new.weight, head.weight)


def test_zeroing_for_all_classes_is_masking_the_features(problem):
    head, data = problem
    new = Zeroing("all")(head, data, data, target=0, neurons=[1, 4])
    masked = data.features.clone()
    masked[:, [1, 4]] = 0
    torch.testing.assert_close(data.with_head(new).logits, head(masked).detach())


def test_zeroing_for_the_target_leaves_the_other_logits(problem):
    head, data = problem
    new = Zeroing("target")(head, data, data, target=2, neurons=[1, 4])
    before, after = data.logits, data.with_head(new).logits
    torch.testing.assert_close(after[:, :2], before[:, :2])
    share = data.features[:, [1, 4]] @ head.weight.detach()[2, [1, 4]]
    torch.testing.assert_close(after[:, 2], before[:, 2] - share)


def test_zeroing_takes_away_a_cue():
    """By hand: class 0 is told by neuron 0, and wrongly by neuron 1."""
    head = linear([[1.0, 4.0], [0.0, 0.0]], [0.0, 0.5])
    data = feature_set(head, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), [0, 1])
    assert data.accuracy() == 0.5
    new = Zeroing()(head, data, data, target=0, neurons=[1])
    assert data.with_head(new).accuracy() == 1


def test_zeroing_refuses_another_scope():
    with pytest.raises(ValueError, match="scope='row', expected 'all' or 'target'"):
        Zeroing("row")
