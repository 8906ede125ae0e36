"""What a session's edit is judged by, beside what, and whether it is kept."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import pytest
import torch
from session_examples import loaded, photos, session

from captum_neuroinspect.analysis import mistakes_about
from captum_neuroinspect.edit import (
    HeadEdit,
    Verdict,
    _result,
    cue_direction,
    edit_head,
    mend,
    remove_cue,
)
from captum_neuroinspect.inspection import NeuroInspect


def _with_test(n: int = 60) -> NeuroInspect:
    made = session()
    made.load(photos(), test=photos(n, seed=4))
    return made


def _quietly(function, *arguments, **options) -> HeadEdit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(*arguments, **options)


def _by_hand(made: NeuroInspect, method: str, **options) -> Verdict:
    """The same fit without neurons, on the test photos."""
    data = made.data
    train, met, validation, test = (
        getattr(data, role).features for role in ("train", "deployment", "validation", "test")
    )
    if method == "mend":
        plain = _quietly(mend, made.head, train, validation, met, target=0, n_neurons=0)
    else:
        options = {"neurons": [1], "strength": 0.0, "mistakes": mistakes_about(met, 0), **options}
        plain = _quietly(edit_head, made.head, train, validation, target=0, **options)
    return plain.judge(test).verdict


@pytest.mark.parametrize("method", ["mend", "equation8"])
def test_the_test_photos_judge_the_edit_and_its_controls(method: str) -> None:
    made = _with_test()
    edit = _quietly(made.edit, "apple", [8, 4], method=method)
    test = made.data.test.features
    found = edit.verdict
    before, after = test.is_correct, test.with_head(edit.head).is_correct
    assert found.n_judged == 60
    assert found.rests_on == "60 photos that were used for nothing else"
    assert (found.n_corrected, found.n_broken) == (
        int((~before & after).sum()),
        int((before & ~after).sum()),
    )
    assert edit.is_kept == (found.decision == "keep")
    without, random = found.controls
    by_hand = _by_hand(made, method)
    assert (without.n_corrected, without.n_broken) == (by_hand.n_corrected, by_hand.n_broken)
    assert without.name == "without neurons"
    assert (random.name, random.n_draws) == ("with 2 random neurons", 5)
    assert found.about_neurons in edit.summary()


def test_a_cue_is_located_by_deployment_mistakes_and_removed_without_them() -> None:
    made = _with_test()
    train, met, validation, test = (
        getattr(made.data, role).features for role in ("train", "deployment", "validation", "test")
    )
    direction = cue_direction(met.mistakes(0), train)
    assert torch.equal(made.cue("apple").shift, direction.shift)
    by_hand = remove_cue(made.head, train, validation, target=0, cue=direction, seed=0)
    edit = made.edit("apple", method="remove_cue")
    assert torch.equal(edit.head.weight, by_hand.head.weight)
    assert replace(edit.verdict, controls=(), neurons_matter=None) == by_hand.judge(test).verdict
    (control,) = edit.verdict.controls
    assert (control.name, control.n_draws) == ("with a random direction", 5)
    drawn = [
        remove_cue(made.head, train, validation, target=0, cue=direction.drawn(seed), seed=0)
        for seed in range(5)
    ]
    counts = [one.judge(test).verdict.n_corrected for one in drawn]
    assert control.n_corrected == pytest.approx(sum(counts) / 5)
    by_neurons = remove_cue(made.head, train, validation, target=0, cue=[8, 4], seed=0)
    edit = made.edit("apple", [8, 4], method="remove_cue")
    assert torch.equal(edit.head.weight, by_neurons.head.weight)
    assert [one.name for one in edit.verdict.controls] == ["with 2 random neurons"]


def test_the_same_seed_gives_the_same_verdict() -> None:
    one, other = (_quietly(_with_test().edit, "apple", [8, 4]).verdict for _ in range(2))
    assert one == other


def test_retraining_of_the_neurons_alone_is_compared_with_retraining_of_the_class() -> None:
    made = _with_test()
    edit = _quietly(made.edit, "apple", [8, 4], method="equation8", scope="neurons")
    by_hand = _by_hand(made, "equation8", scope="class")
    without, _ = edit.verdict.controls
    assert (without.n_corrected, without.n_broken) == (by_hand.n_corrected, by_hand.n_broken)


def test_an_original_that_came_back_is_not_kept_even_by_who_insists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["captum_neuroinspect.edit.mend"], "_FEWEST", 1000)
    edit = _quietly(_with_test().edit, "apple", [8, 4], keep_anyway=True)
    assert edit.is_original
    assert not edit.is_kept
    assert edit.verdict.decision == "do not keep"
    assert "the fit gave no other head than the original" in edit.verdict.sentence


def test_with_few_photos_the_held_out_ones_judge_in_turn_and_the_controls_too() -> None:
    made = loaded()
    edit = _quietly(made.edit, "apple", [8, 4], method="equation8")
    n_held_out = len(made.data.held_out.features)
    assert edit.verdict.n_judged == n_held_out
    assert edit.verdict.rests_on == f"{n_held_out} photos, cross-fitted over 5 folds"
    assert [control.n_draws for control in edit.verdict.controls] == [1, 5]
    assert edit.is_kept == (edit.verdict.decision == "keep")
    assert made.last_edit is edit


@pytest.mark.parametrize("decision", ["keep", "do not keep", "cannot tell"])
@pytest.mark.parametrize("keep_anyway", [False, True])
def test_the_original_stays_unless_the_edit_is_kept(
    monkeypatch: pytest.MonkeyPatch, decision: str, keep_anyway: bool
) -> None:
    rule = _result.verdict_on
    monkeypatch.setattr(
        _result, "verdict_on", lambda *a, **o: replace(rule(*a, **o), decision=decision)
    )
    made = _with_test()
    original = made.head.weight.clone()
    edit = _quietly(made.edit, "apple", [8, 4], max_cost=1.0, keep_anyway=keep_anyway)
    assert edit.verdict.decision == decision
    assert torch.equal(made.head.weight, original)
    assert not torch.equal(edit.head.weight, original)  # on record in any case
    if keep_anyway or decision == "keep":
        edit.apply_(made.model.model)
        assert torch.equal(made.head.weight, edit.head.weight)
    else:
        with pytest.warns(UserWarning, match="the original head stays in the model"):
            edit.apply_(made.model.model)
        assert torch.equal(made.head.weight, original)
