"""Which epoch is kept, and that the original always competes."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import pytest
import torch
from edit_arguments import arguments
from helpers import feature_set, linear, nudged
from torch import nn

from captum_neuroinspect import edit_head
from captum_neuroinspect.edit._epoch_choice import Judge

RULES = ("accuracy", "min_class", "group", "target")


def _logits(*predictions):
    return torch.eye(3)[list(predictions)]


@pytest.fixture
def six():
    """Two samples a class; the original is right on 0 0 1 - - 2."""
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    data = feature_set(nn.Linear(2, 3), torch.rand(6, 2), labels, torch.tensor([0, 1, 0, 1, 0, 1]))
    return data, _logits(0, 0, 1, 0, 0, 2)


@pytest.mark.parametrize(
    ("select", "score", "tie"),
    [
        ("accuracy", 5 / 6, 0.0),
        ("min_class", 0.5, 5 / 6),
        ("group", 2 / 3, 5 / 6),
        ("target", 1.0, 3 / 4),
    ],
)
def test_judge_scores_by_hand(six, select, score, tie):
    """Right on 0 0 1 1 - 2: class 2 half, group 0 (samples 0, 2, 4) two of three."""
    data, original = six
    verdict = Judge(data, [1], select, 0.0, original)(_logits(0, 0, 1, 1, 0, 2))
    assert verdict.accuracy == pytest.approx(5 / 6)
    assert verdict.target_accuracy == 1.0
    assert (verdict.score, verdict.tie) == pytest.approx((score, tie))


@pytest.mark.parametrize(("max_cost", "is_allowed"), [(0.24, False), (0.25, True), (0.3, True)])
def test_judge_caps_the_cost_of_the_target(six, max_cost, is_allowed):
    """Others were right on 3 of 4, now on 2 of 4: a cost of exactly .25."""
    data, original = six
    verdict = Judge(data, [1], "target", max_cost, original)(_logits(0, 1, 1, 1, 1, 2))
    assert verdict.score == (1.0 if is_allowed else -math.inf)


def test_judge_takes_the_mean_of_many_targets(six):
    data, original = six
    judge = Judge(data, [1, 2], "target", 0.0, original)
    assert judge.original.score == pytest.approx(0.5)
    assert judge(_logits(0, 0, 1, 1, 0, 2)).score == pytest.approx(0.75)


def test_judge_refuses_sets_without_what_it_looks_at(six):
    data, original = six
    with pytest.raises(ValueError, match="select='group' needs groups in validation"):
        Judge(replace(data, groups=None), [1], "group", 0.0, original)
    without = data.subset(data.labels != 1)
    with pytest.raises(ValueError, match="select='target' needs samples of the target"):
        Judge(without, [1], "target", 0.0, original[data.labels != 1])


def _wrongly_labelled():
    """Training pulls every sample to another class than validation's."""
    head = linear(torch.eye(3) * 4)
    labels = torch.arange(30) % 3
    features = torch.eye(3)[labels] + 0.1 * torch.rand(30, 3)
    groups = labels.clone()
    train = feature_set(head, features, (labels + 1) % 3, groups)
    return head, train, feature_set(head, features, labels, groups)


@pytest.mark.parametrize("select", RULES)
def test_edit_head_returns_the_original_when_all_epochs_are_worse(select):
    head, train, validation = _wrongly_labelled()
    options = dict(target=0, neurons=[1], lr=5.0, batch_size=30, n_epochs=3, select=select)
    with pytest.warns(RuntimeWarning, match=f"worse than the original head by select='{select}'"):
        edit = edit_head(head, train, validation, **arguments(**options))
    assert edit.method.best_epoch == 0
    assert len(edit.method.history) == 3
    assert torch.equal(edit.head.weight, head.weight)
    assert edit.before == edit.after


@pytest.mark.parametrize("select", RULES)
def test_edit_head_never_scores_below_the_original(select):
    """Over random problems: by its own rule the result is as good or better."""
    for seed in range(6):
        rng = torch.Generator().manual_seed(seed)
        head = nn.Linear(5, 3)
        features = torch.rand(60, 5, generator=rng)
        labels = torch.randint(0, 3, (60,), generator=rng)
        groups = torch.randint(0, 2, (60,), generator=rng)
        data = feature_set(head, features, labels, groups)
        options = dict(target=0, neurons=[1, 2], lr=0.1, n_epochs=4, select=select)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            edit = edit_head(head, nudged(data), data, **options)
        judge = Judge(data, [0], select, 0.005, data.logits)
        after = judge(data.with_head(edit.head).logits)
        assert after.score >= judge.original.score
        if edit.method.best_epoch:
            record = edit.method.history[edit.method.best_epoch - 1]
            assert record.score == pytest.approx(after.score)
            assert record.score == max(r.score for r in edit.method.history)


def test_edit_head_keeps_an_edit_that_is_as_good():
    """An equal score is not worse: the edit has what it was made for."""
    head, _, validation = _wrongly_labelled()
    edit = edit_head(head, nudged(validation), validation, target=0, neurons=[1], n_epochs=2)
    assert edit.before.accuracy == edit.after.accuracy == 1.0
    assert edit.method.best_epoch == 1
