from __future__ import annotations

import math

import pytest

from captum_neuroinspect._core.shares import FEW, share_interval, share_with_interval


@pytest.mark.parametrize(("n_right", "n"), [(0, 1), (3, 7), (19, 19), (50, 120)])
def test_the_interval_is_wilsons(n_right: int, n: int) -> None:
    # The score interval solves (p - share)^2 = z^2 share (1 - share) / n, Wilson 1927.
    z, p = 1.959963984540054, n_right / n
    for bound in share_interval(n_right, n):
        assert math.isclose((p - bound) ** 2, z**2 * bound * (1 - bound) / n, abs_tol=1e-12)


def test_few_samples_carry_count_and_interval_and_many_do_not() -> None:
    assert share_with_interval(FEW - 1, FEW - 1) == "19 of 19 (95 %: 0.83 to 1.00)"
    assert share_with_interval(FEW, FEW) == "100.0 %"


def test_without_samples_nothing_is_known() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)
    assert share_with_interval(0, 0) == "none"


@pytest.mark.parametrize(("n_right", "n"), [(-1, 3), (4, 3)])
def test_a_count_that_cannot_be_is_refused(n_right: int, n: int) -> None:
    with pytest.raises(ValueError, match=rf"n_right={n_right} of n={n}, expected a count from 0"):
        share_with_interval(n_right, n)
