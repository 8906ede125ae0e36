"""Mending from samples met in use: what it does, when it refuses, and its two parts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_neuroinspect import FeatureSet, HeadEdit, NeuronCounterfactual, rank_neurons
from captum_neuroinspect.edit import mend
from captum_neuroinspect.edit._mend_fit import Weighted, anchored_fit
from captum_neuroinspect.edit._mend_rounds import Mending
from captum_neuroinspect.edit._moved_samples import moved_samples

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
    assert edit.settings["held_out_target_after"] > edit.settings["held_out_target_before"]
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
    with pytest.warns(RuntimeWarning, match="4 samples of the target were met"):
        edit = mend(head, train, validation, few, target=0)
    assert edit.head.weight.equal(head.weight)
    assert edit.best_epoch == 0


def test_an_edit_that_costs_too_much_is_refused():
    """Labels of the samples met that contradict all others: held out, the rest suffers."""
    head, train, validation, met, _ = scenario()
    wrong = FeatureSet(met.features, met.logits, torch.zeros_like(met.labels))
    with pytest.warns(RuntimeWarning, match="points of mean held-out accuracy"):
        edit = mend(head, train, validation, wrong, target=0, target_weight=50.0)
    assert edit.head.weight.equal(head.weight)
    # What is shown is of the head that is returned, not of the round that was refused.
    for name in ("target", "mean"):
        before = edit.settings[f"held_out_{name}_before"]
        assert edit.settings[f"held_out_{name}_after"] == before
    assert edit.rounds[0].held_out_mean < edit.settings["held_out_mean_before"]
    assert "the verdict rests on others" in edit.summary()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 3}, "target"),
        ({"target": 0, "n_neurons": -1}, "n_neurons=-1"),
        ({"target": 0, "target_weight": 0.0}, "target_weight=0.0"),
        ({"target": 0, "max_cost": 2.0}, "max_cost=2.0"),
        ({"target": 0, "n_rounds": 0}, "n_rounds=0, expected at least 1"),
        ({"target": 0, "neurons": []}, "neurons is empty"),
        ({"target": 0, "neurons": [12]}, "neuron=12 is out of range"),
    ],
)
def test_bad_arguments(options, message):
    head, train, validation, met, _ = scenario()
    with pytest.raises(ValueError, match=message):
        mend(head, train, validation, met, **options)


# Neurons by hand, and rounds


def test_given_neurons_are_those_that_are_moved():
    head, train, validation, met, _ = scenario()
    found = mend(head, train, validation, met, target=0, n_neurons=3)
    given = mend(head, train, validation, met, target=0, neurons=found.neurons, n_neurons=0)
    assert given.neurons == found.neurons
    assert given.head.weight.equal(found.head.weight)


def hard(n_rounds, seed=0):
    """One neuron a round, two cues, and noise that leaves some held-out mistakes in each."""

    def noisy(n, owner, draw):
        z, labels = sampled(n, lambda y: (y == owner).float(), draw)
        rng = torch.Generator().manual_seed(draw)
        z[:, CUE + 1] += 1.5 * (labels == owner)
        z = (z + 0.45 * torch.randn(z.shape, generator=rng)).clamp(min=0)
        return FeatureSet(z, head(z).detach(), labels)

    head = nn.Linear(N_FEATURES, N_CLASSES)
    with torch.no_grad():
        head.weight.copy_(scenario()[0].weight)
        head.weight[:, CUE + 1] = head.weight[:, CUE]
        head.bias.copy_(scenario()[0].bias)
    sets = noisy(150, 0, 10), noisy(60, 0, 11), noisy(45, 1, 12 + seed)
    return head, sets, mend(head, *sets, target=0, n_rounds=n_rounds, n_neurons=1)


def test_a_second_round_finds_the_second_cue():
    _, _, edit = hard(2)
    assert edit.neurons == (CUE, CUE + 1)
    assert edit.rounds[1].held_out_target > edit.rounds[0].held_out_target
    assert edit.best_epoch == 2


def test_one_round_is_the_first_of_many():
    one, many = hard(1)[2], hard(4)[2]
    assert len(one.rounds) == 1
    assert one.settings["stopped"] == "n_rounds=1 reached"
    assert many.rounds[0] == one.rounds[0]
    kept = [r for r in many.rounds if r.kept]
    assert many.best_epoch == len(kept)
    assert many.neurons == tuple(n for r in kept for n in r.neurons)
    assert len(set(many.neurons)) == len(many.neurons)


@pytest.mark.parametrize("seed", range(4))
def test_rounds_end_where_the_target_gains_no_more(seed):
    _, _, edit = hard(4, seed)
    last, *others = edit.rounds
    assert last.kept
    for number, now in enumerate(others, start=2):
        better = now.held_out_target > last.held_out_target
        fine = now.held_out_mean >= last.held_out_mean
        assert now.kept == bool(now.neurons and better and fine)
        assert now.kept or number == len(edit.rounds)
        last = now if now.kept else last
    assert edit.settings["held_out_target_after"] == last.held_out_target
    assert edit.settings["held_out_mean_after"] == last.held_out_mean


def test_a_further_round_blames_what_heads_fitted_without_a_sample_get_wrong():
    """The second round's neuron by a literal loop over the three parts."""
    head, (train, validation, met), edit = hard(2)
    mending = Mending(head, train, validation, met, 0, 1, 3.0, 0)
    parts, first = mending._parts(met), torch.tensor(edit.rounds[0].neurons)
    ws, wrong = [], []
    for part in range(3):
        new = mending.fitted(met.subset(parts != part), first)
        for sample in met.subset(parts == part).with_head(new).mistakes(0).features:
            wrong.append(sample)
            attributions = NeuronCounterfactual(new, new).attribute_features(
                sample[None], torch.tensor([0])
            )
            ws.append(attributions[0])
    ranking = rank_neurons(
        torch.stack(ws),
        features=torch.stack(wrong),
        reference=train,
        target=torch.zeros(len(wrong), dtype=torch.int64),
    )
    worst = max(ranking.rows(), key=lambda row: row["magnitude"])["neuron"]
    assert edit.rounds[1].neurons == (worst,)


def test_rounds_end_when_no_further_neuron_is_blamed():
    head, train, validation, met, _ = scenario()
    edit = mend(head, train, validation, met, target=0, n_neurons=0, n_rounds=3)
    assert [r.kept for r in edit.rounds] == [True, False]
    assert edit.settings["stopped"] == "what is wrong still blames no further neuron"


def test_rounds_are_saved_and_shown(tmp_path):
    edit = hard(4)[2]
    loaded = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    assert loaded.rounds == edit.rounds
    assert loaded.summary() == edit.summary()
    lines = edit.summary().splitlines()
    at = lines.index(f"Rounds, until: {edit.settings['stopped']}")
    assert [line.split()[:2] for line in lines[at + 2 :]] == [
        [str(number), str(len(r.neurons))] for number, r in enumerate(edit.rounds, start=1)
    ]
    assert any(line.startswith("mean over classes, kept from the fit") for line in lines)
    assert "<td>kept</td>" in edit._repr_html_()
    assert "1 neurons, mend, 1 round;" in hard(1)[2].summary()
    figure = edit.plot()
    figure.canvas.draw()
    mean, target, _ = figure.axes[1].lines
    assert list(target.get_ydata()) == [
        edit.settings["held_out_target_before"],
        *(r.held_out_target for r in edit.rounds),
    ]
    assert list(mean.get_ydata())[1:] == [r.held_out_mean for r in edit.rounds]


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
