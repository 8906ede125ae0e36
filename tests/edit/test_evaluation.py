from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import feature_set, linear
from torch import nn

from captum_neuroinspect import FeatureSet, edit_head
from captum_neuroinspect.edit import Evaluation, calibration_error
from captum_neuroinspect.edit.evaluation import evaluate, shares_of_groups


def _sure(confidences, right):
    """Two classes; sample i predicts class 0 with this probability."""
    p = torch.tensor(confidences)
    logits = torch.stack([p, 1 - p], 1).log()
    return FeatureSet(torch.zeros(len(p), 1), logits, (~torch.tensor(right)).long())


def test_calibration_error_by_hand():
    """Bins of a tenth: {.55, .58}: half right; {.95}: right. |.5-.565|*2/3 + .05/3."""
    data = _sure([0.55, 0.58, 0.95], [True, False, True])
    assert calibration_error(data, 10) == pytest.approx(0.065 * 2 / 3 + 0.05 / 3, abs=1e-6)


def test_calibration_error_is_zero_when_confidence_is_accuracy():
    assert calibration_error(_sure([0.75] * 4, [True, True, True, False])) < 1e-6


def test_calibration_error_takes_confidence_one_into_the_last_bin():
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0]])
    data = FeatureSet(torch.zeros(2, 1), logits, torch.tensor([0, 1]))
    assert calibration_error(data) == pytest.approx(0.5)


def _reference_calibration_error(confidence, right, n_bins):
    """A loop over bins, closed above, as in Guo et al."""
    total, edges = 0.0, np.linspace(0, 1, n_bins + 1)
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("n_bins", [1, 15, 40])
def test_calibration_error_equals_a_loop_over_bins(n_bins):
    data = FeatureSet(torch.zeros(200, 1), 3 * torch.randn(200, 5), torch.randint(0, 5, (200,)))
    confidence = data.logits.double().softmax(1).amax(1).numpy()
    expected = _reference_calibration_error(confidence, data.is_correct.numpy(), n_bins)
    assert calibration_error(data, n_bins) == pytest.approx(expected, abs=1e-5)


def test_calibration_error_of_decisions():
    """Multi-hot: every decision has its own confidence; sure of .75, right on half."""
    logits = torch.full((1, 2), math.log(3.0))
    data = FeatureSet(torch.zeros(1, 1), logits, torch.tensor([[1, 0]]))
    assert calibration_error(data) == pytest.approx(0.25)
    one = FeatureSet(torch.zeros(2, 1), -logits.T, torch.tensor([0, 1]))
    assert calibration_error(one) == pytest.approx(0.25)


def test_calibration_error_edges():
    assert math.isnan(calibration_error(_sure([0.7], [True]).subset(torch.tensor([False]))))
    with pytest.raises(ValueError, match="n_bins=0"):
        calibration_error(_sure([0.7], [True]), 0)


def test_group_averages_by_hand():
    """Groups' accuracies 1, 1/2, 0; training shares 60, 30, 10 %: .75 against a plain .5."""
    labels, predictions = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 0, 0])
    groups = torch.tensor([0, 1, 1, 2, 2])
    head = linear(torch.eye(2))
    data = feature_set(head, torch.eye(2)[predictions], labels, groups)
    train = feature_set(
        head,
        torch.eye(2)[[0] * 10],
        [0] * 9 + [1],
        torch.tensor([0] * 6 + [1] * 3 + [2]),
    )
    shares = shares_of_groups(train)
    assert shares == pytest.approx((0.6, 0.3, 0.1))
    result = evaluate(head, data, {0: [0]}, group_shares=shares)
    assert result.accuracy == pytest.approx(2 / 5)
    assert result.group_accuracy == pytest.approx((1.0, 0.5, 0.0))
    assert result.adjusted_accuracy == pytest.approx(0.75)
    assert result.worst_group_accuracy == 0.0
    assert result.worst_class_accuracy == 0.0
    assert evaluate(head, data, {0: [0]}).adjusted_accuracy is None


def test_adjusted_accuracy_with_groups_that_only_one_set_has():
    head = linear(torch.eye(2))
    data = feature_set(head, torch.eye(2), [0, 1], torch.tensor([0, 1]))
    assert evaluate(head, data, {0: [0]}, group_shares=(1.0,)).adjusted_accuracy == 1.0
    assert math.isnan(
        evaluate(head, data, {0: [0]}, group_shares=(0.5, 0.0, 0.5)).adjusted_accuracy
    )
    skipped = evaluate(head, data, {0: [0]}, group_shares=(0.5, 0.5, 0.0)).adjusted_accuracy
    assert skipped == 1.0


def test_worst_of_nothing():
    empty = Evaluation(math.nan, (math.nan, math.nan), None, ())
    assert math.isnan(empty.worst_class_accuracy)
    assert empty.worst_group_accuracy is None


def test_edit_head_uses_the_groups_of_train():
    head = nn.Linear(3, 2)
    z, labels = torch.rand(40, 3), torch.arange(40) % 2
    train = feature_set(head, z, labels, (torch.arange(40) < 10).long())
    held = feature_set(head, torch.rand(20, 3), labels[:20], torch.arange(20) % 2)
    edit = edit_head(head, train, held, target=0, neurons=[1], n_epochs=2, lr=1e-5)
    assert edit.group_shares == pytest.approx((0.75, 0.25))
    for evaluation in (edit.before, edit.after, *edit.evaluate(held)):
        first, second = evaluation.group_accuracy
        assert evaluation.adjusted_accuracy == pytest.approx(0.75 * first + 0.25 * second)
