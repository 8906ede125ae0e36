"""What one can do with an edit: put it in, take it out, add it up, keep and show it."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import pytest
import torch
from edit_arguments import arguments
from helpers import feature_set, left_unchanged, nudged
from torch import nn

from captum_neuroinspect import HeadEdit, edit_head
from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect._core.shares import share_with_interval
from captum_neuroinspect.edit import HeadDiff, compare_heads


def _case(dtype=torch.float32, bias=True, class_names=None):
    head = nn.Linear(6, 3, bias=bias, dtype=dtype)
    rng = torch.Generator().manual_seed(0)
    features, labels = torch.rand(30, 6, generator=rng), torch.arange(30) % 3
    data = feature_set(copy.deepcopy(head).float(), features, labels, torch.arange(30) % 2)
    object.__setattr__(data, "class_names", class_names)
    return head, data


def _edit(head, data, **options):
    defaults = {"target": 1, "neurons": [0, 4], "n_epochs": 2, "lr": 1e-4}
    right = data.correct()
    surest = right.logits.softmax(1).amax(1).argmax()  # no small edit is worse on it
    easy = nudged(right.subset(surest[None]))
    return edit_head(head, data, easy, **arguments(**(defaults | options)))


def _model(head):
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), copy.deepcopy(head))


# --- apply and revert ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_apply_and_revert_are_bit_identical(dtype, bias):
    head, data = _case(dtype, bias)
    edit = _edit(head, data, lr=0.02)
    model = _model(head)
    with left_unchanged(model):
        assert edit.apply_(model) is model
        assert torch.equal(model[3].weight, edit.head.weight)
        assert not torch.equal(model[3].weight, head.weight)
        assert edit.revert_(model) is model
    assert torch.equal(model[3].weight, head.weight)


def test_apply_and_revert_refuse_other_layers():
    head, data = _case()
    edit = _edit(head, data)
    model, other = _model(head), _model(nn.Linear(6, 3))
    for wrong in (model, other):
        with left_unchanged(wrong), pytest.raises(ValueError, match="not applied to this model"):
            edit.revert_(wrong)
    with left_unchanged(other), pytest.raises(ValueError, match="belongs to another model"):
        edit.apply_(other)
    edit.apply_(model)
    with left_unchanged(model), pytest.raises(ValueError, match="or is applied already"):
        edit.apply_(model)


def test_apply_refuses_a_layer_without_place_for_the_bias():
    head, data = _case()
    with torch.no_grad():
        head.bias.zero_()
    edit = _edit(head, feature_set(head, data.features, data.labels))
    bare = nn.Linear(6, 3, bias=False)
    bare.load_state_dict({"weight": head.weight})
    model = _model(bare)
    with left_unchanged(model), pytest.raises(ValueError, match="layer has no bias"):
        edit.apply_(model)


# --- differences ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scope", ["head", "class", "neurons"])
def test_diff_gives_the_edited_head_bit_by_bit(dtype, scope):
    head, data = _case(dtype)
    edit = _edit(head, data, scope=scope)
    again = edit.diff().apply_to(head)
    assert torch.equal(again.weight, edit.head.weight)
    assert torch.equal(again.bias, edit.head.bias)


def test_diff_measures_the_change_by_hand():
    head, _ = _case()
    other = copy.deepcopy(head)
    with torch.no_grad():
        other.weight[0, 1] += 3.0
        other.weight[2, 5] -= 4.0
        other.bias[1] += 1.0
    diff = HeadDiff.between(head, other)
    assert diff.norm == pytest.approx(5.0, rel=1e-6)
    assert diff.n_changed == 2
    assert diff.d_bias.tolist() == pytest.approx([0, 1, 0])
    assert "2 of 3x6 coefficients, norm 5" in repr(diff)


def test_diffs_of_one_head_add_up():
    """Disjoint rows: the sum has the rows of both."""
    head, data = _case()
    first = _edit(head, data, scope="class", target=0)
    second = _edit(head, data, scope="class", target=2)
    total = first.diff() + second.diff()
    both = total.apply_to(head)
    assert torch.equal(both.weight[0], first.head.weight[0])
    assert torch.equal(both.weight[1], head.weight[1])
    assert torch.equal(both.weight[2], second.head.weight[2])
    assert torch.equal((second.diff() + first.diff()).apply_to(head).weight, both.weight)
    edit = compare_heads(head, both, data, {0: [0], 2: [0]})
    assert edit.after.accuracy == data.with_head(both).accuracy()


def test_diffs_refuse_other_heads():
    head, data = _case()
    diff = _edit(head, data).diff()
    other = HeadDiff.between(nn.Linear(6, 3), nn.Linear(6, 3))
    with pytest.raises(ValueError, match="changes of two heads"):
        diff + other
    with pytest.raises(ValueError, match="the change belongs to"):
        other.apply_to(head)
    with pytest.raises(ValueError, match="or is changed already"):
        diff.apply_to(diff.apply_to(head))
    with pytest.raises(TypeError, match="head is ReLU"):
        diff.apply_to(nn.ReLU())
    with pytest.raises(ValueError, match="expected the same"):
        HeadDiff.between(head, nn.Linear(6, 4))
    with pytest.raises(TypeError, match="unsupported operand"):
        diff + 1
    silent = nn.Linear(6, 3)
    with torch.no_grad():
        silent.bias.zero_()
    bare = nn.Linear(6, 3, bias=False)
    bare.load_state_dict({"weight": silent.weight})
    with pytest.raises(ValueError, match="head has no bias"):
        HeadDiff.between(silent, nn.Linear(6, 3)).apply_to(bare)


# --- files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": [1.0, 1.5]},
        {"target": None, "neurons": {0: [1], 2: [3, 5]}, "ratio": {0: 1.1, 2: [1.0, 1.2]}},
        {"anchor": "weights", "anchor_weight": 0.5, "select": "min_class", "schedule": "cosine"},
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_save_load_round_trip_of_all_settings(tmp_path, options, bias):
    head, data = _case(bias=bias, class_names=("a", "é", "<c>"))
    edit = _edit(head, data, **options)
    loaded = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    for name in vars(edit):
        if name not in ("head", "original"):  # as text, because NaN equals nothing
            assert str(getattr(loaded, name)) == str(getattr(edit, name)), name
    for name in ("head", "original"):
        one, other = (getattr(e, name).state_dict() for e in (edit, loaded))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert loaded.summary() == edit.summary()
    assert (loaded.diff() + edit.diff()).norm == pytest.approx(2 * edit.diff().norm)


def test_load_refuses_other_files(tmp_path):
    _, data = _case()
    with pytest.raises(ValueError, match=r"set.safetensors .*it holds 'FeatureSet', expected Head"):
        HeadEdit.load(data.save(tmp_path / "set.safetensors"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("method.settings.scope", "all", "scope='all', expected one of"),
        ("method.settings.strength", "10", "strength='10', expected a number"),
        ("method.settings.options.anchor", {"to": "weights", "weight": -1}, "weight=-1, expected"),
        ("method.settings.options.training.patience", 0, "patience=0, expected at least 1"),
        ("method.best_epoch", 1.5, "`method` is ConstraintRecord("),
        ("method.best_epoch", 99, "best_epoch=99, expected 0..2"),
        ("method.ratio", "rule", "`method` is ConstraintRecord("),
        ("method.settings", None, "`method` is ConstraintRecord("),
        ("method", ["mend", {"seed": 0}], "missing 3 required positional arguments"),
        ("method", ["other", {}], "it has no 'other'"),
        ("link", None, "`link` is None"),
        ("targets", [[5, [1]]], "target=5 is out of range: expected 0..2"),
        ("targets", [[1, [6]]], "neuron=6 is out of range: expected 0..5"),
        ("targets", [[1, ["a"]]], "`targets` is {1: "),
        ("class_names", ["a"], "1 class names for 3 classes"),
        ("before", {"accuracy": 1}, "missing 3 required positional arguments"),
        ("method.history", [{"epoch": 1}], "missing 4 required positional arguments"),
        ("method.history", 3, "has no len"),
        ("group_shares", ["a"], "`group_shares` is"),
        ("is_kept", 1, "`is_kept` is 1, expected bool"),
        ("verdict", {"decision": "keep"}, "missing 1 required positional argument"),
    ],
)
def test_load_refuses_a_record_that_makes_no_edit(tmp_path, field, value, message):
    edit = _edit(*_case())
    path = edit.save(tmp_path / "edit.safetensors")
    tensors, record = read_kept(path, "HeadEdit", version=2)
    *outer, last = field.split(".")
    inner = record
    for name in outer:
        inner = inner[name][1] if name == "method" else inner[name]
    inner[last] = value
    write_kept(path, "HeadEdit", tensors, record)
    with pytest.raises(ValueError, match=rf"edit\.safetensors cannot .*{re.escape(message)}"):
        HeadEdit.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("decision", "maybe"),
        ("n_judged", "many"),
        ("target_gain", {"value": "a", "low": 0.0, "high": 1.0}),
        ("neurons_matter", "yes"),
    ],
)
def test_load_refuses_a_verdict_of_other_kinds(tmp_path, field, value):
    path = _judged_edit().save(tmp_path / "edit.safetensors")
    tensors, record = read_kept(path, "HeadEdit", version=2)
    record["verdict"][field] = value
    write_kept(path, "HeadEdit", tensors, record)
    with pytest.raises(ValueError, match=r"cannot .*`verdict` is"):
        HeadEdit.load(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seen", torch.zeros(3), "names of its samples are torch.float32"),
        ("judged.indices", torch.zeros(30), "indices are torch.float32"),
        ("judged.after", torch.zeros(30, 4), "4 logits, the head 3"),
        ("judged.before", torch.zeros(29, 3), "29"),
        ("judged.labels", None, "it has no 'judged.labels'"),
    ],
)
def test_load_refuses_samples_that_judged_no_such_head(tmp_path, name, value, message):
    path = _judged_edit().save(tmp_path / "edit.safetensors")
    tensors, record = read_kept(path, "HeadEdit", version=2)
    assert {"seen", "judged.indices", "judged.after", "judged.before", "judged.labels"} <= {
        *tensors
    }
    changed = {**tensors, name: value}
    write_kept(path, "HeadEdit", {n: t for n, t in changed.items() if t is not None}, record)
    with pytest.raises(ValueError, match=rf"edit\.safetensors cannot .*{re.escape(message)}"):
        HeadEdit.load(path)


def _judged_edit():
    head, data = _case()
    test = feature_set(head, torch.rand(30, 6), torch.arange(30) % 3)
    return _edit(head, data).judge(test)


def test_load_refuses_heads_of_two_shapes(tmp_path):
    path = _edit(*_case()).save(tmp_path / "edit.safetensors")
    tensors, record = read_kept(path, "HeadEdit", version=2)
    write_kept(path, "HeadEdit", tensors | {"head.weight": torch.zeros(3, 9)}, record)
    with pytest.raises(ValueError, match="its two heads have different shapes"):
        HeadEdit.load(path)


# --- many targets --------------------------------------------------------------------


def test_edit_of_many_classes_has_no_single_target():
    head, data = _case()
    edit = _edit(head, data, target=None, neurons={2: [3, 5], 0: 1}, ratio={2: 1.0, 0: 1.1})
    assert edit.targets == {2: (3, 5), 0: (1,)}
    assert edit.method.ratio == {2: pytest.approx(1.0), 0: pytest.approx(1.1)}
    assert list(edit.neuron_ratios()) == [(2, 3), (2, 5), (0, 1)]
    assert [pair[0] for pair in edit.neuron_ratios().values()] == list(edit.before.ratios)
    for name in ("target", "neurons"):
        with pytest.raises(ValueError, match=r"2 classes edited: see `\.targets`"):
            getattr(edit, name)


# --- shown ---------------------------------------------------------------------------


def test_summary_shows_before_and_after():
    head, data = _case(class_names=("ant", "bee", "cow"))
    edit = compare_heads(head, nn.Linear(6, 3), data, {1: [0, 4]}, train=data)
    lines = edit.summary().splitlines()
    assert lines[0].startswith("Edit of bee: 2 neurons, two heads compared; ")
    rows = {line[:25].strip(): line.split()[-3:] for line in lines[3:]}
    before, after = edit.before.accuracy, edit.after.accuracy
    assert rows["accuracy"] == [f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}"]
    for name in ("adjusted accuracy", "worst group", "calibration error", "ant", "bee (target)"):
        assert name in rows
    assert any(line.startswith("ratio of neuron 4, bee") for line in lines)
    assert "HeadEdit(targets [1]" in repr(edit)


def test_groups_carry_their_names(tmp_path):
    head, data = _case()
    data = replace(data, group_names=("on <land>", "on water", "in neither"))
    edit = compare_heads(head, nn.Linear(6, 3), data, {1: [0, 4]})
    assert edit.before.group_names == ("on <land>", "on water")
    kept = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    for one in (edit, kept):
        assert "\non water " in one.summary()
        assert "on &lt;land&gt;" in one._repr_html_()


def test_summary_of_many_classes_is_cut_short():
    head = nn.Linear(4, 50)
    data = feature_set(head, torch.rand(100, 4), torch.arange(100) % 50)
    edit = compare_heads(head, nn.Linear(4, 50), data, {49: [0]})
    text = edit.summary()
    assert "class 49 (target)" in text
    assert "(30 classes that changed less are not shown)" in text
    assert len(text.splitlines()) < 40


def test_summary_says_what_it_leaves_out():
    head = nn.Linear(30, 3)
    data = feature_set(head, torch.rand(9, 30), torch.arange(9) % 3)
    edit = compare_heads(head, nn.Linear(30, 3), data, {1: range(25)})
    assert "(5 ratios of neurons are not shown)" in edit.summary()
    assert "(5 ratios of neurons are not shown)" in edit._repr_html_()
    assert "not shown" not in compare_heads(head, head, data, {1: [0]}).summary()


def test_html_is_escaped():
    head, data = _case(class_names=("<script>", "b&", "c"))
    html = _edit(head, data)._repr_html_()
    assert "<script>" not in html
    assert "b&amp;" in html


@pytest.mark.parametrize("n_epochs", [0, 3])
def test_plot_shows_classes_and_training(n_epochs):
    head, data = _case(class_names=("$a", "b$", "c"))
    edit = (
        _edit(head, data, n_epochs=n_epochs)
        if n_epochs
        else compare_heads(head, nn.Linear(6, 3), data, {1: [0]})
    )
    figure = edit.plot()
    figure.canvas.draw()
    classes = figure.axes[0]
    n_shown = len(classes.get_yticklabels())
    assert len(classes.patches) == 2 * n_shown
    assert len(figure.axes) == (3 if n_epochs else 2)


def test_settings_are_on_record():
    head, data = _case()
    edit = _edit(head, data, penalty="mean_ratio", seed=3)
    assert edit.method.settings.options.penalty == "mean_ratio"
    assert edit.method.settings.seed == 3


@pytest.mark.parametrize("n", [19, 20])
def test_shares_of_few_samples_carry_count_and_interval(n):
    """Class 0 has few samples or just enough; all together are enough."""
    head = nn.Linear(4, 2)
    labels = torch.tensor([0] * n + [1] * 30)
    data = feature_set(head, torch.rand(n + 30, 4), labels)
    edit = compare_heads(head, nn.Linear(4, 2), data, {0: [1]})
    rows = {line.split("  ")[0]: line for line in edit.summary().splitlines() if line}
    right = [round(e.class_accuracy[0] * n) for e in (edit.before, edit.after)]
    counted = " \u2192 ".join(share_with_interval(k, n) for k in right)
    assert rows["class 0 (target)"].endswith(counted if n < 20 else rows["class 0 (target)"][-6:])
    assert (f"of {n} (95 %" in rows["class 0 (target)"]) == (n < 20)
    assert "95 %" not in rows["class 1"]
    assert "95 %" not in rows["accuracy"]
    assert (counted in edit._repr_html_()) == (n < 20)


def test_few_samples_in_all():
    head = nn.Linear(4, 2)
    data = feature_set(head, torch.rand(8, 4), torch.arange(8) % 2)
    edit = compare_heads(head, nn.Linear(4, 2), data, {0: [1]})
    (line,) = (line for line in edit.summary().splitlines() if line.startswith("accuracy"))
    assert "of 8 (95 %: " in line
    (line,) = (li for li in edit.summary().splitlines() if li.startswith("calibration error"))
    assert "95 %" not in line
