from __future__ import annotations

import copy
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from edit_arguments import arguments
from helpers import Boom, assert_same_set, feature_set, left_unchanged, linear, nudged
from torch import nn

from captum_neuroinspect import FeatureSet, HeadEdit, edit_head, mend, probability_ratio
from captum_neuroinspect.edit import Anchor, EditOptions, EditSettings, Training

TARGET, CUE = 0, 5


def _cue_data(n, share, seed):
    """Three classes with a neuron each (0, 1, 2) and a cue (neuron 5).

    The cue is on for ``share`` of the target's samples and for the rest of the others'.
    Groups: 2 * label + cue.
    """
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    features = torch.rand(n, 6, generator=rng)
    features[torch.arange(n), labels] += 0.8
    has_cue = (torch.rand(n, generator=rng) < share) == (labels == TARGET)
    features[:, CUE] += has_cue
    return features, labels, 2 * labels + has_cue.long()


def _trained_head(features, labels):
    head = nn.Linear(6, 3)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.05, weight_decay=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(head(features), labels).backward()
        optimizer.step()
    return head


@pytest.fixture(scope="module")
def cue():
    """A head that relies on the cue, and sets to train, validate, meet in use and test.

    The cue is false everywhere but in training: a validation set that shares it would
    choose the epoch that changes least.
    """
    torch.manual_seed(0)
    sets = [_cue_data(240, share, seed) for seed, share in enumerate((0.95, 0.5, 0.5, 0.5))]
    head = _trained_head(*sets[0][:2])
    return head, *(feature_set(head, *s) for s in sets)


def _edit(cue, **options):
    head, train, validation = cue[:3]
    defaults = {"target": TARGET, "neurons": CUE, "strength": 0.1, "lr": 0.01}
    return edit_head(head, train, validation, **arguments(**(defaults | options)))


@pytest.fixture(scope="module")
def edit(cue):
    """A good edit, as a user would make it."""
    return _edit(cue)


# --- the edit does what it is for ----------------------------------------------------


@pytest.mark.parametrize("with_mistakes", [False, True])
def test_edit_head_weakens_a_false_correlation(cue, with_mistakes):
    """Judged on data that the edit did not use; retraining alone does not do it."""
    *_, field, test = cue
    options = {"strength": 0.3, "mistakes": field.mistakes()} if with_mistakes else {}
    edit = _edit(cue, **options)
    assert edit.before.ratios[0] > 1.5
    assert abs(edit.after.ratios[0] - 1) < 0.2
    before, after = edit.evaluate(test)
    off_cue = 2 * TARGET
    assert before.group_accuracy[off_cue] < 0.7  # else there was nothing to mend
    assert after.group_accuracy[off_cue] > before.group_accuracy[off_cue] + 0.15
    assert after.accuracy > before.accuracy
    retrained = _edit(cue, strength=0)
    assert retrained.after.ratios[0] > 1.5
    assert after.group_accuracy[off_cue] > retrained.evaluate(test)[1].group_accuracy[off_cue]


def test_edit_head_more_strength_brings_the_ratio_nearer(cue):
    distance = [
        abs(_edit(cue, strength=strength, n_epochs=3).after.ratios[0] - 1)
        for strength in (0.0, 0.01, 0.1)
    ]
    assert distance[0] > distance[1] > distance[2]


def test_edit_head_mistakes_pull_towards_themselves(cue):
    mistakes = cue[3].mistakes(target=TARGET)
    before, plain = _edit(cue, strength=0).evaluate(mistakes)
    _, pulled = _edit(cue, strength=0, mistakes=mistakes, mistake_weight=1.0).evaluate(mistakes)
    assert before.accuracy == 0
    assert pulled.accuracy > plain.accuracy


# --- against independent computations ------------------------------------------------


