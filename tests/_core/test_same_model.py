"""Sets that are known to be of other models do not mix, whoever made them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import feature_set
from torch import nn

from captum_neuroinspect import rank_neurons
from captum_neuroinspect.analysis import explain_mistakes
from captum_neuroinspect.attr import cue_direction
from captum_neuroinspect.edit.baselines import AutomaticFeatureReweighting


@pytest.fixture
def sets():
    torch.manual_seed(0)
    head, z, labels = nn.Linear(4, 3), torch.randn(60, 4), torch.arange(60) % 3
    whole = feature_set(head, z, labels)
    one, other = (
        replace(part, backbone_fingerprint=name, head_fingerprint=None)
        for part, name in zip(whole.split(0.5), ("a", "b"), strict=True)
    )
    return head, one, other


def test_features_of_two_backbones_are_refused(sets):
    head, one, other = sets
    mistakes = one.mistakes()
    message = "the sets come from different backbones"
    with pytest.raises(ValueError, match=message):
        explain_mistakes(head, one, other, target=int(mistakes.labels[0]))
    with pytest.raises(ValueError, match=message):
        rank_neurons(torch.ones(len(mistakes), 4), features=mistakes, reference=other)
    with pytest.raises(ValueError, match=message):
        cue_direction(mistakes, other)
    with pytest.raises(ValueError, match=message):
        AutomaticFeatureReweighting()(head, one, other, target=0, neurons=[])


def test_where_one_is_unknown_nothing_is_said(sets):
    head, one, other = sets
    unknown = replace(other, backbone_fingerprint=None)
    target = int(one.mistakes().labels[0])
    assert len(explain_mistakes(head, one, unknown, target=target).mistakes)


def test_mistakes_of_another_head_are_not_explained(sets):
    head, one, _ = sets
    theirs = one.with_head(nn.Linear(4, 3))
    target = int(theirs.mistakes().labels[0])
    with pytest.raises(ValueError, match="features was judged by another head"):
        explain_mistakes(head, theirs, target=target)
