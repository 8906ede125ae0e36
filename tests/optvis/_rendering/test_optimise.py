import pytest
import torch
from torch.optim import AdamW

from captum_neuroinspect.optvis._rendering.optimise import finite_rows, step_rows, where_rows

NAN, INF = float("nan"), float("inf")


def test_finite_rows():
    values = torch.tensor([[0.0, 1.0], [NAN, 0.0], [0.0, -INF], [2.0, 3.0]])
    assert finite_rows(values).tolist() == [True, False, False, True]
    assert finite_rows(values, torch.tensor([INF, 0, 0, 0])).tolist() == [False, False, False, True]


def test_where_rows_reads_nothing_of_the_others():
    values = torch.full((2, 3), NAN, requires_grad=True)
    kept = where_rows(torch.tensor([False, False]), values, 0.0)
    kept.sum().backward()
    assert kept.eq(0).all()
    assert values.grad.eq(0).all()


def _optimised(rows_of_step, lr=0.1):
    """A parameter of three rows after AdamW, with rows that sit out some steps."""
    generator = torch.Generator().manual_seed(0)
    param = torch.randn(3, 2, 4, generator=generator).requires_grad_()
    optimizer = AdamW([param], lr=lr)
    states = []
    for rows in rows_of_step:
        param.grad = torch.randn(3, 2, 4, generator=generator)
        step_rows(optimizer, [param], torch.tensor(rows))
        state = optimizer.state[param]
        states.append([t.detach().clone() for t in (param, state["exp_avg"], state["exp_avg_sq"])])
    return states


@pytest.mark.parametrize("missed", [0, 1, 2])
def test_only_the_rows_that_take_a_step_change(missed):
    all_rows = [[True] * 3 for _ in range(3)]
    some_rows = [list(rows) for rows in all_rows]
    some_rows[missed][1] = False
    full, part = _optimised(all_rows), _optimised(some_rows)
    for one, other in zip(full, part, strict=True):
        for left, right in zip(one, other, strict=True):
            assert left[[0, 2]].equal(right[[0, 2]])
    first = _optimised([[False] * 3])[0]
    before = part[missed - 1] if missed else first
    for left, right in zip(before, part[missed], strict=True):
        assert left[1].equal(right[1])
    assert first[1].eq(0).all(), "no state comes from a step that nobody took"


def test_a_parameter_without_rows_takes_the_step():
    shared = torch.ones(2, requires_grad=True)
    shared.grad = torch.ones(2)
    step_rows(AdamW([shared], lr=0.1), [shared], torch.tensor([False, True, True]))
    assert shared.lt(1).all()