def _softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("with_mistake", [False, True])
def test_edit_head_loss_of_one_batch_by_hand(with_mistake):
    """Equation (8) written out in numpy; the set of mistakes is one sample, drawn always."""
    weight = np.array([[1.0, 0.5, -0.2], [0.0, -0.3, 0.8]])
    bias, neurons, o, strength = np.array([0.1, -0.1]), [0, 2], 1.02, 2.0
    z = np.array([[1.0, 0.0, 2.0], [0.5, 1.5, 0.0], [0.0, 0.2, 0.4]])
    y = np.array([0, 0, 1])
    masked = z.copy()
    masked[:, neurons] = 0
    p = _softmax(z @ weight.T + bias)
    ratio = p[:, 0] / _softmax(masked @ weight.T + bias)[:, 0]
    expected = -np.log(p[np.arange(3), y]).mean() + strength * np.linalg.norm(ratio - o)
    head, options = linear(weight, bias), {}
    if with_mistake:
        mistake = np.array([[0.0, 1.0, 1.0]])
        expected += 0.7 * -np.log(_softmax(mistake @ weight.T + bias)[0, 1])
        wrong = feature_set(head, torch.tensor(mistake).float(), [1])
        options = {"mistakes": wrong, "mistake_weight": 0.7}
    data = feature_set(head, torch.tensor(z).float(), y)
    edit = edit_head(
        head,
        data,
        nudged(data),
        target=0,
        neurons=neurons,
        strength=strength,
        ratio=o,
        **arguments(n_epochs=1, batch_size=3, **options),
    )
    assert edit.method.history[0].loss == pytest.approx(expected, rel=1e-5)


def _reference_retraining(
    head, train, validation, *, neurons, strength, n_epochs, batch_size, o=1.0, lr=1e-3
):
    """The paper's retraining on an ordinary ``nn.Linear``, with masked features."""
    layer = copy.deepcopy(head)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr)
    rng = torch.Generator().manual_seed(0)
    mask = torch.ones(head.in_features)
    mask[neurons] = 0
    best = (-1.0, None, 0)
    for epoch in range(1, n_epochs + 1):
        for rows in torch.randperm(len(train), generator=rng).split(batch_size):
            z, y = train.features[rows], train.labels[rows]
            with_neurons = layer(z).softmax(1)[:, TARGET]
            ratio = with_neurons / layer(z * mask).softmax(1)[:, TARGET]
            loss = F.cross_entropy(layer(z), y) + strength * torch.linalg.vector_norm(ratio - o)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = layer(validation.features).argmax(1) == validation.labels
        accuracy = right.float().mean().item()
        if accuracy > best[0]:
            best = (accuracy, copy.deepcopy(layer), epoch)
    return best


