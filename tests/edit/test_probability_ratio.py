from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import left_unchanged, linear
from torch import nn

from captum_neuroinspect import probability_ratio
from captum_neuroinspect._core.ratios import single_ratios
from captum_neuroinspect.edit.penalties import ratio_by_rule


def _softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _reference_ratio(weight, bias, features, neurons, target):
    """Equation (7) in numpy and double precision: mask, two softmaxes, a division."""
    weight, bias, features = (np.asarray(t, dtype=np.float64) for t in (weight, bias, features))
    mask = np.ones(features.shape[1])
    mask[neurons] = 0
    with_neurons = _softmax(features @ weight.T + bias)[:, target]
    return with_neurons / _softmax((features * mask) @ weight.T + bias)[:, target]


def _head_and_features(n_features=6, n_classes=4, n=9):
    return nn.Linear(n_features, n_classes), torch.randn(n, n_features)


@pytest.mark.parametrize("neurons", [[0], [1, 4], [5, 0, 2], list(range(6))])
@pytest.mark.parametrize("target", [0, 3])
def test_probability_ratio_equals_two_softmaxes(neurons, target):
    head, features = _head_and_features()
    expected = _reference_ratio(head.weight.detach(), head.bias.detach(), features, neurons, target)
    actual = probability_ratio(head, features, neurons, target)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5)


def test_probability_ratio_by_hand():
    """Two classes, logits (log 3, 0): p = 3/4; without the neuron (0, 0): 1/2."""
    head = linear([[1.0, 0.0], [0.0, 0.0]])
    features = torch.tensor([[np.log(3.0), 7.0]], dtype=torch.float32)
    assert probability_ratio(head, features, 0, 0).item() == pytest.approx(1.5)
    assert probability_ratio(head, features, 0, 1).item() == pytest.approx(0.5)


def test_probability_ratio_is_one_where_neurons_are_silent():
    head, features = _head_and_features()
    features[:, [1, 2]] = 0
    torch.testing.assert_close(probability_ratio(head, features, [1, 2], 0), torch.ones(9))


def test_probability_ratio_is_one_where_classes_agree():
    """The same coefficient for all classes raises none above the others."""
    head, features = _head_and_features()
    with torch.no_grad():
        head.weight[:, 3] = 1.7
    torch.testing.assert_close(probability_ratio(head, features, 3, 2), torch.ones(9))


def test_probability_ratio_int_list_and_tuple_agree():
    head, features = _head_and_features()
    one = probability_ratio(head, features, 2, 1)
    assert torch.equal(one, probability_ratio(head, features, [2], 1))
    assert torch.equal(one, probability_ratio(head, features, (2,), 1))


def test_probability_ratio_of_extreme_logits_is_finite():
    """Probabilities that round to 0 do not divide to NaN."""
    head = linear([[1.0, 0.0], [0.0, 1.0]])
    ratio = probability_ratio(head, torch.tensor([[0.0, 300.0]]), 1, target=1)
    assert ratio.item() == pytest.approx(2.0)
    assert probability_ratio(head, torch.tensor([[20.0, 300.0]]), 0, target=0).isfinite().all()


def test_probability_ratio_leaves_the_head_unchanged():
    head, features = _head_and_features()
    with left_unchanged(head):
        assert not probability_ratio(head, features.requires_grad_(), 0, 0).requires_grad


@pytest.mark.parametrize(
    ("neurons", "target", "error", "message"),
    [
        ([], 0, ValueError, "neurons is empty"),
        ([1, 2, 1], 0, ValueError, r"neurons=\[1, 2, 1\] repeats an index"),
        (6, 0, ValueError, r"neuron=6 is out of range: expected 0..5 \(the head takes 6 features"),
        ([0, -1], 0, ValueError, "neuron=-1 is out of range"),
        ([0.5], 0, TypeError, "neurons has dtype torch.float32, expected whole numbers"),
        ([True, False], 0, TypeError, "neurons has dtype torch.bool"),
        (0, 4, ValueError, r"target=4 is out of range: expected 0..3 \(4 classes\)"),
        (0, -1, ValueError, "target=-1 is out of range"),
        (0, None, ValueError, "target is missing"),
    ],
)
def test_probability_ratio_refuses_indices(neurons, target, error, message):
    head, features = _head_and_features()
    with pytest.raises(error, match=message):
        probability_ratio(head, features, neurons, target)


