from __future__ import annotations

import math
import runpy
from pathlib import Path

import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from captum_neuroinspect.describe.agreement import area_under_roc, average_precision, most_active
from captum_neuroinspect.experiments.soft_wpmi import soft_wpmi

FILE = Path(__file__).parents[1] / "benchmarks" / "describe_references.py"
REFERENCES = runpy.run_path(str(FILE))
mean_cosine, rank_correlation = REFERENCES["mean_cosine"], REFERENCES["rank_correlation"]
strong_correlation = REFERENCES["strong_correlation"]


@pytest.fixture
def values() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    # Many equal values in both.
    activations = torch.randn(60, 3, generator=rng).relu()
    return activations, (2 * torch.randn(60, 4, generator=rng)).round()


def test_rank_correlation_is_spearmans(values) -> None:
    activations, scores = values
    expected = [[spearmanr(a, s).statistic for s in scores.T] for a in activations.T]
    torch.testing.assert_close(rank_correlation(*values), torch.tensor(expected).float())


def test_rank_correlation_of_a_constant_is_0() -> None:
    assert rank_correlation(torch.ones(9, 1), torch.arange(9.0)[:, None]).tolist() == [[0]]


def test_average_precision_is_scikit_learns_also_with_equal_scores(values) -> None:
    activations, scores = values
    is_on = most_active(activations, 0.2)
    expected = [average_precision_score(on, s) for on, s in zip(is_on.T, scores.T, strict=False)]
    found = average_precision(is_on, scores[:, :3])
    torch.testing.assert_close(found, torch.tensor(expected).float())


def test_the_area_under_roc_is_scikit_learns_also_with_equal_scores(values) -> None:
    activations, scores = values
    is_on = most_active(activations, 0.2)
    expected = [roc_auc_score(on, s) for on, s in zip(is_on.T, scores.T, strict=False)]
    found = area_under_roc(is_on, scores[:, :3])
    torch.testing.assert_close(found, torch.tensor(expected).float())
    assert area_under_roc(torch.zeros(5, 1).bool(), torch.rand(5, 1)).isnan().all()


def test_average_precision_is_nan_where_nothing_is_on() -> None:
    assert average_precision(torch.zeros(5, 1).bool(), torch.rand(5, 1)).isnan().all()


def test_most_active_are_the_share_at_least_five_and_those_equal_to_the_last() -> None:
    activations = torch.arange(100.0)[:, None]
    assert most_active(activations, 0.1)[:, 0].nonzero()[:, 0].tolist() == list(range(90, 100))
    assert int(most_active(activations, 0.01).sum()) == 5
    activations[88:] = 100
    assert int(most_active(activations, 0.1).sum()) == 12


def test_a_unit_that_is_mostly_off_is_on_where_it_is_active() -> None:
    activations = torch.zeros(100, 1)
    activations[:3] = 1
    assert most_active(activations, 0.1)[:, 0].nonzero()[:, 0].tolist() == [0, 1, 2]


def test_strong_correlation_is_pearsons_with_squared_activations(values) -> None:
    activations, scores = values
    expected = [[pearsonr(a.square(), s).statistic for s in scores.T] for a in activations.T]
    found = strong_correlation(activations, scores)
    torch.testing.assert_close(found, torch.tensor(expected).float(), rtol=1e-4, atol=1e-5)
    assert strong_correlation(activations + 7, scores).allclose(found, atol=1e-5)
    assert not strong_correlation(torch.ones(60, 1), scores).any()


def test_mean_cosine_is_of_the_top_photos_less_that_of_all() -> None:
    activations = torch.tensor([[0.0], [3.0], [2.0], [1.0]])
    scores = torch.tensor([[0.0], [0.4], [0.2], [0.2]])
    assert mean_cosine(activations, scores, n_photos=2).item() == pytest.approx(0.3 - 0.2)


def test_soft_wpmi_is_the_published_formula() -> None:
    rng = torch.Generator().manual_seed(1)
    activations, scores = torch.randn(7, 2, generator=rng), torch.rand(7, 3, generator=rng)
    given = [[math.exp(10 * s) / sum(math.exp(10 * t) for t in row) for s in row]
             for row in scores.double().tolist()]  # fmt: skip
    found = []
    for unit in activations.T.tolist():
        top = sorted(range(7), key=lambda photo: -unit[photo])[:4]
        belongs = [0.998 - k / 4 * (0.998 - 0.97) for k in range(4)]
        found.append(
            [
                sum(
                    math.log(1 + b * (given[photo][p] - 1))
                    for b, photo in zip(belongs, top, strict=True)
                )
                for p in range(3)
            ]
        )
    usual = [math.log(sum(math.exp(row[p]) for row in found) / 2) for p in range(3)]
    expected = torch.tensor(found) - torch.tensor(usual)
    torch.testing.assert_close(
        soft_wpmi(activations, scores, n_photos=4), expected, rtol=1e-4, atol=1e-5
    )


def test_a_label_is_on_wherever_it_is_also_on_most_photos() -> None:
    label = torch.ones(100, 2)
    label[:40, 0] = 0
    assert most_active(label, 0.05).sum(0).tolist() == [60, 0]
