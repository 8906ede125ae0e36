from __future__ import annotations

import math

import pytest
import torch

from captum_neuroinspect.edit.penalties import (
    LOG_LIMIT,
    bounded_exp,
    coefficient_norm_penalty,
    con_penalty,
    mean_ratio_of_classes_penalty,
    mean_ratio_penalty,
    ratio_penalty,
)


def _ratios(*columns):
    """(N, 1, T) from one list of ratios a class."""
    return torch.tensor(columns).T[:, None]


def test_ratio_penalty_is_the_norm_over_the_batch_by_hand():
    """(3, 4) from 1 away: 5; a second class 2 from its own 1.5 once: .5."""
    ratios = _ratios([4.0, 5.0], [1.5, 2.0])
    assert ratio_penalty(ratios, torch.tensor([[1.0, 1.5]])).item() == pytest.approx(5.5)


def test_mean_ratio_penalty_lets_samples_make_up_for_each_other():
    ratios = _ratios([0.5, 1.5], [2.0, 4.0])
    assert mean_ratio_penalty(ratios, torch.tensor([[1.0, 1.0]])).item() == pytest.approx(2.0)


def test_mean_ratio_of_classes_penalty_lets_classes_make_up_for_each_other():
    """Means over the samples -.5 and 1, together .25, where class by class they are 1.5."""
    ratios, wanted = _ratios([0.0, 1.0], [1.0, 3.0]), torch.tensor([[1.0, 1.0]])
    assert mean_ratio_of_classes_penalty(ratios, wanted).item() == pytest.approx(0.25)
    assert mean_ratio_penalty(ratios, wanted).item() == pytest.approx(1.5)
    one = _ratios([0.5, 2.5])
    assert mean_ratio_of_classes_penalty(one, wanted[:, :1]) == mean_ratio_penalty(
        one, wanted[:, :1]
    )


def test_con_penalty_by_hand():
    """Shares 2*1+1, 1*3+1: (3, 4), norm 5; then -2*1+1 is cut, 3*3+1 stays: 10; mean 7.5."""
    z = torch.tensor([[2.0, 1.0], [-2.0, 3.0]])
    value = con_penalty(z, torch.tensor([[1.0, 3.0]]), torch.tensor([1.0]))
    assert value.item() == pytest.approx(7.5)
    both = con_penalty(z, torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([1.0, -1.0]))
    assert both.item() == pytest.approx(7.5)


def test_con_penalty_has_a_gradient_where_no_share_is_positive():
    weight = torch.zeros(2, 3, requires_grad=True)
    con_penalty(torch.ones(4, 3), weight, torch.zeros(2)).backward()
    assert weight.grad.eq(0).all()


def test_coefficient_norm_penalty_is_the_norm_of_each_row():
    rows = torch.tensor([[3.0, 4.0], [0.0, -1.0]])
    assert coefficient_norm_penalty(rows).item() == pytest.approx(6.0)


@pytest.mark.parametrize(
    "penalty", [ratio_penalty, mean_ratio_penalty, mean_ratio_of_classes_penalty]
)
def test_penalties_have_a_gradient_where_they_are_zero(penalty):
    """A batch whose neurons are silent must not make the head NaN."""
    ratios = torch.ones(3, 2, 1, requires_grad=True)
    penalty(ratios, torch.ones(2, 1)).backward()
    assert ratios.grad.eq(0).all()


def test_coefficient_norm_penalty_has_a_gradient_at_zero():
    rows = torch.zeros(2, 3, requires_grad=True)
    coefficient_norm_penalty(rows).backward()
    assert rows.grad.eq(0).all()


def test_bounded_exp_is_exp_below_its_limit_and_its_tangent_above():
    x = torch.tensor([-50.0, 0.0, 1.0, LOG_LIMIT])
    torch.testing.assert_close(bounded_exp(x), x.exp())
    above = torch.tensor(LOG_LIMIT + 3.0, requires_grad=True)
    value = bounded_exp(above)
    value.backward()
    assert value.item() == pytest.approx(4 * math.exp(LOG_LIMIT), rel=1e-5)
    assert above.grad.item() == pytest.approx(math.exp(LOG_LIMIT), rel=1e-5)
    assert bounded_exp(torch.tensor(1e6)).square().isfinite()
