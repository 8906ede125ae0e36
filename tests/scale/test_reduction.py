"""Partial results join to the bits of the single pass, in any parts and any order."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.attr.reference import agreement
from captum_neuroinspect.scale import (
    ChangeDirections,
    ChangeTotals,
    ClassTotals,
    ExactSum,
    PhotoMoments,
    TopActivations,
    combined,
)

MOST = 2.0**1000
floats = st.floats(-MOST, MOST, allow_nan=False, allow_infinity=False)
seeds = st.integers(0, 2**32 - 1)


def _split(n: int, seed: int) -> list[Tensor]:
    """Some parts of 0..n-1, some of them empty, each in an order of its own."""
    draw = random.Random(seed)
    places = list(range(n))
    draw.shuffle(places)
    cuts = sorted(draw.choices(range(n + 1), k=draw.randint(0, 5)))
    ends = zip([0, *cuts], [*cuts, n], strict=True)
    parts = [torch.tensor(places[start:stop], dtype=torch.int64) for start, stop in ends]
    draw.shuffle(parts)
    return parts


def _joined(partials: list, seed: int) -> object:
    """Join neighbours of a shuffled list, in a tree that the seed draws."""
    draw = random.Random(seed)
    while len(partials) > 1:
        draw.shuffle(partials)
        partials.append(partials.pop().merged(partials.pop()))
    return partials[0]


def _tied(n: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Values of very different sizes, many of them equal or zero."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(-30, 30, (n, width), generator=draw).to(dtype)
    values = torch.randint(-2, 3, (n, width), generator=draw).to(dtype) * 1.1
    return values * 2.0**sizes * (torch.rand(n, width, generator=draw) < 0.8)


@given(st.lists(floats, max_size=40), seeds)
@settings(max_examples=60, deadline=None)
def test_a_sum_is_exact_and_rounded_once(numbers: list[float], seed: int) -> None:
    values = torch.tensor(numbers, dtype=torch.float64)
    single = ExactSum.of(values)
    assert float(single.value()) == math.fsum(numbers)
    assert (
        _joined([ExactSum.of(values[part]) for part in _split(len(values), seed)], seed) == single
    )


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_sum_of_any_numbers_is_that_of_fractions(numbers: list[float]) -> None:
    exact = sum(map(Fraction, numbers))
    try:
        expected = float(exact)
    except OverflowError:
        expected = math.inf if exact > 0 else -math.inf
    assert float(ExactSum.of(torch.tensor(numbers, dtype=torch.float64)).value()) == expected


@given(st.integers(1, 40), st.integers(1, 6), seeds)
@settings(max_examples=40, deadline=None)
def test_changes_join_to_the_single_pass(n: int, k: int, seed: int) -> None:
    w, unfinished = _tied(n, 6, seed), torch.arange(n) % 5 == 3
    single = ChangeTotals.of(w, k, unfinished)
    parts = [ChangeTotals.of(w[part], k, unfinished[part]) for part in _split(n, seed)]
    found = _joined(parts, seed)
    assert found == single
    assert ChangeTotals.from_tensors(single.tensors()) == single


@given(st.integers(0, 40), seeds)
@settings(max_examples=25, deadline=None)
def test_levels_and_directions_join_to_the_single_pass(n: int, seed: int) -> None:
    values, draw = _tied(n, 3, seed), torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=draw)
    samples = FeatureSet(values, _tied(n, 4, seed + 1), labels)
    single, pointing = ClassTotals.of(samples), ChangeDirections.of(values)
    parts = _split(n, seed)
    assert _joined([ClassTotals.of(samples.subset(part)) for part in parts], seed) == single
    assert _joined([ChangeDirections.of(values[part]) for part in parts], seed) == pointing
    assert ClassTotals.from_tensors(single.tensors()) == single
    assert ChangeDirections.from_tensors(pointing.tensors()) == pointing
    expected = agreement(values)
    assert pointing.agreement() == (expected and pytest.approx(expected, abs=1e-12))
    right = samples.correct()
    assert single.counts.tolist() == right.labels.bincount(minlength=4).tolist()
    for c in range(4):
        exact = [
            float(sum(Fraction(float(x)) for x in right.features[right.labels == c, j]))
            for j in range(3)
        ]
        assert single.sums.value()[c].tolist() == exact


def test_a_reference_needs_two_correct_samples() -> None:
    z = torch.eye(2)
    totals = ClassTotals.of(FeatureSet(z, z, torch.tensor([0, 0])))
    with pytest.raises(ValueError, match="1 correct sample"):
        totals.reference()
    with pytest.raises(ValueError, match="multi-hot labels"):
        ClassTotals.of(FeatureSet(z, z, torch.ones(2, 2, dtype=torch.int64)))


@given(st.integers(1, 40), st.integers(1, 7), seeds)
@settings(max_examples=40, deadline=None)
def test_top_photos_join_to_the_single_pass(n: int, k: int, seed: int) -> None:
    activations = _tied(n, 3, seed).sign()  # nearly all are ties
    names = [f"photo {7 * i % 41:02d}" for i in range(n)]
    single = TopActivations.of(activations, names, k)
    parts = [
        TopActivations.of(activations[part], [names[i] for i in part], k)
        for part in _split(n, seed)
    ]
    assert _joined(parts, seed) == single
    for unit in range(3):
        expected = sorted((-float(activations[i, unit]), names[i]) for i in range(n))[:k]
        assert [(-value, name) for name, value in single.of_unit(unit)] == expected


@given(st.integers(1, 30), seeds)
@settings(max_examples=40, deadline=None)
def test_moments_join_to_the_single_pass(n: int, seed: int) -> None:
    activations, scores = _tied(n, 3, seed), _tied(n, 2, seed + 1)
    single = PhotoMoments.of(activations, scores)
    parts = [PhotoMoments.of(activations[part], scores[part]) for part in _split(n, seed)]
    assert _joined(parts, seed) == single
    assert single.n == n
    assert PhotoMoments.from_tensors(single.tensors()) == single
    for unit in range(3):
        products = [
            Fraction(float(a)) * Fraction(float(s))
            for a, s in zip(activations[:, unit], scores[:, 1], strict=True)
        ]
        assert float(single.a_s.value()[unit, 1]) == float(sum(products))


def test_correlation_is_pearsons() -> None:
    draw = torch.Generator().manual_seed(0)
    activations, scores = torch.rand(50, 3, generator=draw), torch.rand(50, 2, generator=draw)
    scores[:, 1] = 0.5  # a phrase that never changes
    found = PhotoMoments.of(activations, scores).correlation()
    both = torch.corrcoef(torch.cat([activations, scores], 1).T.double())
    torch.testing.assert_close(found[:, 0], both[:3, 3], rtol=1e-12, atol=1e-12)
    assert found[:, 1].isnan().all()


def test_blocks_do_not_change_a_sum(monkeypatch) -> None:
    values = _tied(100, 3, 5, torch.float64)
    whole = ExactSum.of(values)
    for name in ("_N_NUMBERS", "_MOST_ROWS"):
        monkeypatch.setattr(f"captum_neuroinspect.scale.exact_sum.{name}", 7)
    assert ExactSum.of(values) == whole
    assert ExactSum.zeros((3,)).merged(whole) == whole


@given(st.integers(0, 60), seeds)
@settings(max_examples=25, deadline=None)
def test_products_are_those_of_fractions(n: int, seed: int) -> None:
    left, right = _tied(n, 2, seed), _tied(n, 3, seed + 1, torch.float64).div(3)
    single = ExactSum.of_products(left, right)
    parts = [ExactSum.of_products(left[part], right[part]) for part in _split(n, seed)]
    assert _joined(parts, seed) == single
    for u, v in ((0, 0), (1, 2)):
        products = [
            Fraction(float(a)) * Fraction(float(b))
            for a, b in zip(left[:, u], right[:, v], strict=True)
        ]
        assert float(single.value()[u, v]) == float(sum(products))


def test_products_of_many_rows_do_not_overflow_a_mantissa(monkeypatch) -> None:
    """The largest integers that pieces hold, in more rows than a block has."""
    most = torch.full((5000, 1), 1 - 2.0**-24)
    expected = 5000 * Fraction(1 - 2.0**-24) ** 2
    whole = ExactSum.of_products(most, most)
    assert float(whole.value()) == float(expected)
    for name in ("_N_ROWS", "_MOST_PRODUCTS"):
        monkeypatch.setattr(f"captum_neuroinspect.scale.exact_sum.{name}", 7)
        assert ExactSum.of_products(most, most) == whole


@given(st.integers(0, 40), seeds)
@settings(max_examples=25, deadline=None)
def test_sums_of_groups_are_those_of_each(n: int, seed: int) -> None:
    values = _tied(n, 3, seed, torch.float64)
    group = torch.randint(4, (n,), generator=torch.Generator().manual_seed(seed))
    found = ExactSum.of_groups(values, group, 5).value()
    for one in range(5):
        assert torch.equal(found[one], ExactSum.of(values[group == one]).value())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_has_no_sum_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        ExactSum.of(torch.tensor([1.0, value]))
    with pytest.raises(ValueError, match="NaN or infinity"):
        TopActivations.of(torch.tensor([[value]]), ["a"], 1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match="expected floating point numbers"):
        ExactSum.of(torch.arange(3))
    with pytest.raises(ValueError, match="does not fit"):
        ExactSum.zeros((2,)).merged(ExactSum.zeros((3,)))
    with pytest.raises(ValueError, match="left has 2 rows and right 3"):
        ExactSum.of_products(torch.zeros(2, 1), torch.zeros(3, 1))
    tiny = torch.tensor([[2.0**-600]], dtype=torch.float64)
    with pytest.raises(ValueError, match="bits below the smallest float64"):
        ExactSum.of_products(tiny, tiny)
    with pytest.raises(ValueError, match="k=1 and k=2 votes do not join"):
        ChangeTotals.of(torch.eye(3), 1).merged(ChangeTotals.of(torch.eye(3), 2))
    with pytest.raises(ValueError, match="an identity twice"):
        TopActivations.of(torch.zeros(2, 1), ["a", "a"], 1)
    with pytest.raises(TypeError, match=r"scores have dtype torch\.float64"):
        PhotoMoments.of(torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="no partial results"):
        combined([])
