"""neurons="auto" and strength="auto": what is tried, what is taken, and what has no say."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_same_set, feature_set, left_unchanged, linear
from torch import nn

from captum_neuroinspect import FeatureSet, HeadEdit, NeuronCounterfactual, edit_head, rank_neurons
from captum_neuroinspect.edit._blame import blamed_neurons, by_magnitude
from captum_neuroinspect.edit._candidates import Grid, Setting
from captum_neuroinspect.edit._mistake_parts import divided
from captum_neuroinspect.edit.baselines import with_mistakes

TARGET, CUE, N_FEATURES = 0, 7, 8
FAST = {"n_epochs": 15, "lr": 0.03, "batch_size": 40}
# For tests of what is tried, whether that gains or not.
no_gain_is_fine = pytest.mark.filterwarnings("ignore:none of:RuntimeWarning")


def _data(n, with_cue, seed):
    """Class c lights up features c and c + 3; the cue is feature 7, on in one class."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    z = 0.6 * torch.rand(n, N_FEATURES, generator=rng)
    z += 0.4 * (F.one_hot(labels, N_FEATURES) + F.one_hot(labels + 3, N_FEATURES))
    z[:, CUE] += labels == with_cue
    return z, labels


@pytest.fixture(scope="module")
def case():
    """A head that leans on the cue, which the target has in training and another class in use."""
    torch.manual_seed(0)
    z, labels = _data(240, TARGET, 0)
    head = nn.Linear(N_FEATURES, 3)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.05, weight_decay=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(head(z), labels).backward()
        optimizer.step()
    owners = {"train": TARGET, "validation": TARGET, "met": 1, "test": 1}
    sets = {
        name: feature_set(head, *_data(240, c, i)) for i, (name, c) in enumerate(owners.items())
    }
    return head, sets


def _auto(case, **options):
    head, sets = case
    given = {
        "target": TARGET,
        "neurons": "auto",
        "strength": "auto",
        "mistakes": sets["met"].mistakes(),
        "max_cost": 0.05,
    }
    return edit_head(head, sets["train"], sets["validation"], **{**given, **FAST, **options})


@pytest.fixture(scope="module")
def chosen(case):
    return _auto(case)


def _parts(data, seed=0):
    """A third to learn from, a third to choose by, the rest to report on."""
    learning, others = data.split(1 / 3, seed=seed)
    return learning, *others.split(seed=seed)


# --- what it is for ------------------------------------------------------------------


def test_it_mends_the_target_on_data_that_it_never_saw(case, chosen):
    test = case[1]["test"]
    before, after = chosen.evaluate(test)
    assert before.class_accuracy[TARGET] < 0.8  # else there was nothing to mend
    assert after.class_accuracy[TARGET] > before.class_accuracy[TARGET] + 0.15
    assert after.accuracy > before.accuracy
    assert chosen.neurons[0] == CUE  # the most blamed one


@no_gain_is_fine
def test_it_leaves_its_arguments_alone(case):
    head, sets = case
    state = torch.get_rng_state()
    before = {name: data.subset(torch.arange(len(data))) for name, data in sets.items()}
    with left_unchanged(head):
        _auto(case, strength=0.1, scope="class", ratio=1.0)
    for name, data in sets.items():
        assert_same_set(data, before[name])
    assert torch.equal(torch.get_rng_state(), state)


# --- the choice ----------------------------------------------------------------------


def _accuracy(head, z, labels):
    return (head(z).argmax(1) == labels).float().mean().item()


