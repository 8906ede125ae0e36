from __future__ import annotations

import math

import pytest
import torch
from helpers import feature_set, left_unchanged, linear
from torch import nn

from captum_neuroinspect import rank_neurons
from captum_neuroinspect.attr import NeuronRanking, importance, neuron_importance
from captum_neuroinspect.edit import probability_ratio

HEAD = linear([[2.0, 0.0, 1.0], [0.0, 2.0, 0.0], [0.0, 0.5, 2.0]])
MEAN = [0.5, 1.5, 1.0]


def _probability(z, target):
    powers = [math.exp(sum(w * x for w, x in zip(row, z, strict=True))) for row in ROWS]
    return powers[target] / sum(powers)


ROWS = HEAD.weight.double().tolist()


@pytest.mark.parametrize("target", [0, 1, 2])
def test_it_is_equation_7_neuron_by_neuron(target):
    with left_unchanged(HEAD):
        found = neuron_importance(HEAD, torch.tensor(MEAN), target)
    whole = _probability(MEAN, target)
    for j in range(3):
        masked = [0.0 if i == j else x for i, x in enumerate(MEAN)]
        assert found[j].item() == pytest.approx(whole / _probability(masked, target), rel=1e-6)
        ratio = probability_ratio(HEAD, torch.tensor([MEAN]), j, target)
        assert found[j].item() == pytest.approx(ratio.item(), rel=1e-5)


def test_a_set_stands_for_the_mean_of_its_right_samples():
    features = torch.rand(60, 3) + torch.eye(3)[torch.arange(60) % 3]
    data = feature_set(HEAD, features, torch.arange(60) % 3)
    assert 0 < len(data.mistakes(1)) < 20
    mean = data.correct(1).features.double().mean(0)
    assert torch.equal(neuron_importance(HEAD, data, 1), neuron_importance(HEAD, mean, 1))


def test_parts_equal_the_whole(monkeypatch):
    head, mean = nn.Linear(11, 4), torch.rand(11)
    whole = neuron_importance(head, mean, 3)
    monkeypatch.setattr(importance, "_ENTRIES", 4 * 3)
    torch.testing.assert_close(neuron_importance(head, mean, 3), whole)


def test_a_single_output_decides_between_two_classes():
    head = linear([[1.0, -2.0]])
    found = [neuron_importance(head, torch.tensor([1.0, 0.5]), c)[0].item() for c in (0, 1)]
    sigmoid = [1 / (1 + math.exp(-x)) for x in (0.0, -1.0)]  # with neuron 0 and without it
    assert found[1] == pytest.approx(sigmoid[0] / sigmoid[1])
    assert found[0] == pytest.approx((1 - sigmoid[0]) / (1 - sigmoid[1]))


def test_multi_hot_labels_are_decisions_of_their_own():
    data = feature_set(HEAD, torch.rand(20, 3), torch.ones(20, 3, dtype=torch.int64))
    mean = data.correct(1).features.double().mean(0)
    expected = neuron_importance(HEAD, mean, 1, link="sigmoid")
    assert torch.equal(neuron_importance(HEAD, data, 1), expected)


def test_a_large_ratio_does_not_overflow():
    head = linear([[300.0, 0.0], [0.0, 300.0]])
    assert neuron_importance(head, torch.ones(2), 0).isfinite().all()


def test_a_ranking_lists_it():
    w = torch.tensor([[0.9, -0.3, 0.0], [0.8, -0.2, 0.0]])
    found = rank_neurons(w, k=1, importance=torch.tensor([1.25, 0.5, 3.0]))
    assert (found.insufficient.importance, found.excessive.importance) == ((1.25,), (0.5,))
    assert [row["importance"] for row in found.rows()] == [1.25, 0.5]
    lines = str(found).splitlines()
    assert lines[1].split() == ["kind", "rank", "neuron", "precision", "magnitude", "importance"]
    assert lines[2].split()[-1] == "1.25"
    assert "<th>importance</th>" in found._repr_html_()
    assert isinstance(found, NeuronRanking)
    without = rank_neurons(w, k=1)
    assert without.insufficient.importance == ()
    assert "importance" not in str(without) + without._repr_html_()
    assert "importance" not in without.rows()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((HEAD, torch.rand(3), 3), r"target=3 is out of range: expected 0..2"),
        ((HEAD, torch.rand(4), 0), r"features give a mean \(4,\), expected \(3,\)"),
        ((HEAD, torch.rand(2, 3), 0), r"features give a mean \(2, 3\), expected \(3,\)"),
    ],
)
def test_it_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        neuron_importance(*arguments)


def test_it_refuses_other_links_features_and_values():
    with pytest.raises(ValueError, match="link='logit', expected one of"):
        neuron_importance(HEAD, torch.rand(3), 0, link="logit")
    with pytest.raises(ValueError, match=r"target=\[0, 1\], expected one class"):
        neuron_importance(HEAD, torch.rand(3), [0, 1])
    with pytest.raises(ValueError, match="features have NaN or infinite values"):
        neuron_importance(HEAD, torch.tensor([1.0, torch.nan, 1.0]), 0)
    with pytest.raises(TypeError, match="features is a list"):
        neuron_importance(HEAD, [1.0, 2.0, 3.0], 0)


def test_it_refuses_a_class_without_a_right_sample():
    data = feature_set(HEAD, torch.eye(3)[[0, 0]], torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="target=1: none of its samples is right"):
        neuron_importance(HEAD, data, 1)
    with pytest.raises(ValueError, match="importance has shape"):
        rank_neurons(torch.ones(2, 9), importance=torch.ones(8))