def _assert_same_values(layer, expected):
    torch.testing.assert_close(layer.weight, expected.weight, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(layer.bias, expected.bias, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("strength", [0.0, 3.0])
@pytest.mark.parametrize("neurons", [[CUE], [1, CUE]])
def test_edit_head_one_step_is_torchs_adam(cue, strength, neurons):
    options = dict(neurons=neurons, strength=strength, n_epochs=1, batch_size=240, lr=0.01)
    head, train, easy = *cue[:2], _easy(cue)
    _, expected, _ = _reference_retraining(head, train, easy, **options)
    edit = edit_head(head, train, easy, target=TARGET, **arguments(**options))
    _assert_same_values(edit.head, expected)
    assert not torch.equal(edit.head.weight, cue[0].weight)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_edit_head_equals_plain_retraining(cue, strength):
    """Batches, epochs and the choice of the best one; strength 0 is retraining alone."""
    head, train, validation = _blank(cue)
    options = dict(neurons=[CUE], strength=strength, n_epochs=6, batch_size=32, lr=0.01)
    accuracy, expected, epoch = _reference_retraining(head, train, validation, **options)
    edit = edit_head(head, train, validation, target=TARGET, **arguments(patience=6, **options))
    _assert_same_values(edit.head, expected)
    assert edit.best_epoch == edit.method.best_epoch == epoch > 1
    assert edit.after.accuracy == pytest.approx(accuracy)


def _easy(cue):
    """One sample that is right from the start: no epoch is worse than the original."""
    return nudged(cue[1].correct().subset(torch.tensor([0])))


def _blank(cue):
    """An untrained head, so that there is something to learn for several epochs."""
    torch.manual_seed(3)
    head = nn.Linear(6, 3)
    return head, cue[1].with_head(head), cue[2].with_head(head)


# --- scope ---------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["head", "class", "neurons"])
@pytest.mark.parametrize("neurons", [[CUE], [2, CUE]])
def test_edit_head_scope_bounds_the_change(cue, scope, neurons):
    """What may change does change, everything else is bit-identical."""
    head = cue[0]
    edit = _edit(cue, scope=scope, neurons=neurons, mistakes=cue[3].mistakes())
    allowed = torch.zeros(3, 6, dtype=torch.bool)
    if scope == "head":
        allowed[:] = True
    elif scope == "class":
        allowed[TARGET] = True
    else:
        allowed[TARGET, neurons] = True
    assert torch.equal(edit.head.weight != head.weight, allowed)
    bias_allowed = torch.zeros(3, dtype=torch.bool)
    bias_allowed[range(3) if scope == "head" else TARGET] = scope != "neurons"
    assert torch.equal(edit.head.bias != head.bias, bias_allowed)


@pytest.mark.parametrize("scope", ["head", "class", "neurons"])
def test_edit_head_without_bias_stays_without(cue, scope):
    head = linear(cue[0].weight.detach())
    edit = _edit((head, *cue[1:]), scope=scope)
    assert edit.head.bias is None
    assert not torch.equal(edit.head.weight, head.weight)
    model = nn.Sequential(nn.ReLU(), head)
    with edit.applied(model):
        features = cue[4].features
        torch.testing.assert_close(model(features), edit.head(features))


# --- what is kept and reported -------------------------------------------------------


def test_edit_head_leaves_its_arguments_alone(cue):
    head, train, validation, field, _ = cue
    mistakes = field.mistakes()
    sets = (train, validation, mistakes)
    copies = copy.deepcopy(sets)
    state = torch.get_rng_state()
    with left_unchanged(head):
        edit = _edit(cue, mistakes=mistakes, n_epochs=2)
    for one, other in zip(sets, copies, strict=True):
        assert_same_set(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(edit.original.weight, head.weight)
    assert edit.original is not head
    assert edit.original.weight.data_ptr() != head.weight.data_ptr()


def test_edit_head_keeps_the_best_epoch(cue):
    head, train, validation = _blank(cue)
    edit = edit_head(head, train, validation, target=TARGET, neurons=CUE, lr=0.01, n_epochs=8)
    accuracies = [record.accuracy for record in edit.method.history]
    assert [record.epoch for record in edit.method.history] == list(range(1, len(accuracies) + 1))
    assert len(set(accuracies)) > 1
    assert edit.method.best_epoch == 1 + accuracies.index(max(accuracies))
    kept = edit.method.history[edit.method.best_epoch - 1]
    assert edit.after.accuracy == pytest.approx(kept.accuracy)
    assert edit.after.class_accuracy[TARGET] == pytest.approx(kept.target_accuracy)
    assert validation.with_head(edit.head).accuracy() == pytest.approx(kept.accuracy)
    assert edit.before.accuracy == pytest.approx(validation.accuracy())


def test_the_papers_options_differ_in_the_epoch_and_the_rule(cue):
    """What trains is the same; ``test_paper_edit.py`` has it against the formulas."""
    options = EditOptions(rule_at="validation", keep="best_epoch", training=Training(patience=20))
    paper, default = _edit(cue, options="paper").method, _edit(cue).method
    assert paper.settings.options == options
    assert default.settings.options == EditOptions()
    assert paper.history[: len(default.history)] == default.history


@pytest.mark.parametrize("make", [Anchor, EditOptions, EditSettings, Training])
def test_options_are_checked_when_they_are_put_together(make):
    wrong = {
        Anchor: {"to": "the wall"},
        EditOptions: {"anchor": "weights"},
        EditSettings: {"options": Training()},
        Training: {"warmup": "long"},
    }
    with pytest.raises((TypeError, ValueError), match="expected"):
        make(**wrong[make])
    with pytest.raises(TypeError, match=r"training is 3, expected a Training"):
        EditOptions(training=3)


@pytest.mark.parametrize("patience", [1, 3])
def test_edit_head_patience_stops(cue, patience):
    """No epoch is better than the first."""
    options = {"lr": 1e-5, "patience": patience, "n_epochs": 9}
    edit = edit_head(cue[0], cue[1], _easy(cue), target=TARGET, neurons=CUE, **arguments(**options))
    assert edit.method.best_epoch == 1
    assert len(edit.method.history) == 1 + patience


def test_edit_head_is_drawn_by_its_seed_only(cue):
    """The order of batches and the draw of mistakes both come from the seed."""
    options = {"n_epochs": 2, "mistakes": cue[3].mistakes()}
    weights = [_edit(cue, seed=seed, **options).head.weight for seed in (4, 4, 5)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_edit_head_reports_by_hand(cue, edit):
    validation = cue[2]
    assert edit.before.class_accuracy == pytest.approx(validation.class_accuracy().tolist())
    assert edit.before.group_accuracy == pytest.approx(validation.group_accuracy().tolist())
    mean = validation.features[validation.labels == TARGET].mean(0)[None]
    for result, head in ((edit.before, edit.original), (edit.after, edit.head)):
        expected = probability_ratio(head, mean, CUE, TARGET).item()
        assert result.ratios == pytest.approx((expected,))
    assert (edit.target, edit.neurons) == (TARGET, (CUE,))
    assert (edit.method.settings.strength, edit.method.ratio) == (0.1, 1.0)


def test_edit_head_evaluate_judges_other_data(cue, edit):
    test = cue[4]
    before, after = edit.evaluate(test)
    assert before.accuracy == pytest.approx(test.accuracy())
    assert after.accuracy == pytest.approx(test.with_head(edit.head).accuracy())
    without_target = edit.evaluate(test.subset(test.labels != TARGET))[0]
    assert np.isnan(without_target.class_accuracy[TARGET])
    assert np.isnan(without_target.ratios).all()


def test_edit_head_ratio_by_rule(cue):
    train = cue[1]
    mean = train.features[train.labels == TARGET].mean(0)[None]
    ratios = [probability_ratio(cue[0], mean, j, TARGET).item() for j in (CUE, 1)]
    edit = _edit(cue, neurons=[CUE, 1], ratio="rule")
    assert edit.method.ratio == pytest.approx((min(ratios) - 1) / 3 + 1)


def test_edit_head_returns_the_original_rather_than_a_worse_head(cue):
    """Trained on wrong labels, the head must get worse, and says so at the caller's line."""
    head, train, validation = cue[:3]
    wrong = feature_set(head, train.features, (train.labels + 1) % 3)
    with pytest.warns(RuntimeWarning, match=r"every epoch was worse than the original") as record:
        edit = edit_head(head, wrong, validation, target=TARGET, neurons=CUE, lr=0.1)
    assert max(epoch.accuracy for epoch in edit.method.history) < edit.before.accuracy
    assert edit.method.best_epoch == 0
    assert torch.equal(edit.head.weight, head.weight)
    assert edit.after == edit.before
    assert record[0].filename == __file__


def test_edit_head_keeps_the_dtype_of_the_head(cue):
    head = copy.deepcopy(cue[0]).double()
    edit = _edit((head, *cue[1:]))
    assert edit.head.weight.dtype == edit.original.weight.dtype == torch.float64


def test_edit_head_progress_is_shown(cue, capsys):
    _edit(cue, strength=0)
    assert capsys.readouterr().err == ""
    _edit(cue, strength=0, n_epochs=3, progress=True)
    assert "edit: 100%" in capsys.readouterr().err


# --- applied -------------------------------------------------------------------------


def _model(head):
    """The head in a model with another linear layer of the same shape."""
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), copy.deepcopy(head)).train()


def test_applied_puts_the_edit_in_and_takes_it_out(cue, edit):
    model = _model(cue[0])
    inputs = torch.rand(4, 6)
    with torch.no_grad(), left_unchanged(model):
        with edit.applied(model) as same:
            assert same is model
            assert torch.equal(model[3].weight, edit.head.weight)
            assert torch.equal(model[3].bias, edit.head.bias)
            torch.testing.assert_close(model(inputs), edit.head(model[:3](inputs)))


def test_applied_takes_the_edit_out_after_an_exception(cue, edit):
    model = _model(cue[0])
    with left_unchanged(model), pytest.raises(Boom), edit.applied(model):
        raise Boom


def test_applied_refuses_another_model(edit):
    model = _model(nn.Linear(6, 3))
    with (
        left_unchanged(model),
        pytest.raises(ValueError, match="0 layers of Sequential have the weights"),
        edit.applied(model),
    ):
        pass


def test_applied_refuses_twins(cue, edit):
    """Two layers with the original's values: which one was edited is anyone's guess."""
    model = _model(cue[0]).append(copy.deepcopy(cue[0]))
    with (
        left_unchanged(model),
        pytest.raises(ValueError, match="2 layers of Sequential"),
        edit.applied(model),
    ):
        pass


def test_applied_refuses_to_be_applied_twice(cue, edit):
    model = _model(cue[0])
    with (
        left_unchanged(model),
        pytest.raises(ValueError, match="applied already"),
        edit.applied(model),
        edit.applied(model),
    ):
        pass


# --- files ---------------------------------------------------------------------------


@pytest.mark.parametrize("as_double", [False, True])
def test_save_load_round_trip(cue, tmp_path, as_double):
    """Also NaN (a class that validation lacks) and no group labels."""
    head = copy.deepcopy(cue[0])
    head = head.double() if as_double else head
    validation = cue[2].subset(cue[2].labels != 2)
    validation = FeatureSet(validation.features, validation.logits, validation.labels)
    edit = edit_head(
        head, cue[1], validation, target=TARGET, neurons=[CUE, 1], scope="class", n_epochs=2
    )
    loaded = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    for name in ("head", "original"):
        for key in ("weight", "bias"):
            one, other = (getattr(getattr(e, name), key) for e in (edit, loaded))
            assert torch.equal(one, other)
            assert one.dtype == other.dtype
    assert (loaded.targets, loaded.link) == (edit.targets, edit.link)
    assert loaded.method == edit.method
    for name in ("before", "after"):
        one, other = (asdict(getattr(e, name)) for e in (edit, loaded))
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert type(other[key]) is type(value)
            if value is not None:
                assert other[key] == pytest.approx(value, nan_ok=True, rel=0, abs=0)
    assert np.isnan(edit.before.class_accuracy[2])
    with left_unchanged(model := _model(head)), loaded.applied(model):
        assert torch.equal(model[3].weight, edit.head.weight)


def test_save_takes_torch_and_numpy_numbers(cue, tmp_path):
    edit = _edit(cue, target=torch.tensor(TARGET), strength=np.float32(0.125))
    loaded = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    assert (loaded.target, loaded.method.settings.strength) == (TARGET, 0.125)


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": None}, ValueError, "target is missing"),
        ({"target": 3}, ValueError, r"target=3 is out of range: expected 0..2 \(3 classes\)"),
        ({"target": -1}, ValueError, "target=-1 is out of range"),
        ({"neurons": []}, ValueError, "neurons is empty"),
        ({"neurons": [5, 5]}, ValueError, r"neurons=\[5, 5\] repeats an index"),
        ({"neurons": [6]}, ValueError, "neuron=6 is out of range: expected 0..5"),
        ({"neurons": -1}, ValueError, "neuron=-1 is out of range"),
        ({"neurons": [0.5]}, TypeError, "expected whole numbers"),
        ({"neurons": "all"}, TypeError, "neurons='all', expected indices"),
        ({"neurons": {0: [1]}}, ValueError, "target=0 beside neurons"),
        ({"target": None, "neurons": {}}, ValueError, "neurons is empty: expected at least one"),
        ({"target": None, "neurons": {0: []}}, ValueError, "neurons is empty"),
        ({"target": None, "neurons": {3: [1]}}, ValueError, "target=3 is out of range"),
        ({"target": None, "neurons": {1: [6]}}, ValueError, "neuron=6 is out of range"),
        ({"ratio": [1.0, 1.0]}, ValueError, "ratio has 2 values, expected one or 1"),
        ({"ratio": [-1.0]}, ValueError, r"ratio=\[-1.0\], expected a positive number"),
        ({"ratio": {1: 1.0}}, ValueError, r"ratio is for classes \[1\], neurons for \[0\]"),
        (
            {"target": None, "neurons": {0: [1], 1: [2]}, "ratio": [1.0, 1.0]},
            ValueError,
            "one value a neuron needs a mapping",
        ),
        ({"penalty": "l1"}, ValueError, "penalty='l1', expected one of"),
        ({"anchor": "head"}, ValueError, "anchor.to='head', expected one of"),
        (
            {"anchor": "weights", "anchor_weight": -1},
            ValueError,
            "weight=-1, expected a finite number",
        ),
        ({"select": "best"}, ValueError, "select='best', expected one of"),
        ({"max_cost": float("nan")}, ValueError, "max_cost=nan"),
        ({"schedule": "linear"}, ValueError, "schedule='linear', expected one of"),
        ({"warmup": 20}, ValueError, "warmup=20, expected less than n_epochs=20"),
        ({"warmup": -1}, ValueError, "warmup=-1, expected a finite number, 0 or more"),
        ({"link": "probit"}, ValueError, "link='probit', expected one of"),
        ({"strength": "auto"}, TypeError, "strength='auto', expected a number"),
        ({"batch_size": 4.5}, TypeError, "batch_size=4.5, expected a whole number"),
        ({"seed": 0.5}, TypeError, "seed=0.5, expected a whole number"),
        ({"options": "fast"}, ValueError, "options='fast', expected EditOptions or 'paper'"),
        ({"options": {}}, TypeError, "options is dict, expected EditOptions or 'paper'"),
        ({"scope": "all"}, ValueError, "scope='all', expected one of"),
        ({"strength": -1}, ValueError, "strength=-1, expected a finite number, 0 or more"),
        ({"strength": float("inf")}, ValueError, "strength=inf"),
        ({"strength": float("nan")}, ValueError, "strength=nan"),
        ({"ratio": 0}, ValueError, "ratio=0, expected a positive number or 'rule'"),
        ({"ratio": float("inf")}, ValueError, "ratio=inf"),
        ({"ratio": "auto"}, ValueError, "ratio='auto'"),
        ({"mistake_weight": 0}, ValueError, "mistake_weight=0, expected a positive number"),
        ({"lr": 0.0}, ValueError, "lr=0.0, expected a positive number"),
        ({"n_epochs": 0}, ValueError, "n_epochs=0, expected at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size=0, expected at least 1"),
        ({"patience": 0}, ValueError, "patience=0, expected at least 1"),
    ],
)
def test_edit_head_refuses_options(cue, options, error, message):
    with pytest.raises(error, match=message):
        _edit(cue, **options)