@pytest.mark.filterwarnings("ignore:every epoch was worse:RuntimeWarning")
def test_the_choice_is_the_best_of_a_literal_loop(case, chosen):
    """All candidates fitted one by one by `edit_head`, and judged by hand."""
    head, sets = case
    learning, choosing, _ = _parts(sets["met"].mistakes())
    judging, _ = sets["validation"].split(seed=0)
    mine = choosing.subset(choosing.labels == TARGET)
    z = torch.cat([judging.features, mine.features])
    labels = torch.cat([judging.labels, mine.labels])
    others = labels != TARGET
    others_before = _accuracy(head, z[others], labels[others])
    wrong = learning.mistakes(TARGET)
    w = NeuronCounterfactual(head, head).attribute_features(wrong.features, wrong.labels)
    rows = rank_neurons(w, features=wrong, reference=sets["train"]).rows()
    order = [r["neuron"] for r in sorted(rows, key=lambda r: -r["magnitude"])]
    best = None
    for candidate in chosen.candidates:
        edit = edit_head(
            head,
            sets["train"],
            feature_set(head, z, labels),
            target=TARGET,
            neurons=order[: candidate.n_neurons],
            strength=candidate.strength,
            ratio=candidate.ratio,
            scope=candidate.scope,
            mistakes=learning,
            select="target",
            max_cost=0.05,
            **FAST,
        )
        target = _accuracy(edit.head, z[~others], labels[~others])
        other = _accuracy(edit.head, z[others], labels[others])
        assert (candidate.target_accuracy, candidate.others_accuracy) == pytest.approx(
            (target, other)
        )
        assert others_before - other <= 0.05 + 1e-6
        if best is None or (target, other) > best[:2]:
            best = (target, other, edit, candidate)
    assert torch.equal(chosen.head.weight, best[2].head.weight)
    assert torch.equal(chosen.head.bias, best[2].head.bias)
    assert (chosen.scope, chosen.strength) == (best[3].scope, best[3].strength)
    assert chosen.neurons == tuple(order[: best[3].n_neurons])
    assert chosen.settings["n_neurons"] == len(chosen.neurons)
    assert chosen.settings["n_candidates"] == len(chosen.candidates) > 12


@no_gain_is_fine
@pytest.mark.parametrize("max_cost", [0.0, 0.02, 0.1])
def test_the_cap_holds_on_the_data_that_chose(case, max_cost):
    edit = _auto(case, max_cost=max_cost, scope="head", ratio=1.0)
    judging, _ = case[1]["validation"].split(seed=0)
    others = judging.subset(judging.labels != TARGET)
    cost = others.accuracy() - others.with_head(edit.head).accuracy()
    assert cost <= max_cost + 1e-6


@no_gain_is_fine
def test_a_loose_cap_gives_no_less_to_the_target(case):
    options = {"scope": "class", "ratio": 1.0}
    gains = [
        max(c.rank for c in _auto(case, max_cost=cap, **options).candidates)[0]
        for cap in (0.0, 1.0)
    ]
    assert gains[0] <= gains[1]


@no_gain_is_fine
def test_what_is_given_stays(case):
    edit = _auto(case, neurons=[CUE, 1], scope="class", ratio=1.01)
    assert {(c.n_neurons, c.scope) for c in edit.candidates} == {(2, "class")}
    assert [c.ratio for c in edit.candidates] == pytest.approx([1.01] * len(edit.candidates))
    assert edit.neurons == (CUE, 1)
    assert len({c.strength for c in edit.candidates}) > 2
    edit = _auto(case, strength=0.3)
    assert {c.strength for c in edit.candidates} == {0.3}
    assert {c.scope for c in edit.candidates} == {"neurons", "class", "head"}
    assert len({c.ratio for c in edit.candidates}) == 2  # 1, and by the rule


@no_gain_is_fine
def test_a_ranking_gives_the_neurons(case):
    w = torch.zeros(1, N_FEATURES)
    w[0, 3], w[0, 7], w[0, 2] = 3.0, -2.0, 1.0
    ranking = rank_neurons(w, min_precision=0)
    assert by_magnitude(ranking).tolist() == [3, 7, 2]
    edit = _auto(case, strength=0.1, scope="class", ratio=1.0, ranking=ranking, max_cost=1.0)
    assert edit.neurons == (3, 7, 2)[: len(edit.neurons)]


@no_gain_is_fine
def test_several_classes_with_neurons_of_their_own(case):
    edit = _auto(case, target=None, neurons={0: [CUE], 1: [CUE, 2]}, scope="head", ratio=1.0)
    assert edit.targets == {0: (CUE,), 1: (CUE, 2)}
    assert {c.n_neurons for c in edit.candidates} == {3}


