"""An edit by intervention: what it removes, what it leaves, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import feature_set, left_unchanged
from torch import nn

from captum_neuroinspect import FeatureSet, HeadEdit
from captum_neuroinspect.edit import (
    Direction,
    RemovalOptions,
    RemovalRecord,
    cue_direction,
    remove_cue,
)

N_CLASSES, N_FEATURES, CUE = 3, 12, [9, 10, 11]
INTERVENTIONS = ("shift", "swap", "project")


def _sampled(n, has_cue, seed):
    """Class c lights up features c and c + 3; the cue lights up three features."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % N_CLASSES
    z = 0.6 * torch.rand(n, N_FEATURES, generator=rng)
    z += 0.4 * (F.one_hot(labels, N_FEATURES) + F.one_hot(labels + 3, N_FEATURES))
    z[:, CUE] += has_cue(labels).float()[:, None]
    return z, labels


@pytest.fixture(scope="module", params=[True, False], ids=["bias", "no bias"])
def planted(request):
    """Class 0 has the cue in training and validation; in use class 1 has it instead."""
    torch.manual_seed(0)
    head = nn.Linear(N_FEATURES, N_CLASSES, bias=request.param)
    learned = lambda labels: labels == 0  # noqa: E731
    met = lambda labels: labels == 1  # noqa: E731
    z, labels = _sampled(150, learned, 0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.05, weight_decay=1.0)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(head(z), labels).backward()
        optimizer.step()
    others = [_sampled(n, *rest) for n, *rest in ((60, learned, 1), (60, met, 2), (300, met, 3))]
    return head, *(feature_set(head, *one) for one in ((z, labels), *others))


def _direction(planted):
    _, train, _, met, _ = planted
    return cue_direction(met.mistakes(0), train)


def _removed(planted, cue, seed=0, target=0, **options):
    head, train, validation, *_ = planted
    chosen = RemovalOptions(**options)
    return remove_cue(head, train, validation, target=target, cue=cue, seed=seed, options=chosen)


def _random_direction(planted, seed=0):
    found = _direction(planted)
    noise = torch.randn(N_FEATURES, generator=torch.Generator().manual_seed(seed))
    return Direction(noise * found.shift.norm() / noise.norm(), found.spread)


@pytest.mark.parametrize("intervention", INTERVENTIONS)
@pytest.mark.parametrize("kind", ["direction", "neurons"])
def test_it_gives_the_class_back_what_the_cue_took(planted, intervention, kind):
    """Judged by samples that nothing was fitted to; a random direction does not do it."""
    test = planted[-1]
    cue = _direction(planted) if kind == "direction" else CUE
    edit = _removed(planted, cue, intervention=intervention)
    random = _removed(planted, _random_direction(planted), intervention=intervention)
    of_edit, of_random = (test.with_head(one.head).class_accuracy() for one in (edit, random))
    before = test.class_accuracy()
    assert before[0] < 0.5  # else there was nothing to remove
    assert of_edit[0] > before[0] + 0.3
    assert of_edit[0] > of_random[0] + 0.2
    assert of_edit.mean() > before.mean() + 0.2
    assert abs(edit.method.raised_after) < 0.5 * edit.method.raised_before


def test_logits_do_not_change_along_a_direction_that_was_projected_out(planted):
    direction = _direction(planted)
    layer = _removed(planted, direction, intervention="project").head
    z = planted[-1].features
    with torch.no_grad():
        far = layer(direction.placed(z, 5.0)) - layer(direction.placed(z, -5.0))
        original = planted[0](direction.placed(z, 5.0)) - planted[0](direction.placed(z, -5.0))
    assert far.abs().max() < 1e-4 < original.abs().max()


def test_neurons_that_were_projected_out_have_no_coefficient(planted):
    edit = _removed(planted, CUE, intervention="project")
    assert not edit.head.weight[:, CUE].any()
    assert edit.head.weight[:, :3].all()
    assert edit.neurons == tuple(CUE)
    assert edit.method.raised_after == 0


