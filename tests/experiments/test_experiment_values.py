"""Means with their intervals against formulas written out, and numbers that survive JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from scipy.stats import t as student

from captum_neuroinspect.experiments import Count, ShareChange, mean_with_interval
from captum_neuroinspect.experiments.values import as_json, from_json

counts = st.integers(0, 50).flatmap(
    lambda of: st.integers(0, of).map(lambda right: Count(right, of))
)
changes = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)).map(
    lambda three: ShareChange(three[0], three[1], sum(three))
)


def test_several_values_have_students_interval() -> None:
    values = [0.1, 0.4, 0.25]
    found = mean_with_interval([Count(1, 10), Count(4, 10), 0.25])
    half = student.ppf(0.975, 2) * np.std(values, ddof=1) / math.sqrt(3)
    assert found.mean == pytest.approx(0.25)
    assert (found.low, found.high) == pytest.approx((0.25 - half, 0.25 + half))
    assert (found.n, found.n_photos, found.basis) == (3, 10, "t")


def test_one_share_is_drawn_again() -> None:
    found = mean_with_interval([Count(30, 100)])
    # The bootstrap of a share is binomial.
    expected = [binom.ppf(tail, 100, 0.3) / 100 for tail in (0.025, 0.975)]
    assert (found.low, found.high) == pytest.approx(expected, abs=0.011)
    assert (found.mean, found.n_photos, found.basis) == (0.3, 100, "bootstrap")


def test_one_change_is_drawn_again_in_pairs() -> None:
    found = mean_with_interval([ShareChange(20, 10, 100)])
    spread = math.sqrt((0.3 - 0.1**2) / 100)  # of a value that is +1, -1 or 0
    assert found.mean == pytest.approx(0.1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_no_interval_where_nothing_can_be_drawn() -> None:
    assert mean_with_interval([0.5]).basis == "none"
    nothing = mean_with_interval([math.nan, Count(0, 0)])
    assert nothing.n == 0
    assert math.isnan(nothing.mean)
    assert nothing.as_dict()["mean"] is None
    assert mean_with_interval([math.nan, 0.25]).mean == 0.25


@given(st.one_of(counts, changes, st.floats(allow_nan=False, allow_infinity=False)))
def test_json_keeps_every_value(value) -> None:
    assert from_json(json.loads(json.dumps(as_json(value)))) == value


def test_other_json_is_refused() -> None:
    for wrong in ("1", [1], [1, 2.5], [1, 2, 3, 4], True, {"a": 1}):
        with pytest.raises(ValueError, match="no number, share or change"):
            from_json(wrong)


@pytest.mark.parametrize("value", [[5, 4], [-1, 4], [3, 3, 4], [1, -1, 4]])
def test_counts_that_cannot_be_are_refused(value: list[int]) -> None:
    with pytest.raises(ValueError, match="is no number, share or change"):
        from_json(value)