# --- what has no say -----------------------------------------------------------------


def _changed_where(data, indices):
    """Other features in the rows with these indices; the labels stay, and so do the parts."""
    features = data.features.clone()
    rows = torch.isin(data.indices, indices)
    features[rows] = features[rows].flip(1)
    return replace(data, features=features)


def test_what_is_reported_on_has_no_say(case, chosen):
    head, sets = case
    mistakes = sets["met"].mistakes()
    reporting = _parts(mistakes)[2]
    _, held = sets["validation"].split(seed=0)
    other = edit_head(
        head,
        sets["train"],
        _changed_where(sets["validation"], held.indices),
        target=TARGET,
        neurons="auto",
        strength="auto",
        mistakes=_changed_where(mistakes, reporting.indices),
        max_cost=0.05,
        **FAST,
    )
    assert torch.equal(other.head.weight, chosen.head.weight)
    assert other.candidates == chosen.candidates
    assert other.after != chosen.after


@no_gain_is_fine
@pytest.mark.parametrize("part", [0, 1])
def test_the_other_parts_have_a_say(case, chosen, part):
    """Otherwise the test before this one says nothing."""
    mistakes = case[1]["met"].mistakes()
    changed = _changed_where(mistakes, _parts(mistakes)[part].indices)
    assert _auto(case, mistakes=changed).candidates != chosen.candidates


def _rows(*sets):
    return [tuple(row) for data in sets for row in data.features.tolist()]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("with_right", [False, True])
def test_the_parts_are_disjoint_and_whole(case, seed, with_right):
    head, sets = case
    mistakes = sets["met"] if with_right else sets["met"].mistakes()
    parts = divided(head, sets["validation"], mistakes, [TARGET], seed)
    dealt = _rows(parts.learning, parts.choosing, parts.validation, parts.mistakes)
    assert len(set(dealt)) == len(dealt)
    left = set(_rows(sets["validation"], mistakes)) - set(dealt)
    # What is in no part: others' mistakes, outside of those to learn from.
    wrong_others = sets["met"].mistakes().subset(sets["met"].mistakes().labels != TARGET)
    assert left == set(_rows(wrong_others)) - set(_rows(parts.learning))
    for part in (parts.learning, parts.choosing, parts.mistakes):
        assert (part.labels == TARGET).sum() >= 2


def test_mistakes_that_are_in_another_set_too_are_refused(case):
    head, sets = case
    mistakes = sets["met"].mistakes()
    validation = with_mistakes(sets["validation"], mistakes.subset(torch.arange(5)))
    message = f"5 of {len(mistakes)} samples of mistakes are in validation too"
    with pytest.raises(ValueError, match=message):
        edit_head(
            head, sets["train"], validation, target=TARGET, neurons=[CUE], strength="auto",
            mistakes=mistakes,
        )  # fmt: skip


def test_the_report_by_hand(case, chosen):
    head, sets = case
    reporting = _parts(sets["met"].mistakes())[2]
    mine = reporting.subset(reporting.labels == TARGET)
    _, held = sets["validation"].split(seed=0)
    for when, one in (("before", head), ("after", chosen.head)):
        right = [held.with_head(one).is_correct, mine.with_head(one).is_correct]
        of_target = torch.cat([right[0][held.labels == TARGET], right[1]]).float().mean()
        report = {
            n: chosen.settings[f"held_out_{n}_{when}"] for n in ("target", "mistakes", "others")
        }
        assert report == {
            "target": pytest.approx(of_target.item()),
            "mistakes": pytest.approx(right[1].float().mean().item()),
            "others": pytest.approx(right[0][held.labels != TARGET].float().mean().item()),
        }
    assert chosen.before.accuracy == pytest.approx(held.accuracy())
    assert chosen.after.accuracy == pytest.approx(held.with_head(chosen.head).accuracy())


