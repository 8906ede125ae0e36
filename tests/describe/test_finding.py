from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from captum_neuroinspect.describe import FoundUnit, FoundUnits, find_units

_N = 300


@pytest.fixture
def units() -> Tensor:
    return torch.randn(_N, 40, generator=torch.Generator().manual_seed(0))


def test_the_numbers_are_those_of_their_definitions(units: Tensor) -> None:
    concept = (torch.rand(_N, generator=torch.Generator().manual_seed(1)) < 0.1).float()
    units = units + 2 * concept[:, None] * (torch.arange(40) == 7)
    found = find_units(units, concept, "watermark", units=range(100, 140))
    assert found.units[0] == 107
    assert found[0].is_beyond_chance
    assert sorted(found.units) == list(range(100, 140))
    for one in found[:3]:
        values = units[:, one.unit - 100].double()
        squares = (values - values.min()).square()
        expected = np.corrcoef(squares.numpy(), concept.numpy())[0, 1]
        assert one.correlation == pytest.approx(expected, abs=1e-5)
        expected = average_precision_score(concept.numpy(), values.numpy())
        assert one.average_precision == pytest.approx(expected, abs=1e-5)
        assert one.chance == pytest.approx(float(concept.mean()))


def test_units_that_tell_nothing_are_seldom_beyond_chance(units: Tensor) -> None:
    n_wrong = 0
    for seed in range(40):
        concept = torch.rand(_N, generator=torch.Generator().manual_seed(100 + seed))
        n_wrong += find_units(units, concept)[0].is_beyond_chance
    assert n_wrong <= 6  # in one of 20 cases; above 6 of 40 in one of 100 experiments


def test_the_order_is_that_of_correlations_and_scale_does_not_matter(units: Tensor) -> None:
    concept = units[:, 3].exp()
    found = find_units(units, concept)
    correlations = [one.correlation for one in found]
    assert correlations == sorted(correlations, reverse=True)
    assert find_units(100 * units - 5, 7 * concept).units[:5] == found.units[:5]


def test_print_and_rows(units: Tensor) -> None:
    hostile = "<b>\x1b[31m"
    found = find_units(units, units[:, 0], hostile)
    assert str(found).startswith("'<b>\\\\x1b[31m': ") or "\x1b" not in str(found)
    assert "\x1b" not in str(found) + found._repr_html_()
    assert "<b>" not in found._repr_html_()
    assert list(pd.DataFrame(found.rows()).columns)[:2] == ["unit", "correlation"]
    assert "300 photos" in str(found)
    assert str(FoundUnits[FoundUnit]([], "text")) == "'text': 0 of 0 units beyond chance"


@pytest.mark.parametrize(
    ("scores", "error", "match"),
    [
        (torch.ones(_N), ValueError, "scores are the same on all photos"),
        (torch.rand(_N, 1), ValueError, r"scores has shape \(300, 1\), expected \(300,\)"),
        (torch.rand(7), ValueError, r"scores has shape \(7,\)"),
        (torch.full((_N,), float("nan")), ValueError, "scores has NaN"),
        ("text", TypeError, "scores is a str"),
    ],
)
def test_refuses_what_tells_nothing(units: Tensor, scores, error, match) -> None:
    with pytest.raises(error, match=match):
        find_units(units, scores)
    with pytest.raises(ValueError, match="activations has 7 photos, expected at least 20"):
        find_units(units[:7], torch.rand(7))


def test_in_print_they_stand_in_columns_and_long_lists_are_cut(units: Tensor) -> None:
    concept = torch.rand(_N, generator=torch.Generator().manual_seed(1))
    title, names, *rows = str(find_units(units, concept, "sky")).splitlines()
    assert title.startswith("'sky': ")
    assert names.split("  ")[-4:] == ["correlation", "average precision", "chance", "beyond chance"]
    assert len(rows) == 20 + 1  # and what they rest on
    assert len({len(line) for line in (names, *rows[:-1])}) == 1
    assert str(FoundUnits([], "sky")) == "'sky': 0 of 0 units beyond chance"


@pytest.mark.parametrize("sizes", [(4,), (1, 2, 3, 6)])
def test_crops_of_one_photo_make_no_unit_surer(sizes: tuple[int, ...]) -> None:
    rows = torch.arange(60).repeat_interleave(torch.tensor(sizes * 60)[:60])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(9))]
    n_wrong = n_wrong_untold = 0
    for seed in range(40):
        rng = torch.Generator().manual_seed(500 + seed)
        units, concept = torch.randn(60, 10, generator=rng), torch.randn(60, generator=rng)
        given = units[rows], concept[rows]
        n_wrong += any(u.is_beyond_chance for u in find_units(*given, together=rows, seed=seed))
        n_wrong_untold += any(u.is_beyond_chance for u in find_units(*given, seed=seed))
    assert n_wrong <= 6  # of 40, with 2 expected
    assert n_wrong_untold > 20


def test_each_photo_by_itself_is_the_same_as_no_groups(units: Tensor) -> None:
    concept = torch.rand(_N, generator=torch.Generator().manual_seed(1))
    assert find_units(units, concept) == find_units(units, concept, together=range(_N))
    with pytest.raises(ValueError, match="together has 2 different numbers, expected at least 20"):
        find_units(units, concept, together=torch.arange(_N) % 2)
