"""Features c times as large behind weights c times as small: the same network, so w grows by c."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_neuroinspect.attr import FISTA, SGD, ElasticNet
from captum_neuroinspect.attr._tails import LinearTail


def _solved(solver, penalty, scale, seed, feasible):
    rng = torch.Generator().manual_seed(seed)
    z, weight, bias = (
        torch.rand(*shape, generator=rng, dtype=torch.float64) for shape in ((6, 5), (3, 5), (3,))
    )
    target = torch.randint(3, (6,), generator=rng)
    # Each change of w costs as much as before: the norms are measured in the new unit.
    penalty = replace(penalty, l1=penalty.l1 / scale, l2=penalty.l2 / scale)
    tail = LinearTail(scale * z, (6 * weight - 3) / scale, bias)
    return solver.solve(tail, target, -scale * z if feasible else None, penalty)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.1, 10),
    feasible=st.booleans(),
    scaling=st.sampled_from(["code", "paper"]),
)
def test_sgd_scales_with_its_inputs(seed, scale, feasible, scaling):
    """With a step size in the new unit, squared because gradients shrink: the same path."""
    penalty = ElasticNet(scaling=scaling)
    plain = _solved(SGD(max_steps=100), penalty, 1, seed, feasible)
    stretched = _solved(SGD(lr=0.01 * scale**2, max_steps=100), penalty, scale, seed, feasible)
    torch.testing.assert_close(stretched.w, scale * plain.w)
    assert torch.equal(stretched.n_steps, plain.n_steps)
    assert plain.w.abs().max() > 0 or plain.already_correct.all()


@pytest.mark.parametrize("feasible", [False, True])
@pytest.mark.parametrize("scale", [0.2, 3.0])
def test_fista_scales_with_its_inputs(scale, feasible):
    """The minimiser knows no step size."""
    solver, penalty = FISTA(tolerance=1e-11), ElasticNet(scaling="paper")
    plain = _solved(solver, penalty, 1, 0, feasible)
    stretched = _solved(solver, penalty, scale, 0, feasible)
    assert (~plain.already_correct).sum() >= 2
    torch.testing.assert_close(stretched.w, scale * plain.w, atol=1e-6, rtol=1e-6)