def test_edit_head_refuses_sets(cue):
    head, train, validation = cue[:3]
    empty = train.subset(train.labels > 2)
    other = feature_set(nn.Linear(4, 3), torch.rand(3, 4), [0, 1, 2])
    fewer = feature_set(nn.Linear(6, 2), torch.rand(2, 6), [0, 1])
    edit = {"target": TARGET, "neurons": CUE}
    with pytest.raises(ValueError, match="train is empty"):
        edit_head(head, empty, validation, **edit)
    with pytest.raises(ValueError, match="validation is empty"):
        edit_head(head, train, empty, **edit)
    with pytest.raises(ValueError, match="mistakes is empty"):
        edit_head(head, train, validation, mistakes=empty, **edit)
    with pytest.raises(ValueError, match="train has 4 features and 3 classes, the head takes 6"):
        edit_head(head, other, validation, **edit)
    with pytest.raises(ValueError, match="validation has 6 features and 2 classes"):
        edit_head(head, train, fewer, **edit)
    with pytest.raises(ValueError, match="target=0 has no sample in train"):
        edit_head(head, train.subset(train.labels > 0), validation, **edit)
    alone = train.subset(train.labels == TARGET)
    with pytest.raises(ValueError, match="train has samples of target=0 only"):
        edit_head(head, alone, validation, **edit)
    with pytest.raises(TypeError, match=r"head is Conv2d, expected nn\.Linear"):
        edit_head(nn.Conv2d(3, 6, 1), train, validation, **edit)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # few epochs find nothing better
