import torch
from helpers import nudged
from torch import nn

from captum_neuroinspect.features import FeatureSet
from captum_neuroinspect.inspection.demo.edits import (
    MAX_COST,
    RECIPES,
    Candidate,
    best_of,
    choose,
    try_edits,
)


def _candidate(recipe: int, target: float, others: float, overall: float) -> Candidate:
    return Candidate(RECIPES[recipe], None, target, others, overall)


def test_choose_takes_the_largest_sum_of_gains() -> None:
    candidates = [_candidate(0, 0.1, 0.0, 0.02), _candidate(1, 0.3, -0.1, 0.0)]

    assert choose(candidates) is candidates[1]


def test_choose_refuses_what_costs_too_much_overall() -> None:
    swallows = _candidate(2, 0.9, -0.2, -MAX_COST - 0.001)
    modest = _candidate(0, 0.05, 0.0, 0.01)

    assert choose([swallows, modest]) is modest


def test_choose_never_takes_the_comparison() -> None:
    comparison = len(RECIPES) - 1
    assert RECIPES[comparison].is_comparison
    candidates = [_candidate(comparison, 0.9, 0.1, 0.2), _candidate(0, 0.1, 0.0, 0.0)]

    assert choose(candidates) is candidates[1]


def test_choose_keeps_the_head_when_nothing_gains() -> None:
    candidates = [_candidate(0, 0.0, 0.0, 0.0), _candidate(1, -0.1, 0.0, -0.005)]

    assert choose(candidates) is None
    assert best_of(candidates) is candidates[0]


def test_best_of_falls_back_to_all_when_none_is_allowed() -> None:
    candidates = [_candidate(1, 0.2, -0.9, -0.5), _candidate(2, 0.9, -0.9, -0.5)]

    assert choose(candidates) is None
    assert best_of(candidates) is candidates[1]


def test_try_edits_skips_recipes_that_need_mistakes_and_counts_gains_by_hand() -> None:
    torch.manual_seed(0)
    head = nn.Linear(60, 3)
    features = torch.rand(40, 60)
    labels = torch.arange(40) % 3
    data = FeatureSet(features, head(features).detach(), labels)

    candidates = try_edits(
        head, nudged(data), data, None, target=1, neurons=tuple(range(55)), seed=0
    )

    assert [c.recipe for c in candidates] == [r for r in RECIPES if not r.with_mistakes]
    for candidate in candidates:
        after = data.with_head(candidate.edit.head)
        expected = after.class_accuracy()[1] - data.class_accuracy()[1]
        assert abs(candidate.target_gain - float(expected)) < 1e-6
        assert abs(candidate.overall_gain - (after.accuracy() - data.accuracy())) < 1e-6
        assert len(candidate.edit.neurons) == candidate.recipe.n_neurons
