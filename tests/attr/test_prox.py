from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from captum_neuroinspect.attr._prox import prox, prox_residual

cases = settings(derandomize=True, deadline=None, max_examples=50)


def _row(*values):
    return torch.tensor([values], dtype=torch.float64)


def _value(w, v, l1, l2):
    """What the proximal map minimises, (n,)."""
    square = 0.5 * (w - v).square().sum(1)
    return square + (l1 * w.abs()).sum(1) + l2[:, 0] * w.norm(dim=1)


def _draw(seed, group, bounded, n=4, n_features=6):
    """Random rows; ``group`` is l2 as a share of the length that is left after the threshold."""
    rng = torch.Generator().manual_seed(seed)
    v = 3 * torch.randn(n, n_features, generator=rng, dtype=torch.float64)
    l1 = torch.rand(n, 1, generator=rng, dtype=torch.float64)
    l2 = group * (v.abs() - l1).clamp_min(0).norm(dim=1, keepdim=True)
    lower = -2 * torch.rand(v.shape, generator=rng, dtype=torch.float64)
    lower[torch.rand(v.shape, generator=rng) < 0.3] = 0
    return v, l1, l2, lower if bounded else None


def test_prox_by_hand():
    """The threshold leaves (4, 0, -3), whose length 5 is shortened by l2."""
    w = prox(_row(5, 0.5, -4), _row(1), _row(2))
    torch.testing.assert_close(w, _row(2.4, 0, -1.8))
    assert w[0, 1] == 0


@pytest.mark.parametrize("group", [0.0, 0.01, 0.5, 1.2])
def test_rows_do_not_influence_each_other(group):
    """Bounded, free and mixed rows side by side: each as alone, to the last bit."""
    v, l1, l2, lower = _draw(3, group, True, n=6)
    lower[::2] = -torch.inf
    w, gradient = prox(v, l1, l2, lower), torch.randn(v.shape, dtype=v.dtype)
    residual = prox_residual(w, gradient, l1, l2, lower)
    for i in range(6):
        row = slice(i, i + 1)
        bound = lower[row] if i % 2 else None  # a bound of -inf is none
        assert torch.equal(prox(v[row], l1[row], l2[row], bound), w[row])
        one = prox_residual(w[row], gradient[row], l1[row], l2[row], bound)
        assert torch.equal(one, residual[row])


def test_prox_with_a_lower_bound_by_hand():
    """(4, -3) after the threshold; w = (3, -1) is sqrt(10) long and shrinks by 3/4."""
    l2 = math.sqrt(10) / 3
    torch.testing.assert_close(prox(_row(5, -4), _row(1), _row(l2), _row(-9, -1)), _row(3, -1))


@pytest.mark.parametrize(
    ("l2", "expected"), [(0.6, (0, 0)), (0.5, (0, 0)), (0.4, (0, 0.1)), (0, (0, 0.5))]
)
def test_prox_is_zero_when_what_may_move_is_short(l2, expected):
    """The large entry may not go below 0: it neither moves nor holds the group up."""
    w = prox(_row(-100, 1.5), _row(1), _row(l2), _row(0, -3))
    torch.testing.assert_close(w, _row(*expected))
    assert torch.equal(w == 0, _row(*expected) == 0)


def test_prox_without_norms_is_a_projection():
    v, lower = _row(-5, -1, 2), _row(-2, -3, 0)
    assert prox(v, _row(0), _row(0), lower).tolist() == [[-2, -1, 2]]
    assert prox(v, _row(0), _row(0)).tolist() == v.tolist()


