"""The same fit without neurons and with random ones."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from helpers import feature_set
from torch import nn

from captum_neuroinspect.edit import Paired, compare_heads, controls_by, mend, run_controls

N = 40
LABELS = torch.arange(N) % 2


def _paired(n_mended: int) -> Paired:
    """All were wrong; the first ones are right."""
    return Paired(LABELS, torch.zeros(N, dtype=torch.bool), torch.arange(N) < n_mended)


def _run(outcome, neurons=(3, 5), **options):
    options = {"target": 0, "neurons": neurons, "n_features": 8, **options}
    return controls_by(outcome, _paired(20), **options)


def test_numbers_by_hand() -> None:
    calls: list[tuple[int, ...]] = []

    def outcome(neurons):
        calls.append(tuple(neurons))
        return _paired(10 if not neurons else 12 + 2 * (len(calls) % 2))

    without, random = _run(outcome, n_draws=2)
    assert (without.name, random.name) == ("without neurons", "with 2 random neurons")
    assert (without.n_mended, without.n_broken, without.n_draws) == (10, 0, 1)
    assert without.overall_change == pytest.approx(10 / N)
    assert without.target_change == pytest.approx(5 / 20)
    assert without.p_value == pytest.approx(2 / 2**10)  # the edit mends ten more
    assert (random.n_mended, random.n_draws) == (13, 2)
    assert random.overall_change == pytest.approx(13 / N)
    assert random.p_value == pytest.approx(2 / 2**6)  # of six and eight more


def test_random_neurons_are_others_and_the_seeds() -> None:
    def drawn(**options):
        calls = []

        def outcome(neurons):
            calls.append(tuple(neurons))
            return _paired(1)

        _run(outcome, **options)
        return calls

    first, *draws = drawn()
    assert first == ()
    assert len(draws) == 5
    for draw in draws:
        assert len(set(draw)) == 2
        assert not {3, 5} & set(draw)
    assert len(set(draws)) > 1
    assert drawn() == [first, *draws]
    assert drawn(seed=1) != [first, *draws]
    # Too few others: any neurons.
    assert {len(set(draw)) for draw in drawn(neurons=range(6))[1:]} == {6}
    assert {len(set(draw)) for draw in drawn(neurons=range(8))[1:]} == {8}


def test_nothing_to_compare_with() -> None:
    def outcome(neurons):
        raise AssertionError("no fit is needed")

    assert _run(outcome, neurons=()) == ()
    empty = _paired(0).of_classes([7])
    assert controls_by(outcome, empty, target=0, neurons=[1], n_features=8) == ()
    with pytest.raises(ValueError, match="n_draws=0, expected at least 1"):
        _run(outcome, n_draws=0)


def test_a_class_without_samples_has_no_change() -> None:
    without, random = _run(lambda neurons: _paired(3), target=9)
    assert without.target_change is None
    assert random.target_change is None


def test_they_are_the_same_fit() -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 2)
    labels = torch.arange(120) // 4 % 2
    z = torch.rand(120, 8) + 0.3 * nn.functional.one_hot(labels, 8)
    train, validation, met, test = (feature_set(head, z[i::4], labels[i::4]) for i in range(4))

    def fit(neurons):
        some = {"neurons": list(neurons)} if neurons else {"n_neurons": 0}
        return mend(head, train, validation, met, target=1, max_cost=0.0, **some)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        edit = fit([0, 1])
        by_hand = fit([]).outcome(test)
    # That a control keeps the original head is no warning.
    without, random = run_controls(fit, edit, test, n_draws=2)
    assert (without.n_mended, without.n_broken) == (by_hand.n_mended, by_hand.n_broken)
    assert without.overall_change == pytest.approx(by_hand.change.value)
    assert random.n_draws == 2
    found = edit.judge(test, controls=[without, random]).verdict
    assert found.controls == (without, random)
    assert found.about_neurons


def test_several_classes_are_refused() -> None:
    head = nn.Linear(4, 3)
    data = feature_set(head, torch.rand(9, 4), torch.arange(9) % 3)
    edit = compare_heads(head, head, data, {0: [1], 2: [3]})
    with pytest.raises(ValueError, match="2 classes were mended"):
        run_controls(lambda neurons: replace(edit), edit, data)
