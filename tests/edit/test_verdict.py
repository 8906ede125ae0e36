"""The rule that decides about an edit, by counts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from helpers import feature_set
from torch import nn

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.edit import (
    Control,
    HeadEdit,
    Paired,
    Verdict,
    compare_heads,
    cross_fit,
    edit_head,
    fit_and_judge,
    mend,
    verdict_on,
)
from captum_neuroinspect.edit.verdict import UNJUDGED

Counts = tuple[int, int, int]  # samples of a class, corrected, broken
NAMES = ("ant", "bee", "cow")


def judged(*classes: Counts) -> Paired:
    """Class by class: corrected, broken, and the rest right in both."""
    labels, before, after = [], [], []
    for label, (n, n_corrected, n_broken) in enumerate(classes):
        labels += [label] * n
        before += [False] * n_corrected + [True] * (n - n_corrected)
        after += [True] * n_corrected + [False] * n_broken + [True] * (n - n_corrected - n_broken)
    rights = (torch.tensor(one, dtype=torch.bool) for one in (before, after))
    return Paired(torch.tensor(labels, dtype=torch.int64), *rights)


@pytest.mark.parametrize(
    ("counts", "decision", "words"),
    [
        # Clearly more corrected than broken, and the class gains.
        (((20, 8, 0), (40, 1, 1)), "keep", "a gain of 40.0 points for 'ant'"),
        (((20, 6, 0), (40, 0, 0)), "keep", "no class loses"),
        (((20, 9, 1), (20, 0, 0)), "keep", "(p = 0.021)"),
        # Within chance: 5 to 0 (p = 0.0625), 7 to 1 (p = 0.0703).
        (((20, 5, 0), (40, 0, 0)), "cannot tell", "within chance (p = 0.062)"),
        (((20, 7, 0), (40, 0, 1)), "cannot tell", "within chance (p = 0.07)"),
        # As many, or more, are broken.
        (((20, 3, 0), (40, 0, 3)), "do not keep", "3 are corrected and 3 broken"),
        (((20, 10, 0), (220, 0, 17)), "do not keep", "10 are corrected and 17 broken"),
        (((20, 0, 1), (40, 0, 0)), "do not keep", "0 are corrected and 1 broken"),
        (
            ((20, 0, 0), (40, 0, 0)),
            "do not keep",
            "none of 60 photos is corrected, and none broken",
        ),
        # A class loses more than chance allows, by its own photos: 5 to 0 do, 4 to 0 do not.
        (((30, 20, 0), (12, 0, 5)), "do not keep", "'bee' loses more than chance allows"),
        (
            ((30, 20, 0), (12, 0, 4)),
            "keep",
            "the largest loss is that of 'bee', from 100.0 to 66.7",
        ),
        (((30, 20, 0), (12, 1, 6), (9, 0, 0)), "keep", "'bee', from 91.7 to 50.0 %"),
        # Half of what was right in a class, or more, and at least two: too few to tell.
        (
            ((30, 20, 0), (12, 0, 0), (4, 0, 4)),
            "cannot tell",
            "'cow' may be lost, 4 right",
        ),
        (
            ((30, 20, 0), (12, 0, 0), (4, 0, 2)),
            "cannot tell",
            "4 right before and 2 after",
        ),
        (((30, 20, 0), (12, 0, 0), (3, 0, 2)), "cannot tell", "3 right before and 1 after"),
        (
            ((30, 20, 0), (12, 0, 0), (2, 0, 2)),
            "cannot tell",
            "0 after of 2 photos, too few",
        ),
        (
            ((30, 20, 0), (14, 2, 8)),
            "cannot tell",
            "12 right before and 6 after",
        ),
        (((30, 20, 0), (14, 2, 7)), "keep", "'bee', from 85.7 to 50.0 %"),
        (((30, 20, 0), (12, 0, 0), (5, 0, 2)), "keep", "'cow', from 100.0 to 60.0 %"),
        (((30, 20, 0), (12, 0, 0), (2, 0, 1)), "keep", "'cow', from 100.0 to 50.0 %"),
        (((30, 20, 0), (12, 0, 0), (1, 0, 1)), "keep", "'cow', from 100.0 to 0.0 %"),
        (((30, 20, 0), (12, 0, 0), (5, 0, 5)), "do not keep", "'cow' loses more than chance"),
        (((30, 5, 0), (12, 0, 0), (2, 0, 2)), "cannot tell", "within chance"),
        # The class itself does not gain.
        (((20, 0, 0), (40, 9, 0)), "do not keep", "no gain for 'ant' (0 corrected, 0 broken)"),
        (((20, 2, 2), (40, 9, 0)), "do not keep", "no gain for 'ant' (2 corrected, 2 broken)"),
        (((20, 0, 5), (60, 30, 0)), "do not keep", "'ant' loses more than chance allows"),
        # Too few photos, or none of the class.
        (
            ((10, 8, 0), (9, 0, 0)),
            "cannot tell",
            "fewer than 20 photos judge it; of 19 photos 8 are",
        ),
        (((1, 1, 0),), "cannot tell", "of 1 photo 1 are corrected"),
        (((0, 0, 0), (40, 9, 0)), "cannot tell", "no photo of 'ant' judges it"),
        (((0, 0, 0), (40, 3, 9)), "do not keep", "3 are corrected and 9 broken"),
        (((0, 0, 0),), "cannot tell", "no photos judged it"),
    ],
)
def test_the_rule(counts: tuple[Counts, ...], decision: str, words: str) -> None:
    found = verdict_on(judged(*counts), [0], class_names=NAMES)
    assert found.decision == decision, found.sentence
    assert words in found.sentence
    assert found.sentence.lower().startswith(decision)
    assert found.n_judged == sum(n for n, _, _ in counts)
    assert found.n_corrected == sum(corrected for _, corrected, _ in counts)
    assert found.n_broken == sum(broken for _, _, broken in counts)


def test_the_numbers_by_hand() -> None:
    found = verdict_on(judged((20, 9, 1), (30, 0, 3), (10, 0, 2)), [0], class_names=NAMES)
    assert found.p_value is not None
    assert found.p_value == pytest.approx(2 * sum([1, 15, 105, 455, 1365, 3003, 5005]) / 2**15)
    assert found.overall_change is not None
    assert found.overall_change.value == pytest.approx(3 / 60)
    assert found.target_gain is not None
    assert found.target_gain.value == pytest.approx(8 / 20)
    worst = found.worst_class
    assert worst is not None
    # Cow loses 20 points, bee 10.
    assert (worst.name, worst.index, worst.n_judged, worst.n_broken) == ("cow", 2, 10, 2)
    assert (worst.before, worst.after, worst.change) == pytest.approx((1.0, 0.8, -0.2))
    assert "'cow', from 100.0 to 80.0 % (10 photos, 0 corrected, 2 broken)" in found.sentence
    assert found.rests_on == "60 photos that were used for nothing else"
    other = verdict_on(judged((20, 9, 1)), [0], rests_on="cross-fitted over 3 folds, 180 photos")
    assert other.rests_on == "cross-fitted over 3 folds, 180 photos"


def test_several_targets_gain_together() -> None:
    found = verdict_on(judged((20, 5, 0), (20, 4, 0), (20, 0, 1)), [1, 0], class_names=NAMES)
    assert found.decision == "keep"
    assert "a gain of 22.5 points for the edited classes" in found.sentence
    assert found.target_gain is not None
    assert found.target_gain.value == pytest.approx(9 / 40)


@pytest.mark.parametrize(
    ("max_cost", "decision"), [(None, "keep"), (0.05, "keep"), (0.049, "do not keep")]
)
def test_a_cap_on_what_all_other_classes_lose(max_cost: float | None, decision: str) -> None:
    """Of 40 photos of the target 12 are corrected, of 60 others 3 broken: a cost of exactly .05."""
    labels = torch.tensor([0] * 40 + [1] * 20 + [2] * 20 + [3] * 20)
    before, after = torch.ones(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)
    before[:12] = False
    after[[40, 60, 80]] = False
    found = verdict_on(Paired(labels, before, after), [0], max_cost=max_cost)
    assert found.decision == decision
    assert found.others_change.value == pytest.approx(-0.05)
    assert ("other classes lose 5.0 points, more than max_cost" in found.sentence) == (
        decision != "keep"
    )
    assert ("points allowed" in found._repr_html_()) == (max_cost is not None)


def test_the_cap_goes_along_with_an_edit() -> None:
    head, other = _heads()
    edit = compare_heads(head, other, _set(head), {1: [0]}).judge(_set(head, seed=1), max_cost=0.3)
    assert edit.verdict.max_cost == 0.3
    assert edit.with_verdict().verdict == edit.verdict
    assert "-30.0 points allowed" in edit.summary()
    with pytest.raises(ValueError, match=r"max_cost=1\.5, expected"):
        edit.judge(_set(head, seed=2), max_cost=1.5)


def test_the_worst_class_is_none_where_no_class_loses() -> None:
    found = verdict_on(judged((20, 9, 0), (20, 1, 1)), [0])
    assert found.worst_class is None
    assert found.sentence.endswith("no class loses.")


def test_chance_is_seldom_kept() -> None:
    """Heads that differ by noise, on labels that are noise: at most 5 % are kept."""
    generator = torch.Generator().manual_seed(0)

    def noise(n: int) -> torch.Tensor:
        return torch.rand(n, generator=generator) < 0.5

    kept = 0
    for _ in range(400):
        n = 60
        labels = torch.randint(4, (n,), generator=generator)
        found = verdict_on(Paired(labels, noise(n), noise(n)), [0])
        kept += found.decision == "keep"
    assert kept <= 20


def test_mend_on_noise_is_seldom_kept() -> None:
    """The whole way: labels that nothing in the features tells."""
    decisions = []
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        head = nn.utils.skip_init(nn.Linear, 8, 3)
        with torch.no_grad():
            head.weight.copy_(torch.randn(3, 8, generator=generator))
            head.bias.zero_()
        labels = torch.randint(3, (160,), generator=generator)
        z = torch.rand(160, 8, generator=generator)
        parts = [
            feature_set(head, z[i::4], labels[i::4]) for i in range(4)
        ]  # train, validation, met, test
        edit = mend(head, *parts[:3], target=0, neurons=[0, 1], max_cost=1.0)
        decisions.append(edit.judge(parts[3]).verdict.decision)
    assert decisions.count("keep") <= 3
    assert len(set(decisions)) > 1


# --- controls ------------------------------------------------------------------------


def _control(change: float, p_value: float, **more) -> Control:
    net = 60 * change
    more = {"name": "without neurons", "target_change": change, **more}
    return Control(overall_change=change, n_corrected=net, n_broken=0, p_value=p_value, **more)


@pytest.mark.parametrize(
    ("changes", "p_values", "matter", "words"),
    [
        ((0.05, 0.0), (0.01, 0.01), True, "The chosen neurons matter: +20.0 points"),
        ((0.05, 0.0), (0.01, 0.2), None, "difference is within chance"),
        ((0.2, 0.0), (1.0, 0.01), False, "does as well: +20.0 points over all photos; the chosen"),
        (
            (0.0, 0.3),
            (0.01, 0.5),
            False,
            "as well: +30.0 points over all photos, against +20.0",
        ),
    ],
)
def test_whether_neurons_matter(changes, p_values, matter, words) -> None:
    controls = [
        _control(changes[0], p_values[0], target_change=0.6 if changes[0] == 0.2 else 0.0),
        _control(changes[1], p_values[1], name="with 2 random neurons", n_draws=5),
    ]
    found = verdict_on(judged((20, 12, 0), (40, 0, 0)), [0], controls=controls)
    assert found.neurons_matter is matter
    assert words in found.about_neurons
    assert found.controls == tuple(controls)
    if matter is False:
        assert "the chosen neurons add nothing here" in found.about_neurons


def test_as_many_corrected_with_a_smaller_gain_of_the_class_is_not_as_well() -> None:
    found = verdict_on(
        judged((20, 12, 0), (40, 0, 0)), [0], controls=[_control(0.2, 0.01, target_change=0.1)]
    )
    assert found.neurons_matter is True


def test_without_controls_nothing_is_said_of_neurons() -> None:
    found = verdict_on(judged((20, 9, 0), (20, 1, 1)), [0])
    assert found.neurons_matter is None
    assert found.about_neurons == ""


# --- on an edit ----------------------------------------------------------------------


def _heads() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(6, 3), nn.Linear(6, 3)


def _set(head: nn.Linear, n: int = 60, seed: int = 0) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    z = torch.rand(n, 6, generator=generator) - 0.5
    return replace(feature_set(head, z, torch.arange(n) % 3), class_names=NAMES)


def test_an_edit_cannot_tell_before_it_is_judged() -> None:
    head, other = _heads()
    data, validation, met = (_set(head, seed=seed) for seed in range(3))
    edits = [
        compare_heads(head, other, data, {1: [0]}),
        mend(head, data, validation, met, target=1, neurons=[0], max_cost=1.0),
        edit_head(head, data, validation, target=1, neurons=[0], n_epochs=2),
    ]
    for edit in edits:
        assert edit.verdict is UNJUDGED
        assert edit.verdict.decision == "cannot tell"
        assert "edit.judge(features)" in edit.summary()
        assert edit.verdict.rests_on == "no photos"


def test_judging_counts_what_the_heads_do() -> None:
    head, other = _heads()
    data, test = _set(head), _set(head, seed=1)
    edit = compare_heads(head, other, data, {1: [0]})
    found = edit.judge(test)
    before, after = test.is_correct, test.with_head(other).is_correct
    assert found.verdict.n_corrected == int((~before & after).sum())
    assert found.verdict.n_broken == int((before & ~after).sum())
    assert found.verdict == verdict_on(Paired(test.labels, before, after), [1], class_names=NAMES)
    assert found.head is edit.head
    assert edit.verdict is UNJUDGED


@pytest.mark.filterwarnings("ignore:every epoch:RuntimeWarning")
@pytest.mark.parametrize("method", ["edit_head", "mend"])
def test_what_an_edit_has_seen_does_not_judge_it(method: str) -> None:
    torch.manual_seed(1)
    head = nn.Linear(6, 3)
    train, validation, met, test = (_set(head, 90, seed) for seed in range(4))
    if method == "mend":
        edit = mend(head, train, validation, met, target=1, neurons=[0], max_cost=1.0)
    else:
        edit = edit_head(head, train, validation, target=1, neurons=[0], mistakes=met, n_epochs=2)
    assert edit.judge(test).verdict.n_judged == 90
    mixed = FeatureSet(*(torch.cat([getattr(s, n) for s in (train, test)]) for n in
                         ("features", "logits", "labels")))  # fmt: skip
    with pytest.warns(UserWarning, match="90 of 180 samples are left out of the verdict"):
        assert edit.judge(mixed).verdict.n_judged == 90
    with pytest.warns(UserWarning, match="90 of 90 samples are left out"):
        found = edit.judge(train)
    assert found.verdict.decision == "cannot tell"
    assert found.verdict.n_judged == 0
    with pytest.warns(UserWarning, match="samples are left out"):
        assert edit.judge(validation).verdict.n_judged == 0


def test_what_cannot_be_judged() -> None:
    head, other = _heads()
    edit = compare_heads(head, other, _set(head), {1: [0]})
    with pytest.raises(ValueError, match="head takes 6 features, this set has 5"):
        edit.judge(FeatureSet(torch.rand(4, 5), torch.rand(4, 3), torch.arange(4) % 3))
    many = FeatureSet(torch.rand(40, 6), torch.rand(40, 3), torch.eye(3)[torch.arange(40) % 3])
    found = edit.judge(many).verdict
    assert found.decision == "cannot tell"
    assert "many labels each" in found.sentence


def test_a_cross_fitted_edit_rests_on_its_folds() -> None:
    head, other = _heads()
    train, met, held_out = (_set(head, seed=seed) for seed in range(3))

    def fit(train, met, validation, neurons):
        return compare_heads(head, other, validation, {1: neurons})

    for edit in (
        cross_fit(fit, train, met, held_out, [0], n_folds=3),
        fit_and_judge(fit, train, met, _set(head, seed=9), held_out, [0]),
    ):
        assert edit.verdict.n_judged == 60
        assert edit.verdict.rests_on == edit.judged.how
        by_hand = edit.judge(held_out).verdict  # the fit gives the same head for any samples
        assert replace(edit.verdict, rests_on=by_hand.rests_on) == by_hand


# --- kept and shown ------------------------------------------------------------------


def _full() -> Verdict:
    controls = [_control(0.05, 0.2), _control(0.02, 0.01, name="with 1 random neuron", n_draws=5)]
    return verdict_on(judged((20, 12, 0), (40, 0, 2)), [0], class_names=NAMES, controls=controls)


@pytest.mark.parametrize("found", [UNJUDGED, _full(), verdict_on(judged((20, 6, 0)), [0])])
def test_as_dict_is_plain_and_comes_back(found: Verdict) -> None:
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert Verdict.from_dict(json.loads(text)) == found


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_saved_edit_has_its_verdict(tmp_path, is_kept: bool) -> None:
    head, other = _heads()
    data = _set(head)
    edit = replace(compare_heads(head, other, data, {1: [0]}), verdict=_full(), is_kept=is_kept)
    back = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    assert back.verdict == edit.verdict
    assert back.is_kept is is_kept
    assert back.seen is None
    others = _set(head, seed=1), _set(head, seed=2)
    corrected = mend(head, data, *others, target=1, neurons=[0], max_cost=1.0)
    back = HeadEdit.load(corrected.save(tmp_path / "edit.safetensors"))
    with pytest.warns(UserWarning, match="60 of 60 samples are left out"):
        back.judge(data)


def test_an_edit_that_is_not_kept_leaves_the_original_in_the_model() -> None:
    head, other = _heads()
    edit = replace(compare_heads(head, other, _set(head), {1: [0]}), is_kept=False)
    model = nn.Sequential(nn.ReLU(), head)
    weight = head.weight.clone()
    with pytest.warns(UserWarning, match="the original head stays in the model. Cannot tell"):
        assert edit.apply_(model) is model
    assert torch.equal(model[1].weight, weight)
    edit.revert_(model)
    assert torch.equal(model[1].weight, weight)
    with edit.applied(model):  # to look at
        assert torch.equal(model[1].weight, other.weight)
    assert torch.equal(edit.as_decided().head.weight, weight)
    assert torch.equal(edit.head.weight, other.weight)
    kept = replace(edit, is_kept=True)
    assert kept.as_decided() is kept
    kept.apply_(model)
    assert torch.equal(model[1].weight, other.weight)


def test_the_verdict_is_shown() -> None:
    head, other = _heads()
    found = replace(compare_heads(head, other, _set(head), {1: [0]}), verdict=_full())
    text = found.summary()
    assert text.splitlines()[1] == found.verdict.sentence == str(found.verdict)
    for words in (
        "12 corrected, 2 broken of 60 photos (exact McNemar test, p = 0.013)",
        "the class: +60.0 points (95 % interval ",
        "the same without neurons",
        "the same with 1 random neuron (mean of 5 draws)",
        found.verdict.about_neurons,
    ):
        assert words in text
    assert "verdict 'keep'" in repr(found)
    page = found._repr_html_()
    assert found.verdict.about_neurons in page
    assert "mean of 5 draws" in page


def test_names_stay_text() -> None:
    names = ("<u>a</u>", "b&", "c")
    found = verdict_on(judged((20, 9, 0), (20, 0, 1)), [0], class_names=names)
    assert "'<u>a</u>'" in found.sentence
    page = found._repr_html_()
    assert "<u>" not in page
    assert "&lt;u&gt;" in page
    assert "b&amp;" in page


def test_an_edit_that_gave_the_original_head_says_so() -> None:
    torch.manual_seed(0)
    head = nn.Linear(4, 3)
    data = FeatureSet(z := torch.rand(60, 4), head(z).detach(), torch.arange(60) % 3)
    edit = compare_heads(head, head, data, {1: [0]}).judge(data)
    better = Control("without neurons", 0.2, 0.1, 9, 1, 0.02)
    found = edit.with_verdict([better]).verdict
    assert found.is_original
    assert found.sentence == "Do not keep: the fit gave no other head than the original."
    assert found.about_neurons.startswith("The fit gave no other head")
    assert "does as well" not in edit.with_verdict([better]).summary()
    assert found.neurons_matter is None
    assert Verdict.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_without_changes_another_head_is_no_original() -> None:
    head, other = nn.Linear(4, 3), nn.Linear(4, 3)
    other.load_state_dict({name: 2 * value for name, value in head.state_dict().items()})
    data = FeatureSet(z := torch.rand(60, 4), head(z).detach(), torch.arange(60) % 3)
    found = compare_heads(head, other, data, {1: [0]}).judge(data).verdict
    assert not found.is_original
    assert "none of 60 photos is corrected" in found.sentence
