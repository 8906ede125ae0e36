"""Samples that changed sides: counts, the exact test, and the interval."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import feature_set, linear
from scipy.stats import binomtest

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.edit import Paired, mcnemar, paired_change
from captum_neuroinspect.edit.judged import judged_by


def test_counts_by_hand() -> None:
    old, new = linear(torch.eye(2)), linear([[0.0, 1.0], [1.0, 0.0]])
    data = feature_set(old, torch.tensor([[2.0, 1], [2, 1], [1, 2]]), [0, 1, 0])
    found = Paired.of(judged_by(old, new, data))
    assert found.was_right.tolist() == [True, False, False]
    assert found.is_right.tolist() == [False, True, True]
    assert (len(found), found.n_corrected, found.n_broken) == (3, 2, 1)
    assert found.change.value == pytest.approx(1 / 3)
    mine = found.of_classes([1])
    assert (len(mine), mine.n_corrected, mine.n_broken) == (1, 1, 0)


def test_a_single_output_has_two_classes() -> None:
    old, new = linear([[1.0]]), linear([[-1.0]])
    data = FeatureSet(
        torch.tensor([[1.0], [2.0], [-1.0]]), torch.ones(3, 1), torch.tensor([1, 0, 1])
    )
    found = Paired.of(judged_by(old, new, data))
    assert (found.n_corrected, found.n_broken) == (2, 1)


@pytest.mark.parametrize(
    ("n_corrected", "n_broken", "expected"),
    [
        # Two-sided: twice the smaller tail of Binomial(n, 1/2).
        (9, 1, 2 * (1 + 10) / 2**10),
        (1, 9, 2 * (1 + 10) / 2**10),
        (6, 0, 2 / 2**6),
        (5, 0, 2 / 2**5),
        (4, 4, 1.0),
        (1, 0, 1.0),
        (0, 0, 1.0),
    ],
)
def test_p_value_by_hand(n_corrected: int, n_broken: int, expected: float) -> None:
    assert mcnemar(n_corrected, n_broken) == pytest.approx(expected)


def test_one_to_nine_is_the_known_value() -> None:
    assert mcnemar(1, 9) == pytest.approx(0.0215, abs=5e-5)
    assert mcnemar(10, 17) == pytest.approx(binomtest(10, 27).pvalue)
    assert mcnemar(0, 5, "less") == pytest.approx(1 / 2**5)
    assert mcnemar(0, 5, "greater") == 1


def test_the_interval_has_the_change_in_it_and_turns_with_it() -> None:
    for n in (1, 7, 60):
        for n_corrected in range(n + 1):
            for n_broken in range(n - n_corrected + 1):
                value, low, high = paired_change(n_corrected, n_broken, n)
                assert -1 <= low <= value <= high <= 1
                back = paired_change(n_broken, n_corrected, n)
                assert (back.low, back.high) == pytest.approx((-high, -low))


def test_the_interval_tells_a_change_from_none_as_the_test_does() -> None:
    """With none broken both need six, but of few samples."""
    for n in (60, 400, 50_000):
        assert paired_change(5, 0, n).low < 0 < paired_change(6, 0, n).low


def test_the_interval_by_hand() -> None:
    # Bonett and Price: (7/62 - 1/62) +- 1.96 sqrt((8/62 - (6/62)^2) / 62)
    half = 1.959964 * math.sqrt((8 / 62 - (6 / 62) ** 2) / 62)
    value, low, high = paired_change(6, 0, 60)
    assert (value, low, high) == pytest.approx((0.1, 6 / 62 - half, 6 / 62 + half), abs=1e-6)
    assert all(math.isnan(one) for one in paired_change(0, 0, 0))


@pytest.mark.parametrize("n", [20, 60, 300])
@pytest.mark.parametrize(
    ("corrected", "broken"), [(0.02, 0.02), (0.1, 0.02), (0.3, 0.1), (0.0, 0.05)]
)
def test_the_interval_covers(n: int, corrected: float, broken: float) -> None:
    """Simulated: in at least 95 % of draws, within what 4,000 draws tell."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.tensor([corrected, broken, 1 - corrected - broken])
    draws = torch.multinomial(shares, 4000 * n, replacement=True, generator=generator)
    kinds = draws.view(4000, n)
    pairs = torch.stack([(kinds == 0).sum(1), (kinds == 1).sum(1)], 1).tolist()
    truth = corrected - broken
    inside = [low <= truth <= high for _, low, high in (paired_change(*p, n) for p in pairs)]
    assert sum(inside) / len(inside) > 0.94


def test_bad_arguments() -> None:
    right = torch.tensor([True])
    with pytest.raises(ValueError, match=r"shapes .*, expected \(N,\)"):
        Paired(torch.tensor([0, 1]), right, right)
    with pytest.raises(TypeError, match=r"was_right is torch.int64 .* expected torch.bool"):
        Paired(torch.tensor([0]), torch.tensor([1]), right)
    with pytest.raises(ValueError, match="3 corrected and 4 broken of n=6, expected at most n"):
        paired_change(3, 4, 6)
    with pytest.raises(ValueError, match=r"counts of samples are \(-1, 2\)"):
        mcnemar(-1, 2)
    head = linear(torch.eye(2))
    many = FeatureSet(torch.eye(2), torch.eye(2), torch.eye(2))
    with pytest.raises(ValueError, match="features have multi-hot labels"):
        Paired.of(judged_by(head, head, many))