@no_gain_is_fine
def test_samples_that_are_right_show_what_the_others_lose(case):
    """The others are judged on validation and on what was right of them in use."""
    sets = case[1]
    edit = _auto(case, mistakes=sets["met"], neurons=[CUE], ratio=1.0, scope="head")
    _, choosing, reporting = _parts(sets["met"])
    for part, held in zip((choosing, reporting), sets["validation"].split(seed=0), strict=True):
        right = part.subset(part.is_correct & (part.labels != TARGET))
        others = held.subset(held.labels != TARGET)
        assert len(right) > 5
        hits = [data.with_head(edit.head).is_correct for data in (others, right)]
        accuracy = torch.cat(hits).float().mean().item()
        if part is choosing:
            assert max(c.rank for c in edit.candidates)[1] == pytest.approx(accuracy)
        else:
            assert edit.settings["held_out_others_after"] == pytest.approx(accuracy)


@no_gain_is_fine
def test_the_seed_draws_everything(case, chosen):
    again = _auto(case)
    assert torch.equal(again.head.weight, chosen.head.weight)
    assert again.settings == chosen.settings
    assert _auto(case, seed=1).settings != chosen.settings


# --- no gain -------------------------------------------------------------------------


def test_without_a_gain_the_original_is_returned(case):
    """At a step size of nothing no head changes its mind."""
    with pytest.warns(RuntimeWarning, match=r"none of \d+ candidates raised") as record:
        edit = _auto(case, lr=1e-12)
    assert record[0].filename == __file__
    assert edit.best_epoch == 0
    assert torch.equal(edit.head.weight, case[0].weight)
    assert edit.after == edit.before
    for name in ("target", "mistakes", "others"):
        assert edit.settings[f"held_out_{name}_before"] == edit.settings[f"held_out_{name}_after"]


def test_candidates_that_all_cost_too_much(case):
    """Trained on labels that are turned around, every epoch breaks the other classes."""
    train = case[1]["train"]
    wrong = feature_set(case[0], train.features, (train.labels + 1) % 3)
    head, sets = case
    with pytest.warns(RuntimeWarning, match="none of"):
        edit = edit_head(
            head,
            wrong,
            sets["validation"],
            target=TARGET,
            neurons=[CUE],
            strength="auto",
            scope="head",
            mistakes=sets["met"].mistakes(),
            **{**FAST, "lr": 0.3},
        )
    assert {c.epoch for c in edit.candidates} == {0}
    assert "epoch 0; the original head stayed" in edit.summary()
    assert torch.equal(edit.head.weight, head.weight)


# --- kept and shown ------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_save_load(case, chosen, tmp_path, several):
    edit = chosen
    if several:
        options = {
            "target": None,
            "neurons": {0: [CUE], 1: [2, 3]},
            "ratio": {0: 1.0, 1: [1.0, 1.1]},
        }
        edit = _auto(case, scope="head", max_cost=0.5, **options)
    loaded = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    assert [asdict(c) for c in loaded.candidates] == [asdict(c) for c in edit.candidates]
    assert loaded.settings == edit.settings
    assert loaded.summary() == edit.summary()


def test_summary_shows_the_best_candidates(chosen):
    lines = chosen.summary().splitlines()
    at = next(i for i, line in enumerate(lines) if "candidates, on the data that chose" in line)
    assert lines[at].startswith(f"{len(chosen.candidates)} candidates")
    first = lines[at + 2].split()
    assert first[:2] == [str(len(chosen.neurons)), f"{chosen.strength:.3g}"]
    assert first[3:5] == [chosen.scope, str(chosen.best_epoch)]
    held = next(line for line in lines if line.startswith("target's mistakes, kept from the fit"))
    assert held.removeprefix("target's mistakes, kept from the fit").split()[:2] == [
        f"{chosen.settings[f'held_out_mistakes_{when}']:.3f}" for when in ("before", "after")
    ]


def test_html_has_the_candidates_and_escapes_names(case, chosen):
    hostile = replace(chosen, class_names=("<script>alert(1)</script>", "&", '"'))
    text = hostile._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert text.count("<table>") == text.count("</table>") == 2