def _reference_scipy(v, l1, l2, lower):
    """The prox of one row with w split into two parts >= 0, so that only w = 0 has a kink."""
    size = len(v)

    def value(parts):
        w = parts[:size] - parts[size:]
        length = np.sqrt(w @ w)
        slope = w - v + l2 * w / length
        loss = 0.5 * (w - v) @ (w - v) + l1 * parts.sum() + l2 * length
        return loss, np.concatenate([slope + l1, l1 - slope])

    bounds = [(0, None)] * size + [
        (0, None if lower is None else -x) for x in (v if lower is None else lower)
    ]
    start = np.full(2 * size, 0.01)
    start[:size] += np.abs(v)
    found = minimize(value, start, jac=True, bounds=bounds, method="SLSQP", options={"ftol": 1e-15})
    return found.x[:size] - found.x[size:]


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("group", [0.05, 0.4])
def test_prox_equals_a_general_solver(group, bounded):
    v, l1, l2, lower = _draw(0, group, bounded)
    expected = [
        _reference_scipy(
            v[i].numpy(), float(l1[i]), float(l2[i]), lower[i].numpy() if bounded else None
        )
        for i in range(len(v))
    ]
    found = prox(v, l1, l2, lower)
    assert found.norm(dim=1).min() > 0.1  # away from the kink that the reference cannot take
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-6)


@cases
@given(
    seed=st.integers(0, 10_000),
    group=st.sampled_from([0.0, 1e-9, 0.01, 0.3, 0.9, 0.999999, 1.5]) | st.floats(0, 1),
    bounded=st.booleans(),
)
def test_prox_is_the_minimum(seed, group, bounded):
    """The function is strongly convex: each other point is worse by half its squared distance."""
    v, l1, l2, lower = _draw(seed, group, bounded)
    w = prox(v, l1, l2, lower)
    others = [torch.zeros_like(w), v, *(w + size * torch.randn_like(w) for size in (1e-5, 0.01, 1))]
    others += [w * share for share in (0.5, 0.999, 1.001)]
    if bounded:
        assert (w >= lower).all()
        others = [torch.maximum(other, lower) for other in others]
    for other in others:
        gain = _value(other, v, l1, l2) - _value(w, v, l1, l2) - 0.5 * (other - w).square().sum(1)
        assert gain.min() > -1e-12


@cases
@given(seed=st.integers(0, 10_000), group=st.floats(0, 1.2))
def test_prox_of_a_batch_equals_single_rows(seed, group):
    """A row that needs more steps of the root search does not change its neighbours."""
    v, l1, l2, lower = _draw(seed, group, bounded=True)
    l2[1:3] = torch.tensor([[0.0], [1e-8]])
    singles = [prox(*(part[i : i + 1] for part in (v, l1, l2, lower))) for i in range(len(v))]
    torch.testing.assert_close(prox(v, l1, l2, lower), torch.cat(singles), atol=1e-13, rtol=0)


@cases
@given(seed=st.integers(0, 10_000), group=st.floats(0, 1.2), bounded=st.booleans())
def test_prox_residual_is_the_distance_to_the_prox(seed, group, bounded):
    v, l1, l2, lower = _draw(seed, group, bounded)
    w = torch.randn_like(v) * (torch.rand_like(v) < 0.7)
    w = torch.maximum(w, lower) if bounded else w
    residual = prox_residual(w, w - v, l1, l2, lower)
    torch.testing.assert_close(residual, w - prox(v, l1, l2, lower), atol=1e-13, rtol=0)


@pytest.mark.parametrize("lower", [None, torch.full((1, 3), -200.0)])
def test_prox_residual_survives_float32(lower):
    """Near a minimum with large entries, where ``w - prox(w - gradient)`` rounds to 0 or 1e-5."""
    w, l1, l2 = torch.tensor([[100.0, -75.0, 0.0]]), torch.tensor([[1e-3]]), torch.tensor([[1e-4]])
    gradient = torch.tensor([[-1e-3 - 0.8e-4 + 3e-7, 1e-3 + 0.6e-4 - 2e-7, 5e-4]])
    residual = prox_residual(w, gradient, l1, l2, lower)
    torch.testing.assert_close(residual, torch.tensor([[3e-7, -2e-7, 0.0]]), atol=1e-9, rtol=1e-3)