def test_an_edit_says_that_classes_have_no_sample(cue):
    head, train, validation = cue[:3]
    some = train.subset(train.labels != 2)
    with pytest.warns(UserWarning, match="samples of 2 of the head's 3 classes"):
        edit_head(head, some, validation, target=TARGET, neurons=CUE, n_epochs=1)
    seen, other = validation.split(0.5)
    with pytest.warns(UserWarning, match="samples of 2 of the head's 3 classes"):
        mend(head, some, seen, other.subset(other.labels != 2), target=TARGET)


def test_edit_head_refuses_sets_of_another_head_or_backbone(cue):
    head, train, validation = cue[:3]
    other = nn.Linear(6, 3)
    edit = {"target": TARGET, "neurons": CUE, "n_epochs": 1}
    for name in ("train", "validation", "mistakes"):
        sets = {"train": train, "validation": validation, "mistakes": None}
        sets[name] = validation.with_head(other)
        with pytest.raises(ValueError, match=f"{name} was judged by another head .* give {name}"):
            edit_head(head, **sets, **edit)
    known = train.with_head(head)
    edit_head(head, known, _easy(cue).with_head(head), **edit)
    one, two = (replace(s, backbone_fingerprint=n) for s, n in ((known, "a"), (validation, "b")))
    with pytest.raises(ValueError, match="the sets come from different backbones"):
        edit_head(head, one, two, **edit)