def test_probability_ratio_refuses_other_shapes_and_heads():
    head, features = _head_and_features()
    with pytest.raises(ValueError, match=r"shape \(9, 2\), expected \(N, 6\)"):
        probability_ratio(head, features[:, :2], 0, 0)
    with pytest.raises(ValueError, match=r"shape \(6,\), expected \(N, 6\)"):
        probability_ratio(head, features[0], 0, 0)
    with pytest.raises(TypeError, match=r"head is Conv2d, expected nn\.Linear"):
        probability_ratio(nn.Conv2d(3, 4, 1), features, 0, 0)


@pytest.mark.parametrize("target", [0, 2])
def test_probability_ratio_of_sigmoids_by_hand(target):
    """Each output by itself: sigma(l_c) over sigma(l_c without the neurons)."""
    head, features = _head_and_features()
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    z = features.numpy()
    masked = z.copy()
    masked[:, [1, 4]] = 0

    def sigma(values):
        return 1 / (1 + np.exp(-(values @ weight.T + bias)[:, target]))

    actual = probability_ratio(head, features, [1, 4], target, link="sigmoid")
    np.testing.assert_allclose(actual.numpy(), sigma(z) / sigma(masked), rtol=1e-5)


def test_probability_ratio_of_a_single_output_is_that_of_two_classes():
    """sigma(l) is the softmax of (0, l): the same ratio, for either class."""
    one = linear([[1.0, -2.0, 0.5]], [0.3])
    two = linear([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5]], [0.0, 0.3])
    features = torch.randn(5, 3)
    for target in (0, 1):
        torch.testing.assert_close(
            probability_ratio(one, features, [0, 2], target, link="sigmoid"),
            probability_ratio(two, features, [0, 2], target),
        )
    with pytest.raises(ValueError, match="target=2 is out of range"):
        probability_ratio(one, features, 0, 2, link="sigmoid")
    with pytest.raises(ValueError, match="link='probit', expected one of"):
        probability_ratio(one, features, 0, 0, link="probit")


def test_single_ratios_and_rule_by_hand():
    """Each neuron alone: 3/4 : 3/5 and 3/4 : 3/7; the rule takes a third of the smaller."""
    head = linear([[1.0, 1.0], [0.0, 0.0]], [np.log(0.75), 0.0])
    mean = torch.tensor([np.log(2.0), np.log(2.0)], dtype=torch.float32)
    mean[1] = np.log(4.0)
    weight, bias = head.weight.detach(), head.bias.detach()
    # Odds with both: .75 * 2 * 4 = 6; without the first 3; without the second 1.5.
    ratios = single_ratios(weight, bias, mean, torch.tensor([0, 1]), 0)
    expected = torch.tensor([(6 / 7) / (3 / 4), (6 / 7) / (1.5 / 2.5)])
    torch.testing.assert_close(ratios, expected)
    rule = ratio_by_rule(weight, bias, mean, torch.tensor([0, 1]), 0)
    assert rule == pytest.approx(((6 / 7) / (3 / 4) - 1) / 3 + 1)


def test_single_ratios_equal_probability_ratio_one_by_one():
    head, features = _head_and_features()
    mean, neurons = features.mean(0), [4, 0, 3]
    actual = single_ratios(head.weight.detach(), head.bias.detach(), mean, torch.tensor(neurons), 1)
    expected = [probability_ratio(head, mean[None], j, 1) for j in neurons]
    torch.testing.assert_close(actual, torch.cat(expected))