@pytest.mark.parametrize("intervention", INTERVENTIONS)
def test_same_seed_and_any_order_of_samples(planted, intervention):
    head, train, validation, *_ = planted
    one, again = (_removed(planted, CUE, intervention=intervention) for _ in range(2))
    assert torch.equal(one.head.weight, again.head.weight)
    if intervention != "swap":  # its pairs are drawn from samples in their order
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1))
        other = remove_cue(
            head,
            train.subset(order),
            validation,
            target=0,
            cue=CUE,
            seed=7,
            options=RemovalOptions(intervention),
        )
        torch.testing.assert_close(one.head.weight, other.head.weight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("planted", [True], ids=["bias"], indirect=True)
@pytest.mark.parametrize("intervention", ["swap", "project"])
def test_the_origin_of_features_does_not_matter(planted, intervention):
    """Features may be negative; a bias takes the difference up."""
    head, train, validation, *_ = planted
    moved = copy.deepcopy(head)
    with torch.no_grad():
        moved.bias += moved.weight.sum(1) * 0.5
    sets = (feature_set(moved, one.features - 0.5, one.labels) for one in (train, validation))
    options = RemovalOptions(intervention)
    other = remove_cue(moved, *sets, target=0, cue=CUE, options=options).head
    expected = _removed(planted, CUE, intervention=intervention).head.weight
    torch.testing.assert_close(other.weight, expected, atol=2e-3, rtol=1e-3)


def test_the_original_and_the_global_seed_are_left_alone(planted):
    head = planted[0]
    state = torch.get_rng_state()
    with left_unchanged(head):
        edit = _removed(planted, CUE, intervention="swap")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(edit.original.weight, head.weight)
    assert (edit.head.bias is None) == (head.bias is None)
    assert edit.verdict.decision == "cannot tell"


def test_several_classes_may_share_a_cue(planted):
    edit = _removed(planted, CUE, target=[0, 2])
    assert edit.targets == {0: tuple(CUE), 2: tuple(CUE)}


def test_a_large_anchor_keeps_the_head(planted):
    edit = _removed(planted, CUE, intervention="shift", anchor=1e6)
    torch.testing.assert_close(edit.head.weight, planted[0].weight, atol=1e-4, rtol=0)


def test_its_record_is_kept_in_the_file(planted, tmp_path):
    edit = _removed(planted, _direction(planted), intervention="swap", n_draws=2)
    again = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    assert isinstance(again.method, RemovalRecord)
    assert again.method == edit.method
    assert again.method.options == RemovalOptions("swap", n_draws=2, anchor=0.01)
    assert "swap of direction" in repr(again)
    assert "->" in edit.method.facts()["the cue raises the class by"]
    assert len(edit.untouched(planted[1])) == len(edit.untouched(planted[2])) == 0


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"cue": []}, ValueError, "cue is empty"),
        ({"cue": None}, TypeError, "cue=None, expected whole numbers"),
        ({"cue": torch.ones(N_FEATURES)}, TypeError, "expected a Direction"),
        ({"target": "cat"}, TypeError, "target='cat', expected whole numbers"),
        ({"cue": [1, 1]}, ValueError, r"cue=\[1, 1\] repeats"),
        ({"cue": [N_FEATURES]}, ValueError, "out of range"),
        ({"cue": 0.5}, TypeError, "whole numbers"),
        ({"cue": "9"}, TypeError, "indices of features"),
        ({"cue": Direction(torch.ones(2), torch.ones(2))}, ValueError, "cue has 2 features"),
        ({"target": None}, ValueError, "target is missing"),
        ({"target": []}, ValueError, "target is empty"),
        ({"target": [0, 0]}, ValueError, "repeats a class"),
        ({"target": 3}, ValueError, "out of range"),
        ({"target": [0, 1, 2]}, ValueError, r"target=\[0, 1, 2\] only"),
        ({"seed": 0.5}, TypeError, "seed"),
        ({"options": "shift"}, TypeError, "expected RemovalOptions"),
        ({"head": nn.Identity()}, TypeError, "head"),
    ],
)
def test_it_refuses(planted, change, error, match):
    head, train, validation, *_ = planted
    given = {"head": head, "target": 0, "cue": CUE} | change
    with pytest.raises(error, match=match):
        remove_cue(given.pop("head"), train, validation, **given)


def test_mistakes_that_located_the_cue_do_not_judge(planted):
    head, train, validation, _, fresh = planted
    mistakes = fresh.mistakes(0)
    edit = remove_cue(head, train, validation, target=0, cue=cue_direction(mistakes, train))
    with pytest.warns(UserWarning, match=f"{len(mistakes)} of {len(fresh)} samples are left out"):
        judged = edit.judge(fresh)
    assert judged.verdict.n_judged == len(fresh) - len(mistakes)