@no_gain_is_fine
def test_progress_is_shown(case, capsys):
    _auto(case, neurons=[CUE], scope="class", ratio=1.0)
    assert capsys.readouterr().err == ""
    _auto(case, neurons=[CUE], scope="class", ratio=1.0, progress=True)
    assert "choose: 100%" in capsys.readouterr().err


# --- the grid ------------------------------------------------------------------------


def test_the_coarse_grid_is_small_to_large():
    every = list(Grid(100, strength=True, ratio=True, scope=True).coarse())
    assert len(every) == len(set(every)) == 12
    assert every[0] == Setting(6, 1.0, 1.0, "neurons")
    assert every[-1] == Setting(50, 10.0, 1.0, "head")


def test_the_grid_around_the_best():
    grid = Grid(60, strength=True, ratio=True, scope=True)
    around = list(grid.around(Setting(50, 9.0, 1.0, "class")))
    assert {s.n_neurons for s in around} == {25, 50, 60}  # there are no more than 60
    assert {s.strength for s in around} == {3.0, 9.0, 27.0}
    assert [s for s in around if s.ratio == "rule"] == [Setting(50, 9.0, "rule", "class")]
    assert len(around) == 10


def test_a_grid_with_nothing_open_but_one():
    assert list(Grid(None, strength=False, ratio=False, scope=True).coarse()) == [
        Setting(None, None, None, scope) for scope in ("neurons", "class", "head")
    ]
    assert len(list(Grid(3, strength=False, ratio=False, scope=False).coarse())) == 1


def test_blame_of_nothing():
    head = linear(torch.eye(2), torch.zeros(2))
    data = feature_set(head, torch.eye(2), [0, 1])
    assert blamed_neurons([(head, data.mistakes())], data).tolist() == []


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mistakes": None}, ValueError, "mistakes=None with 'auto'"),
        ({"mistakes": None, "neurons": [1]}, ValueError, "mistakes=None with 'auto'"),
        ({"target": None}, ValueError, "target is missing"),
        ({"target": 3}, ValueError, "target=3 is out of range"),
        ({"neurons": "all"}, TypeError, "neurons='all', expected indices"),
        ({"strength": "much"}, TypeError, "strength='much', expected a number or 'auto'"),
        ({"strength": -1}, ValueError, "strength=-1, expected a finite number"),
        ({"ratio": "auto"}, ValueError, "ratio='auto', expected a positive number or 'rule'"),
        ({"scope": "all"}, ValueError, "scope='all', expected one of"),
        ({"select": "accuracy"}, ValueError, "select='accuracy' with 'auto'"),
        ({"link": "sigmoid"}, ValueError, "link='sigmoid' with 'auto', expected 'softmax'"),
        ({"ranking": [1, 2]}, TypeError, "ranking is list, expected a NeuronRanking"),
        ({"ranking": "x", "neurons": [1]}, ValueError, "ranking goes with neurons='auto'"),
        ({"neurons": {0: "auto"}, "target": None}, TypeError, "neurons='auto', expected indices"),
    ],
)
def test_it_refuses(case, options, error, message):
    with pytest.raises(error, match=message):
        _auto(case, **options)


def test_it_refuses_sets(case):
    head, sets = case
    met = sets["met"].mistakes()
    mine = (met.labels == TARGET).nonzero()[:, 0]
    with pytest.raises(ValueError, match="5 samples of target=0, expected at least 6"):
        _auto(case, mistakes=met.subset(mine[:5]))
    with pytest.raises(ValueError, match="mistakes blame no neuron for target=0"):
        _auto(case, mistakes=sets["met"].correct())
    validation = sets["validation"]
    alone = validation.subset(validation.labels == TARGET)
    with pytest.raises(ValueError, match="half of validation has no sample of another class"):
        edit_head(
            head,
            sets["train"],
            alone,
            target=TARGET,
            neurons="auto",
            mistakes=met,
        )
    other = FeatureSet(torch.rand(9, 4), torch.rand(9, 3), torch.zeros(9, dtype=torch.int64))
    with pytest.raises(ValueError, match="mistakes has 4 features and 3 classes"):
        _auto(case, mistakes=other)
