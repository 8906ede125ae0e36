"""The same fit without neurons and with random ones."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from helpers import feature_set
from torch import nn

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.edit import (
    HeadEdit,
    Judged,
    compare_heads,
    mend,
    run_controls,
    run_direction_controls,
)

N = 40
LABELS = torch.arange(N) % 2


def _edit(n_corrected: int, neurons=(3, 5), target: int = 0, labels=LABELS) -> HeadEdit:
    """All photos were wrong; the first ones are right."""
    head = nn.Linear(8, 3)
    logits = nn.functional.one_hot(1 - labels, 3).float()
    before = FeatureSet(torch.zeros(len(labels), 8), logits, labels)
    after = logits.clone()
    after[:n_corrected] = nn.functional.one_hot(labels, 3).float()[:n_corrected]
    edit = compare_heads(head, head, before, {target: list(neurons)})
    return replace(edit, judged=Judged(before, replace(before, logits=after), "photos"))


def test_numbers_by_hand() -> None:
    calls: list[tuple[int, ...]] = []

    def fit(neurons):
        calls.append(tuple(neurons))
        return _edit(10 if not neurons else 12 + 2 * (len(calls) % 2))

    without, random = run_controls(fit, _edit(20), n_draws=2)
    assert (without.name, random.name) == ("without neurons", "with 2 random neurons")
    assert (without.n_corrected, without.n_broken, without.n_draws) == (10, 0, 1)
    assert without.overall_change == pytest.approx(10 / N)
    assert without.target_change == pytest.approx(5 / 20)
    assert without.p_value == pytest.approx(2 / 2**10)  # the edit mends ten more
    assert (random.n_corrected, random.n_draws) == (13, 2)
    assert random.overall_change == pytest.approx(13 / N)
    assert random.p_value == pytest.approx(2 / 2**6)  # of six and eight more


def test_a_method_that_needs_neurons_has_no_control_without() -> None:
    found = run_controls(lambda _: _edit(12), _edit(20), n_draws=1, without=False)
    assert [control.name for control in found] == ["with 2 random neurons"]


@pytest.mark.parametrize(
    ("n_corrected", "sentence"),
    [
        (4, "The direction of the cue matters: +50.0 points over all photos with it, and by the"),
        (18, "The direction of the cue does better than the same fit with a random direction"),
        (
            20,
            "The same fit with a random direction does as well: +50.0 points over all photos; the",
        ),
    ],
)
def test_random_directions_by_hand(n_corrected: int, sentence: str) -> None:
    seeds: list[int] = []

    def fit(seed: int) -> HeadEdit:
        seeds.append(seed)
        return _edit(n_corrected)

    edit = _edit(20)
    (control,) = run_direction_controls(fit, edit, n_draws=3, seed=7)
    assert seeds == [7, 8, 9]
    assert (control.n_corrected, control.n_draws, control.of) == (n_corrected, 3, "direction")
    assert edit.with_verdict([control]).verdict.about_neurons.startswith(sentence)


def test_random_directions_need_something_to_judge_by() -> None:
    with pytest.raises(ValueError, match="n_draws=0, expected at least 1"):
        run_direction_controls(_edit, _edit(20), n_draws=0)
    with pytest.raises(ValueError, match="the edit was not judged"):
        run_direction_controls(_edit, replace(_edit(20), judged=None))


def test_random_neurons_are_others_and_the_seeds() -> None:
    def drawn(neurons=(3, 5), **options):
        calls = []

        def fit(some):
            calls.append(tuple(some))
            return _edit(1)

        run_controls(fit, _edit(20, neurons), **options)
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
    assert {len(set(draw)) for draw in drawn(range(6))[1:]} == {6}
    assert {len(set(draw)) for draw in drawn(range(8))[1:]} == {8}


def test_nothing_to_compare_with() -> None:
    def fit(neurons):
        raise AssertionError("no fit is needed")

    assert run_controls(fit, _edit(20, ())) == ()
    assert run_controls(fit, _edit(0, labels=LABELS[:0])) == ()
    with pytest.raises(ValueError, match="n_draws=0, expected at least 1"):
        run_controls(fit, _edit(20), n_draws=0)
    with pytest.raises(ValueError, match=r"the edit was not judged: expected one of judge"):
        run_controls(fit, replace(_edit(20), judged=None))


def test_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="fit judges by 30 samples, the edit was judged by 40"):
        run_controls(lambda neurons: _edit(1, labels=LABELS[:30]), _edit(20))


def test_a_class_without_samples_has_no_change() -> None:
    without, random = run_controls(lambda neurons: _edit(3), _edit(20, target=2))
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
        return mend(head, train, validation, met, target=1, max_cost=0.0, **some).judge(test)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        edit = fit([0, 1])
        by_hand = fit([]).verdict
    # That a control keeps the original head is no warning.
    without, random = run_controls(fit, edit, n_draws=2)
    assert (without.n_corrected, without.n_broken) == (by_hand.n_corrected, by_hand.n_broken)
    assert without.overall_change == pytest.approx(by_hand.overall_change.value)
    assert random.n_draws == 2
    found = edit.with_verdict([without, random]).verdict
    assert found.controls == (without, random)
    assert found.about_neurons


def test_several_classes_are_refused() -> None:
    head = nn.Linear(4, 3)
    data = feature_set(head, torch.rand(9, 4), torch.arange(9) % 3)
    edit = compare_heads(head, head, data, {0: [1], 2: [3]})
    with pytest.raises(ValueError, match="2 classes edited"):
        run_controls(lambda neurons: edit, edit.judge(data))