def test_values_in_float64_give_the_same_edit(planted):
    head, train, validation, *_ = planted
    others = [
        FeatureSet(one.features.double(), one.logits.double(), one.labels)
        for one in (train, validation)
    ]
    one, other = (
        remove_cue(head, *sets, target=0, cue=CUE) for sets in ((train, validation), others)
    )
    assert one.head.weight.equal(other.head.weight)


def test_it_refuses_sets(planted):
    head, train, validation, *_ = planted
    with pytest.raises(ValueError, match="are in train too"):
        remove_cue(head, train, train, target=0, cue=CUE)
    with pytest.raises(ValueError, match="no sample in train"):
        remove_cue(head, train.subset(train.labels != 0), validation, target=0, cue=CUE)
    many = FeatureSet(train.features, train.logits, F.one_hot(train.labels, N_CLASSES))
    with pytest.raises(ValueError, match="train has multi-hot labels"):
        remove_cue(head, many, validation, target=0, cue=CUE)
    with pytest.raises(ValueError, match="validation has 2 features"):
        remove_cue(head, train, _narrow(validation), target=0, cue=CUE)


def _narrow(data):
    return FeatureSet(data.features[:, :2], data.logits, data.labels)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"intervention": "drop"}, ValueError),
        ({"share": 0}, ValueError),
        ({"share": 1.5}, ValueError),
        ({"target_weight": -1}, ValueError),
        ({"anchor": 0}, ValueError),
        ({"anchor": "much"}, TypeError),
        ({"n_draws": 0}, ValueError),
        ({"n_draws": 1.5}, TypeError),
    ],
)
def test_options_refuse(change, error):
    with pytest.raises(error, match=next(iter(change))):
        RemovalOptions(**change)


def test_the_record_refuses():
    with pytest.raises(ValueError, match="raised_after=nan"):
        RemovalRecord(RemovalOptions(), "direction", 0, 1.0, float("nan"))
    with pytest.raises(TypeError, match="seed"):
        RemovalRecord(RemovalOptions(), "direction", 0.5, 1.0, 0.0)


def test_what_located_the_cue_does_not_judge(planted):
    """Only the mistakes that located it are left out; of hand-made directions nobody knows."""
    *_, met, test = planted
    direction = _direction(planted)
    edit = _removed(planted, direction)
    n_mistakes = len(met.mistakes(0))
    assert edit.method.n_located == n_mistakes > 0
    with pytest.warns(UserWarning, match=f"{n_mistakes} of {len(met)} samples are left out"):
        judged = edit.judge(met)
    assert judged.verdict.n_judged == len(met) - n_mistakes
    assert edit.judge(test).verdict.n_judged == len(test)
    by_hand = _removed(planted, Direction(direction.shift, direction.spread))
    assert by_hand.method.n_located is None
    assert by_hand.judge(met).verdict.n_judged == len(met)


def test_judges_that_all_located_the_cue_cannot_tell(planted):
    *_, met, _ = planted
    with pytest.warns(UserWarning, match="its cue was located by them"):
        judged = _removed(planted, _direction(planted)).judge(met.mistakes(0))
    assert judged.verdict.decision == "cannot tell"
    assert judged.verdict.n_judged == 0


def test_without_a_fit_the_head_only_stops_looking(planted):
    """Its logits are the original's with each sample at the mean position of the training set."""
    head, train, _, _, test = planted
    direction = _direction(planted)
    edit = _removed(planted, direction, refit=False)
    middle = direction.positions(train.features).mean() if head.bias is not None else 0.0
    with torch.no_grad():
        expected = head(direction.placed(test.features, middle))
        torch.testing.assert_close(edit.head(test.features), expected, atol=1e-4, rtol=1e-4)
    assert "nothing fitted" in edit.method.facts()["method"]


def test_what_is_to_be_fitted_needs_a_fit():
    with pytest.raises(ValueError, match="intervention='shift' with refit=False"):
        RemovalOptions("shift", refit=False)
    with pytest.raises(TypeError, match="refit is 1"):
        RemovalOptions(refit=1)


def test_classes_that_are_not_in_train_are_warned_of(planted):
    head, train, validation, *_ = planted
    few = train.subset(train.labels != 2)
    direction = _direction(planted)
    with pytest.warns(UserWarning, match="samples of 2 of the head's 3 classes: the fit favours"):
        remove_cue(head, few, validation, target=0, cue=direction)
    options = RemovalOptions(refit=False)
    remove_cue(head, few, validation, target=0, cue=direction, options=options)
