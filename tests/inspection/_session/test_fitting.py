"""What a session's edit is judged by, beside what, and whether it is kept."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from session_examples import loaded, photos, session

from captum_neuroinspect import edit as edits
from captum_neuroinspect.edit import HeadEdit, edit_head, mend
from captum_neuroinspect.inspection.explaining import mistakes_about
from captum_neuroinspect.inspection.session import NeuroInspect


def _with_test(n: int = 60) -> NeuroInspect:
    made = session()
    made.load(photos(180), test=photos(n, seed=4))
    return made


def _quietly(function, *arguments, **options) -> HeadEdit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(*arguments, **options)


@pytest.mark.parametrize("method", ["mend", "equation8"])
def test_the_test_photos_judge_the_edit_and_its_controls(method: str) -> None:
    made = _with_test()
    edit = _quietly(made.edit, "apple", [8, 4], method=method)
    material = made.material
    train, met, validation, test = (
        getattr(material, role).features for role in ("train", "deployment", "validation", "test")
    )
    found = edit.verdict
    before, after = test.is_correct, test.with_head(edit.head).is_correct
    assert found.n_judged == 60
    assert (found.n_mended, found.n_broken) == (
        int((~before & after).sum()),
        int((before & ~after).sum()),
    )
    assert edit.is_kept == (found.decision == "keep")
    if method == "mend":
        plain = _quietly(mend, made.head, train, validation, met, target=0, n_neurons=0)
    else:
        wrong = mistakes_about(met, 0)
        plain = _quietly(
            edit_head, made.head, train, validation, target=0, neurons=[1], strength=0.0,
            mistakes=wrong,
        )  # fmt: skip
    without, random = found.controls
    by_hand = plain.outcome(test)
    assert (without.n_mended, without.n_broken) == (by_hand.n_mended, by_hand.n_broken)
    assert without.name == "without neurons"
    assert (random.name, random.n_draws) == ("with 2 random neurons", 5)
    assert found.about_neurons in edit.summary()
    assert found.rests_on == "60 photos that served for nothing else"
    assert edit.settings["roles"] == material.roles()


def test_the_same_seed_gives_the_same_verdict() -> None:
    one, other = (_quietly(_with_test().edit, "apple", [8, 4]).verdict for _ in range(2))
    assert one == other


def test_retraining_of_the_neurons_alone_is_compared_with_retraining_of_the_class() -> None:
    made = _with_test()
    edit = _quietly(made.edit, "apple", [8, 4], method="equation8", scope="neurons")
    train, validation = made.material.train.features, made.material.validation.features
    wrong = mistakes_about(made.material.deployment.features, 0)
    plain = _quietly(
        edit_head, made.head, train, validation, target=0, neurons=[1], strength=0.0,
        mistakes=wrong, scope="class",
    )  # fmt: skip
    by_hand = plain.outcome(made.material.test.features)
    without, _ = edit.verdict.controls
    assert (without.n_mended, without.n_broken) == (by_hand.n_mended, by_hand.n_broken)


def test_without_test_photos_those_of_data_judge() -> None:
    made = session()
    made.load(photos(300))
    edit = _quietly(made.edit, "apple", [8, 4])
    assert edit.verdict.rests_on == "75 photos that served for nothing else"
    assert edit.verdict.n_judged == len(made.material.test.features) == 75
    assert {control.name for control in edit.verdict.controls} == {
        "without neurons",
        "with 2 random neurons",
    }


@pytest.mark.parametrize("method", ["mend", "equation8"])
def test_few_photos_judge_in_turn(method: str) -> None:
    made = loaded()
    held = made.material.held_out.features
    edit = _quietly(made.edit, "apple", [8, 4], method=method)
    assert edit.verdict.rests_on == f"{len(held)} photos, cross-fitted over 5 folds"
    assert edit.verdict.n_judged == len(held)
    found = made.compare()
    assert torch.equal(found.before.indices, held.indices)
    assert (len(found.rows("mended")), len(found.rows("broken"))) == (
        edit.verdict.n_mended,
        edit.verdict.n_broken,
    )
    assert found.edit.before.accuracy == pytest.approx(held.accuracy())
    assert "cross-fitted over 5 folds" in str(found)


def test_photos_that_taught_do_not_judge() -> None:
    """The same photos as data and as test, and copies of some of them."""
    made = session()
    with pytest.raises(ValueError, match="test= are the same photos as data="):
        made.load(photos(), test=photos())
    images, labels = photos()
    more = photos(60, seed=4)
    test = torch.cat([images[:6], more[0]]), torch.cat([labels[:6], more[1]])
    with pytest.warns(UserWarning, match="6 of 66 photos of test are the same as in data"):
        made.load((images, labels), test=test)
    edit = _quietly(made.edit, "apple", [8, 4])
    assert edit.verdict.n_judged == 60


@pytest.mark.parametrize("decision", ["keep", "do not keep", "cannot tell"])
@pytest.mark.parametrize("keep_anyway", [False, True])
def test_the_original_stays_unless_the_edit_is_kept(
    monkeypatch: pytest.MonkeyPatch, decision: str, keep_anyway: bool
) -> None:
    rule = edits.verdict_on
    monkeypatch.setattr(
        edits, "verdict_on", lambda *a, **o: replace(rule(*a, **o), decision=decision)
    )
    made = _with_test()
    original = made.head.weight.clone()
    edit = _quietly(
        made.edit, "apple", [8, 4], method="mend", max_cost=1.0, keep_anyway=keep_anyway
    )
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
