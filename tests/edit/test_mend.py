"""Mending from samples met in use: what it does, when it refuses, and its two parts."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_neuroinspect import FeatureSet, HeadEdit, NeuronCounterfactual, rank_neurons
from captum_neuroinspect.edit import mend
from captum_neuroinspect.edit._mend_choice import neurons_behind
from captum_neuroinspect.edit._mend_fit import Weighted, anchored_fit, moved_samples

N_CLASSES, N_FEATURES, CUE = 3, 12, 9


def sampled(n, has_cue, seed):
    """Class c lights up features c and c + 3; the cue lights up feature 9."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % N_CLASSES
    z = 0.6 * torch.rand(n, N_FEATURES, generator=rng)
    z += 0.5 * (F.one_hot(labels, N_FEATURES) + F.one_hot(labels + 3, N_FEATURES))
    z[:, CUE] += 2.0 * (has_cue(labels) if callable(has_cue) else has_cue)
    return z, labels


def scenario():
    """Class 0 has the cue in all training samples; in use the cue is anywhere but there."""
    train_z, train_y = sampled(150, lambda y: (y == 0).float(), 0)
    zero = nn.Linear(N_FEATURES, N_CLASSES)
    nn.init.zeros_(zero.weight)
    nn.init.zeros_(zero.bias)
    start = Weighted(train_z, train_y, torch.ones(150))
    weight, bias = anchored_fit(start, zero.weight.detach(), zero.bias.detach(), anchor=0.01)
    head = nn.Linear(N_FEATURES, N_CLASSES)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)

    def judged(z, y):
        return FeatureSet(z, head(z).detach(), y)

    met = judged(*sampled(60, lambda y: (y == 1).float(), 1))
    validation = judged(*sampled(60, lambda y: (y == 0).float(), 2))
    test = judged(*sampled(300, lambda y: (y == 1).float(), 3))
    return head, judged(train_z, train_y), validation, met, test


def test_it_mends_a_class_that_leans_on_a_cue():
    head, train, validation, met, test = scenario()
    before = [parameter.clone() for parameter in head.parameters()]
    edit = mend(head, train, validation, met, target=0)
    assert test.class_accuracy()[0] < 0.5, "the cue harms the class"
    after = test.with_head(edit.head)
    assert after.class_accuracy()[0] > 0.8
    assert after.accuracy() > test.accuracy()
    assert CUE in edit.neurons
    assert edit.method.chosen.target > edit.method.original.target
    flat = edit.settings
    assert (flat["method"], flat["held_out_target_after"]) == ("mend", edit.method.chosen.target)
    assert flat["held_out_mean_before"] == edit.method.original.mean
    assert edit.best_epoch == 1
    assert all(torch.equal(a, b) for a, b in zip(before, head.parameters(), strict=True))


def test_the_same_seed_gives_the_same_head():
    head, train, validation, met, _ = scenario()
    first, second = (mend(head, train, validation, met, target=0, seed=3) for _ in range(2))
    assert first.head.weight.equal(second.head.weight)


def test_a_head_without_bias_stays_without():
    head, train, validation, met, _ = scenario()
    bare = nn.Linear(N_FEATURES, N_CLASSES, bias=False)
    bare.weight = head.weight
    sets = [data.with_head(bare) for data in (train, validation, met)]
    assert mend(bare, *sets, target=0).head.bias is None


def test_too_few_samples_of_the_target():
    head, train, validation, met, _ = scenario()
    few = met.subset(
        torch.cat([(met.labels == 0).nonzero()[:4, 0], (met.labels > 0).nonzero()[:, 0]])
    )
    with pytest.warns(RuntimeWarning, match="4 samples of the target in deployment"):
        edit = mend(head, train, validation, few, target=0)
    assert edit.head.weight.equal(head.weight)
    assert edit.is_original
    assert edit.method.chosen is None
    assert edit.best_epoch == 0
    assert edit.method.n_target == 4
    assert edit.plot().axes


