"""Heads whose outputs are decisions of their own: many labels a sample, or one output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from edit_arguments import arguments
from helpers import feature_set, linear, nudged
from torch import nn

from captum_neuroinspect import edit_head, probability_ratio

SIGMOID = {"link": "sigmoid"}


def _many_labels(n=60):
    head = nn.Linear(5, 3)
    rng = torch.Generator().manual_seed(0)
    features = torch.rand(n, 5, generator=rng)
    labels = (torch.rand(n, 3, generator=rng) < 0.4).long()
    return head, feature_set(head, features, labels, torch.arange(n) % 2)


def _one_output(n=60):
    head = nn.Linear(5, 1)
    rng = torch.Generator().manual_seed(0)
    features = torch.rand(n, 5, generator=rng)
    return head, feature_set(head, features, (features[:, 0] > 0.5).long())


def _sigma(values):
    return 1 / (1 + np.exp(-values))


def test_loss_of_many_labels_by_hand():
    """BCE over all decisions, and the norm of sigma(l_c) / sigma(l_c masked) - o."""
    head, data = _many_labels(20)
    weight, bias = (p.detach().double().numpy() for p in head.parameters())
    z, y = data.features.double().numpy(), data.labels.numpy()
    masked = z.copy()
    masked[:, [1, 4]] = 0
    p = _sigma(z @ weight.T + bias)
    ratio = p[:, 2] / _sigma(masked @ weight.T + bias)[:, 2]
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    expected += 0.5 * np.linalg.norm(ratio - 1.1)
    edit = edit_head(
        head,
        data,
        nudged(data),
        target=2,
        neurons=[1, 4],
        ratio=1.1,
        strength=0.5,
        lr=1e-9,
        **arguments(n_epochs=1, batch_size=20, **SIGMOID),
    )
    assert edit.method.history[0].loss == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert edit.link == "sigmoid"


def test_edit_of_many_labels_brings_the_ratio_nearer():
    head, data = _many_labels()
    with torch.no_grad():
        head.weight[2, 1] = 3.0
    data = data.with_head(head)
    options = dict(scope="neurons", strength=1.0, lr=0.1, select="target", max_cost=0.0)
    edit = edit_head(
        head, data, nudged(data), target=2, neurons=[1], **arguments(**options, **SIGMOID)
    )
    assert 1 < edit.after.ratios[0] < edit.before.ratios[0] - 0.1
    changed = (edit.head.weight != head.weight).any(1)
    assert changed.tolist() == [False, False, True]
    assert len(edit.after.class_accuracy) == 3
    assert len(edit.after.group_accuracy) == 2
    mean = data.features[data.labels[:, 2] == 1].mean(0)[None]
    expected = probability_ratio(edit.head, mean, [1], 2, link="sigmoid").item()
    assert edit.after.ratios == pytest.approx((expected,), rel=1e-4)


@pytest.mark.parametrize("select", ["accuracy", "min_class", "group", "target"])
def test_every_rule_takes_many_labels(select):
    head, data = _many_labels()
    options = dict(target=0, neurons=[1], strength=0.0, lr=0.05, select=select, max_cost=0.5)
    edit = edit_head(head, data, nudged(data), **arguments(**options, **SIGMOID))
    assert edit.method.history[0].accuracy == pytest.approx(edit.method.history[0].accuracy)
    assert edit.after.accuracy > 0


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("anchor", [None, "predictions"])
@pytest.mark.parametrize("scope", ["class", "neurons"])
def test_a_single_output_is_a_softmax_of_two(target, anchor, scope):
    """sigma(l) is the softmax of (0, l): the first step on row 1 is the same."""
    head, data = _one_output()
    two = linear(
        torch.cat([torch.zeros(1, 5), head.weight.detach()]), [0.0, head.bias.detach().item()]
    )
    pair = feature_set(two, data.features, data.labels)
    options = dict(neurons=[1, 2], strength=0.5, lr=0.01, batch_size=60, anchor=anchor)
    options |= dict(n_epochs=1, scope=scope)
    easy = nudged(data.correct().subset(torch.tensor([0])))
    one = edit_head(head, data, easy, target=target, **arguments(**options, **SIGMOID))
    easy = nudged(pair.correct().subset(torch.tensor([0])))
    other = edit_head(two, pair, easy, target=target, **arguments(**options))
    assert one.method.history[0].loss == pytest.approx(
        other.method.history[0].loss, rel=1e-5, nan_ok=True
    )
    assert one.before.ratios == pytest.approx(other.before.ratios, rel=1e-5, nan_ok=True)
    if target == 1:  # row 0 of the two has no counterpart
        torch.testing.assert_close(one.head.weight[0], other.head.weight[1])


def test_a_single_output_learns():
    head, data = _one_output()
    options = dict(target=1, neurons=[3], strength=0.1, lr=0.05, n_epochs=20, patience=20)
    edit = edit_head(head, data, nudged(data), **arguments(**options, **SIGMOID))
    assert edit.after.accuracy > max(edit.before.accuracy, 0.8)
    assert len(edit.after.class_accuracy) == 2
    assert edit.head.weight.shape == (1, 5)


def test_links_refuse_labels_of_the_other_kind():
    head, data = _many_labels()
    one, single = _one_output()
    classes = feature_set(head, data.features, torch.arange(60) % 3)
    edit = {"target": 0, "neurons": [1]}
    with pytest.raises(ValueError, match="train has multi-hot labels: link='softmax'"):
        edit_head(head, data, data, **edit)
    with pytest.raises(ValueError, match="train has a single output: link='softmax'"):
        edit_head(one, single, single, **edit)
    with pytest.raises(ValueError, match="train has one class a sample: link='sigmoid'"):
        edit_head(head, classes, classes, **edit, **arguments(**SIGMOID))
    with pytest.raises(ValueError, match=r"target=2 is out of range: expected 0..1"):
        edit_head(one, single, single, target=2, neurons=[1], **arguments(**SIGMOID))
