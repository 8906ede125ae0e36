"""The descent against equation (8) written out, and the laws of its variants."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from edit_arguments import arguments
from helpers import feature_set, linear, nudged
from torch import nn

from captum_neuroinspect import edit_head
from captum_neuroinspect.edit import Anchor, EditOptions, EditSettings, Training
from captum_neuroinspect.edit._objective import Objective, Problem


def _case(n=48, n_features=6, n_classes=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    head = nn.Linear(n_features, n_classes)
    with torch.no_grad():
        head.weight.copy_(torch.randn(n_classes, n_features, generator=rng))
    features = torch.rand(n, n_features, generator=rng)
    return head, feature_set(head, features, torch.arange(n) % n_classes)


def _easy(head, data):
    """A validation set on which no small edit can be worse."""
    return nudged(data.with_head(head).correct().subset(torch.tensor([0])))


def _rate(epoch, schedule, warmup, n_epochs, lr):
    """Full-batch epochs: one step each."""
    if epoch <= warmup:
        return lr * epoch / warmup
    if schedule == "constant":
        return lr
    return lr / 2 * (1 + math.cos(math.pi * (epoch - 1 - warmup) / (n_epochs - warmup)))


def _reference_penalty(weight, bias, z, targets, ratios, penalty):
    """Equations (7)-(9) with masked features, one class and one mask after the other."""
    total = 0.0
    for target, neurons in targets.items():
        if penalty == "coefficient_norm":
            total = total + weight[target, neurons].square().sum().sqrt()
            continue
        if penalty == "con":
            shares = torch.stack([z[:, j] * weight[target, j] + bias[target] for j in neurons], 1)
            shares = (shares * (shares > 0))[(shares > 0).any(1)]  # the root's slope at 0 is NaN
            total = total + shares.square().sum(1).sqrt().sum() / len(z)
            continue
        asked = ratios[target]
        masks = [neurons] if isinstance(asked, float) else [[j] for j in neurons]
        values = [asked] if isinstance(asked, float) else asked
        for masked_out, o in zip(masks, values, strict=True):
            mask = torch.ones(weight.shape[1])
            mask[masked_out] = 0
            whole = (z @ weight.T + bias).softmax(1)[:, target]
            r = whole / ((z * mask) @ weight.T + bias).softmax(1)[:, target]
            if penalty == "ratio":
                total = total + (r - o).square().sum().sqrt()
            else:
                total = total + (r - o).mean().abs()
    return total


def _reference_anchor(weight, bias, head, z, anchor):
    if anchor == "predictions":
        old = (z @ head.weight.T + head.bias).softmax(1).detach()
        new = (z @ weight.T + bias).log_softmax(1)
        return (old * (old.log() - new)).sum(1).mean()
    return 0.0


def _reference_heads(head, data, *, targets, ratios, penalty, strength, rates, scope, anchor=None):
    """The head after each full-batch step, by torch's Adam on W and b with masked gradients."""
    layer = copy.deepcopy(head)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1.0)
    masks = [torch.ones_like(p) for p in layer.parameters()]
    if scope != "head":
        masks = [torch.zeros_like(p) for p in layer.parameters()]
        for target, neurons in targets.items():
            masks[0][target, slice(None) if scope == "class" else neurons] = 1
            masks[1][target] = scope == "class"
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(layer(data.features), data.labels)
        arguments = (layer.weight, layer.bias)
        loss = loss + strength * _reference_penalty(
            *arguments, data.features, targets, ratios, penalty
        )
        loss = loss + 0.7 * _reference_anchor(*arguments, head, data.features, anchor)
        optimizer.zero_grad()
        loss.backward()
        for parameter, mask in zip(layer.parameters(), masks, strict=True):
            parameter.grad *= mask
        optimizer.step()
        yield copy.deepcopy(layer), loss.item()