def test_an_edit_that_costs_too_much_is_refused():
    """Labels of the samples met that contradict all others: held out, the rest suffers."""
    head, train, validation, met, _ = scenario()
    wrong = FeatureSet(met.features, met.logits, torch.zeros_like(met.labels))
    with pytest.warns(RuntimeWarning, match="points of mean held-out accuracy"):
        edit = mend(head, train, validation, wrong, target=0, target_weight=50.0)
    assert edit.head.weight.equal(head.weight)
    # What is shown is of the head that is returned, not of the one that was refused.
    record = edit.method
    assert record.chosen == record.original
    assert record.fitted.mean < record.original.mean - record.max_cost
    assert [one.before == one.after for one in record.held_out()] == [True, True]
    assert "the verdict rests on others" in edit.summary()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 3}, "target"),
        ({"target": 0, "n_neurons": -1}, "n_neurons=-1"),
        ({"target": 0, "target_weight": 0.0}, "target_weight=0.0"),
        ({"target": 0, "max_cost": 2.0}, "max_cost=2.0"),
        ({"target": 0, "neurons": []}, "neurons is empty"),
        ({"target": 0, "neurons": [12]}, "neuron=12 is out of range"),
    ],
)
def test_bad_arguments(options, message):
    head, train, validation, met, _ = scenario()
    with pytest.raises(ValueError, match=message):
        mend(head, train, validation, met, **options)


# Neurons by hand, and candidates


def test_given_neurons_are_those_that_are_moved():
    head, train, validation, met, _ = scenario()
    found = mend(head, train, validation, met, target=0, n_neurons=3)
    given = mend(head, train, validation, met, target=0, neurons=found.neurons, n_neurons=0)
    assert given.neurons == found.neurons
    assert given.head.weight.equal(found.head.weight)


def test_the_neurons_that_are_moved_are_those_that_mistakes_blame_most():
    head, train, validation, met, _ = scenario()
    wrong = met.mistakes(0)
    w = NeuronCounterfactual(head, head).attribute_features(wrong.features, wrong.labels)
    rows = rank_neurons(w, features=wrong, reference=train).rows()
    order = [row["neuron"] for row in sorted(rows, key=lambda row: -row["magnitude"])]
    assert mend(head, train, validation, met, target=0, n_neurons=2).neurons == tuple(order[:2])


@pytest.mark.filterwarnings("ignore:.*did not converge:RuntimeWarning")
def test_blame_of_nothing():
    head, train, *_ = scenario()
    nothing = train.subset(train.labels > N_CLASSES)
    assert neurons_behind(head, nothing, train).tolist() == []
    with torch.no_grad():
        head.weight.zero_()
    assert neurons_behind(head, train.with_head(head).mistakes(), train).tolist() == []


def test_the_choice_by_a_literal_loop():
    """Three heads without a third of the samples met each, judged by hand on that third."""
    head, train, validation, met, _ = scenario()
    edit = mend(head, train, validation, met, target=0, neurons=[CUE])
    kind = [f"{y} {right}" for y, right in zip(met.labels, met.is_correct, strict=True)]
    shuffled = torch.randperm(len(met), generator=torch.Generator().manual_seed(0)).tolist()
    order = sorted(shuffled, key=lambda row: kind[row])
    right_met, right_validation = torch.zeros(len(met)), torch.zeros(len(validation))
    for part in range(3):
        mine = torch.tensor(order[part::3])
        others = torch.tensor([row for row in range(len(met)) if row not in mine])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            once = mend(
                head, train, validation, met.subset(others), target=0, neurons=[CUE], max_cost=1.0
            ).head
        right_met[mine] = met.with_head(once).is_correct[mine].float()
        right_validation += validation.with_head(once).is_correct / 3
    target = float(right_met[met.labels == 0].mean())
    rights, labels = (
        torch.cat([right_met, right_validation]),
        torch.cat([met.labels, validation.labels]),
    )
    means = [target, *(float(rights[labels == c].mean()) for c in (1, 2))]
    assert edit.method.fitted.target == pytest.approx(target)
    assert edit.method.fitted.mean == pytest.approx(sum(means) / 3)
    assert edit.method.original.target == pytest.approx(float(met.class_accuracy()[0]))
    assert edit.method.chosen == edit.method.fitted
    assert edit.method.objection is None


def test_candidates_are_saved_and_shown(tmp_path):
    head, train, validation, met, _ = scenario()
    edit = mend(head, train, validation, met, target=0, n_neurons=1)
    loaded = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    assert loaded.method == edit.method
    assert loaded.summary() == edit.summary()
    lines = edit.summary().splitlines()
    at = lines.index("Candidates, with a cap of 0.01 on the cost in the mean:")
    assert [line.split()[0] for line in lines[at + 2 :]] == ["original", "fitted"]
    assert lines[-1].endswith("chosen")
    assert any(line.startswith("mean over classes, kept from the fit") for line in lines)
    assert "<td>chosen</td>" in edit._repr_html_()
    assert "1 neurons, mend;" in edit.summary()
    figure = edit.plot()
    figure.canvas.draw()
    mean, target = figure.axes[1].lines
    assert list(target.get_ydata()) == [
        one.target for one in (edit.method.original, edit.method.fitted)
    ]
    assert list(mean.get_ydata()) == [
        one.mean for one in (edit.method.original, edit.method.fitted)
    ]


# The parts


def test_moved_samples_by_hand():
    train = FeatureSet(
        torch.tensor([[3.0, 1.0], [5.0, 1.0], [0.0, 2.0]]),
        torch.zeros(3, 2),
        torch.tensor([0, 0, 1]),
    )
    met = FeatureSet(
        torch.tensor([[1.0, 9.0], [0.0, 4.0]]), torch.zeros(2, 2), torch.tensor([0, 1])
    )
    moved = moved_samples(train, met, 0, torch.tensor([0]), target_weight=4.0)
    # The cue is 4 - 1 = 3 on neuron 0; neuron 1 is not blamed and stays.
    expected = [[1, 9], [0, 1], [2, 1], [0, 2], [0, 4], [3, 2]]
    torch.testing.assert_close(moved.features, torch.tensor(expected).float())
    assert moved.labels.tolist() == [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(moved.weights, torch.tensor([2.0, 1.0, 1.0, 0.35, 0.35, 0.3]))


def test_nothing_is_moved_without_neurons():
    _, train, _, met, _ = scenario()
    moved = moved_samples(train, met, 0, torch.empty(0, dtype=torch.int64), 1.0)
    rows = {tuple(row) for row in torch.cat([train.features, met.features]).tolist()}
    assert {tuple(row) for row in moved.features.tolist()} == rows
    assert len(moved.labels) == len(train) + len(met)


def test_signed_features_may_become_negative():
    _, train, _, met, _ = scenario()
    signed = FeatureSet(train.features - 5, train.logits, train.labels)
    moved = moved_samples(signed, met, 0, torch.tensor([CUE]), 1.0)
    assert moved.features.min() < -5


def test_the_fit_is_the_minimum():
    """Its gradient is zero there, written out."""
    z, y = sampled(30, 0.0, 4)
    weights = torch.rand(30, generator=torch.Generator().manual_seed(5))
    anchor = torch.randn(N_CLASSES, N_FEATURES, generator=torch.Generator().manual_seed(6))
    weight, bias = anchored_fit(
        Weighted(z, y, weights), anchor, torch.zeros(N_CLASSES), anchor=0.1, max_steps=200
    )
    surplus = (z @ weight.T + bias).softmax(1) - F.one_hot(y, N_CLASSES)
    surplus = surplus * (weights / weights.sum())[:, None]
    assert (surplus.T @ z + 0.1 * (weight - anchor)).abs().max() < 1e-4
    assert surplus.sum(0).abs().max() < 1e-4


def test_a_heavy_anchor_keeps_the_coefficients():
    z, y = sampled(30, 0.0, 4)
    anchor = torch.randn(N_CLASSES, N_FEATURES, generator=torch.Generator().manual_seed(6))
    samples = Weighted(z, y, torch.ones(30))
    weight, _ = anchored_fit(samples, anchor, torch.zeros(N_CLASSES), anchor=1e6)
    torch.testing.assert_close(weight, anchor, atol=1e-4, rtol=0)