CASES = {
    "one class": ({1: [0, 3]}, {1: 1.0}),
    "rule-like value": ({1: [0, 3]}, {1: 1.02}),
    "one by one": ({1: [0, 3]}, {1: [1.0, 1.3]}),
    "two classes, own neurons": ({1: [0, 3], 2: [5]}, {1: 1.0, 2: 1.1}),
    "two classes, same neurons": ({3: [2, 4], 0: [2, 4]}, {3: 1.0, 0: 1.2}),
    "two classes, mixed": ({3: [2, 4], 0: [4, 1]}, {3: [1.0, 0.9], 0: 1.2}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("penalty", ["ratio", "mean_ratio", "con", "coefficient_norm"])
@pytest.mark.parametrize("scope", ["head", "class", "neurons"])
def test_edit_head_follows_the_written_out_equation_step_by_step(case, penalty, scope):
    targets, ratios = CASES[case]
    head, data = _case()
    options = dict(penalty=penalty, strength=0.8, scope=scope)
    reference = _reference_heads(
        head, data, targets=targets, ratios=ratios, rates=[0.01] * 4, **options
    )
    for n_steps, (expected, loss) in enumerate(reference, 1):
        edit = edit_head(
            head,
            data,
            _easy(head, data),
            neurons=targets,
            ratio=ratios,
            lr=0.01,
            select="min_class",
            **arguments(n_epochs=n_steps, patience=n_steps, batch_size=len(data), **options),
        )
        assert edit.method.history[-1].loss == pytest.approx(loss, rel=1e-4)
        if edit.method.best_epoch == n_steps:
            torch.testing.assert_close(edit.head.weight, expected.weight, atol=2e-6, rtol=1e-4)
            torch.testing.assert_close(edit.head.bias, expected.bias, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("anchor", [None, "predictions"])
def test_edit_head_losses_follow_schedule_and_anchor(schedule, warmup, anchor):
    """The loss of step t depends on all heads before: equal losses mean equal paths."""
    head, data = _case()
    rates = [_rate(epoch, schedule, warmup, 6, 0.05) for epoch in range(1, 7)]
    reference = _reference_heads(
        head,
        data,
        targets={1: [0, 3]},
        ratios={1: 1.0},
        penalty="ratio",
        strength=0.5,
        rates=rates,
        scope="head",
        anchor=anchor,
    )
    edit = edit_head(
        head,
        data,
        _easy(head, data),
        target=1,
        neurons=[0, 3],
        strength=0.5,
        lr=0.05,
        n_epochs=6,
        **arguments(
            patience=6,
            batch_size=len(data),
            schedule=schedule,
            warmup=warmup,
            anchor=anchor,
            anchor_weight=0.7,
        ),
    )
    expected = [loss for _, loss in reference]
    assert [record.loss for record in edit.method.history] == pytest.approx(expected, rel=1e-4)


# --- the gradient, and the pull --------------------------------------------------------


@pytest.mark.parametrize("scope", ["head", "class", "neurons"])
@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_gradient_equals_finite_differences(scope, link):
    """All terms at once, in the direction of a random change."""
    head, data = _case()
    if link == "sigmoid":
        labels = torch.randint(0, 2, (len(data), 4))
        data = feature_set(head, data.features, labels)
    targets = {1: torch.tensor([0, 3]), 2: torch.tensor([3])}
    ratios = {1: torch.tensor([1.0, 1.1]), 2: torch.tensor([1.2])}
    options = EditOptions(link=link, anchor=Anchor("predictions", 2.0))
    settings = EditSettings(scope=scope, options=options)
    weight, bias = head.weight.detach(), head.bias.detach()
    mistakes = data.subset(torch.arange(5))
    objective = Objective(Problem(weight, bias, True, targets, ratios, settings), mistakes)
    batch = objective.batch(data)
    drawn = objective.draw(7, torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(1)
    start = objective.free.start()
    difference, direction = (torch.randn(len(start), generator=rng) * s for s in (0.1, 1.0))
    objective.free.confine(difference)
    objective.free.confine(direction)
    _, gradient = objective.gradient(difference, batch, drawn)
    values = [
        objective.gradient(difference + step * direction, batch, drawn)[0] for step in (1e-3, -1e-3)
    ]
    slope = (values[0] - values[1]) / 2e-3
    assert (gradient @ direction).item() == pytest.approx(slope, rel=2e-2)


def test_the_pull_to_the_original_rests_at_the_minimum():
    """A full batch, a small constant step: the gradient of all that is minimised is zero."""
    head, data = _case()
    edit = edit_head(
        head,
        data,
        _easy(head, data),
        target=1,
        neurons=[0],
        strength=0.0,
        lr=0.01,
        select="min_class",
        n_epochs=800,
        **arguments(batch_size=48, patience=800, anchor="weights", anchor_weight=0.1),
    )
    lowest = min(record.loss for record in edit.method.history)
    assert edit.method.history[-1].loss == pytest.approx(lowest, abs=1e-4)
    weight, bias = (p.detach().clone().requires_grad_() for p in head.parameters())
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=500, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        change = sum(
            (new - old.detach()).square().sum()
            for new, old in zip((weight, bias), head.parameters(), strict=True)
        )
        value = F.cross_entropy(data.features @ weight.T + bias, data.labels) + 0.1 * change
        value.backward()
        return value

    optimizer.step(loss)
    assert edit.method.history[-1].loss == pytest.approx(loss().item(), abs=1e-3)


# --- anchors -------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["head", "class", "neurons"])
def test_weights_anchor_of_huge_weight_changes_nothing(scope):
    head, data = _case()
    options = dict(target=1, neurons=[0, 3], scope=scope, strength=3.0, lr=0.05, n_epochs=5)
    validation = _easy(head, data)
    free = edit_head(head, data, validation, **options)
    norms = [
        edit_head(
            head,
            data,
            validation,
            **arguments(anchor="weights", anchor_weight=weight, **options),
        )
        .diff()
        .norm
        for weight in (0.0, 1.0, 100.0, 1e9)
    ]
    assert norms[0] == pytest.approx(free.diff().norm)
    assert norms[0] > norms[1] > norms[2] > norms[3]
    assert norms[3] < 1e-6


def test_predictions_anchor_keeps_the_predictions():
    head, data = _case()
    old = head(data.features).softmax(1).detach()

    def moved(weight):
        edit = edit_head(
            head,
            data,
            _easy(head, data),
            target=1,
            neurons=[0, 3],
            strength=3.0,
            lr=0.02,
            n_epochs=1,  # of 48 steps
            **arguments(
                anchor="predictions", anchor_weight=weight, schedule="cosine", batch_size=1
            ),
        )
        return (edit.head(data.features).softmax(1) - old).abs().max().item()

    distances = [moved(weight) for weight in (0.0, 10.0, 1e4)]
    assert distances[0] > distances[1] > distances[2]


# --- scope and many targets ----------------------------------------------------------


def test_targets_with_own_rows_leave_other_rows_alone():
    head, data = _case()
    edit = edit_head(
        head, data, _easy(head, data), neurons={0: [1], 3: [2, 5]}, scope="neurons", lr=0.05
    )
    allowed = torch.zeros(4, 6, dtype=torch.bool)
    allowed[0, 1] = True
    allowed[3, [2, 5]] = True
    assert torch.equal(edit.head.weight != head.weight, allowed)
    assert torch.equal(edit.head.bias, head.bias)
    assert edit.diff().n_changed == 3


def test_coefficient_norms_of_two_targets_do_not_mix():
    """It acts on each row by itself: far from the data, both edits are what each alone is."""
    head, data = _case()
    options = arguments(
        scope="neurons",
        penalty="coefficient_norm",
        strength=1e6,
        lr=1e-3,
        n_epochs=1,
        batch_size=48,
    )
    validation = _easy(head, data)
    both = edit_head(head, data, validation, neurons={0: [1], 3: [2]}, **options).head.weight
    for target, neuron in ((0, 1), (3, 2)):
        alone = edit_head(head, data, validation, target=target, neurons=neuron, **options)
        torch.testing.assert_close(both[target], alone.head.weight[target])


def test_a_mapping_of_one_class_is_that_class():
    head, data = _case()
    validation = _easy(head, data)
    one = edit_head(head, data, validation, target=2, neurons=[1, 4], n_epochs=3)
    other = edit_head(head, data, validation, neurons={2: [1, 4]}, n_epochs=3)
    assert torch.equal(one.head.weight, other.head.weight)
    assert one.targets == other.targets == {2: (1, 4)}
    assert (other.target, other.neurons) == (2, (1, 4))


def test_equal_ratios_of_one_neuron_alone_and_together_are_the_same():
    head, data = _case()
    validation = _easy(head, data)
    number, listed = (
        edit_head(head, data, validation, target=2, neurons=[1], ratio=ratio, n_epochs=3)
        for ratio in (1.1, [1.1])
    )
    assert torch.equal(number.head.weight, listed.head.weight)


# --- a loss that breaks --------------------------------------------------------------


def test_a_sharp_head_trains_without_overflow():
    """Ratios of exp(300): the plain formula gives infinity, and NaN from the second step."""
    head = linear([[300.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[1.0, 0.2], [0.9, 0.3], [0.1, 0.9], [0.0, 1.0]])
    data = feature_set(head, features, [0, 0, 1, 1])
    edit = edit_head(
        head, data, _easy(head, data), target=0, neurons=0, scope="class", lr=0.1, n_epochs=4
    )
    assert all(math.isfinite(record.loss) for record in edit.method.history)
    assert edit.head.weight[0, 0] < 300
    assert edit.head.weight.isfinite().all()


def test_a_loss_that_breaks_at_once_returns_the_original():
    head, data = _case()
    with pytest.warns(RuntimeWarning, match="NaN in epoch 1: training stopped, the orig") as record:
        edit = edit_head(
            head, data, nudged(data), target=1, neurons=[0], lr=1e30, **arguments(batch_size=8)
        )
    assert edit.method.best_epoch == 0
    assert torch.equal(edit.head.weight, head.weight)
    assert record[0].filename == __file__


@pytest.mark.parametrize("broken", [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_a_loss_or_gradient_that_breaks_later_keeps_the_epochs_before(monkeypatch, broken):
    head, data = _case()
    gradient, calls = Objective.gradient, []

    def breaks(self, *arguments):
        calls.append(1)
        loss, slope = gradient(self, *arguments)
        return (loss * broken[0], slope * broken[1]) if len(calls) > 2 else (loss, slope)

    monkeypatch.setattr(Objective, "gradient", breaks)
    options = arguments(target=1, neurons=[0], batch_size=48, n_epochs=6, patience=6)
    with pytest.warns(RuntimeWarning, match="in epoch 3: training stopped, epoch 1 is returned"):
        edit = edit_head(head, data, _easy(head, data), **options)
    assert [record.epoch for record in edit.method.history] == [1, 2]
    assert edit.head.weight.isfinite().all()


# --- options -------------------------------------------------------------------------


def test_rates_rise_for_the_warmup_and_fall_to_nothing():
    options = EditOptions(training=Training(warmup=2, schedule="cosine"))
    settings = EditSettings(lr=2.0, n_epochs=5, options=options)
    rates = [settings.rate(epoch, step, 10) for epoch in range(1, 6) for step in range(10)]
    assert np.allclose(np.diff(rates[:20]), 0.1)
    assert max(rates) == pytest.approx(2.0)
    assert all(np.diff(rates[20:]) < 0)
    assert rates[-1] < 0.01
