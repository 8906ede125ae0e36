"""Class-balanced finetuning, AFR and SELF against their formulas, written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import feature_set, linear
from torch import nn

from captum_neuroinspect.edit.baselines import (
    AutomaticFeatureReweighting,
    Budget,
    ClassBalancedFinetuning,
    SelectiveFinetuning,
    with_mistakes,
)
from captum_neuroinspect.edit.baselines.held_out_finetuning import early_head

N_CLASSES, N_FEATURES = 3, 4


def _set(head, n, seed):
    """Classes overlap, and are not equally frequent."""
    rng = torch.Generator().manual_seed(seed)
    labels = (torch.arange(n) % 6).clamp(max=N_CLASSES - 1)
    z = torch.randn(n, N_FEATURES, generator=rng)
    z[torch.arange(n), labels] += 1
    return feature_set(head, z, labels)


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def given(request):
    torch.manual_seed(0)
    head = nn.Linear(N_FEATURES, N_CLASSES, bias=request.param)
    train, validation, field = (_set(head, 40, seed) for seed in range(3))
    return head, train, validation, field.mistakes(0)


def _fitted(method, given):
    head, train, validation, mistakes = given
    return method(head, train, validation, target=0, neurons=[], mistakes=mistakes)


def _afr_weights(head, data, gamma):
    """Sample by sample: one over the class's number, times exp(-gamma p)."""
    w, b = head.weight.double(), 0 if head.bias is None else head.bias.double()
    found = []
    for z, y in zip(data.features.double(), data.labels.tolist(), strict=True):
        logits = [float(row @ z + (0 if head.bias is None else b[c])) for c, row in enumerate(w)]
        p = math.exp(logits[y]) / sum(math.exp(one) for one in logits)
        found.append(math.exp(-gamma * p) / int((data.labels == y).sum()))
    total = sum(found)
    return torch.tensor([one / total for one in found], dtype=torch.float64)


def _gradient(head, new, data, weights, strength):
    """Of the objective at the new head: of its weights, and of its biases if it has any."""
    parameters = [p.detach().double().requires_grad_() for p in new.parameters()]
    logits = data.features.double() @ parameters[0].T
    if len(parameters) > 1:
        logits = logits + parameters[1]
    of_sample = logits.logsumexp(1) - logits[torch.arange(len(data)), data.labels]
    penalty = strength * (parameters[0] - head.weight.detach().double()).square().sum()
    return torch.autograd.grad(weights @ of_sample + penalty, parameters)


@pytest.mark.parametrize("gamma", [0.0, 4.0])
@pytest.mark.parametrize("strength", [5e-3, 0.4])
def test_afr_is_where_its_objective_is_flat(given, gamma, strength):
    head, _, validation, mistakes = given
    with torch.no_grad():
        weights = _afr_weights(head, with_mistakes(validation, mistakes), gamma)
    method = AutomaticFeatureReweighting(gamma, strength=strength)
    new = _fitted(method, given)
    data = with_mistakes(validation, mistakes)
    for part in _gradient(head, new, data, weights, strength):
        assert part.abs().max() < 2e-4  # in single precision
    if strength == 5e-3:  # else little happens
        assert max(p.abs().max() for p in _gradient(head, head, data, weights, strength)) > 1e-2


def test_a_gamma_of_any_size_leaves_the_least_sure_samples(given):
    few, all_of_it = (_fitted(AutomaticFeatureReweighting(gamma), given) for gamma in (1e5, 1e7))
    assert few.weight.isfinite().all()
    assert not torch.equal(few.weight, given[0].weight)
    torch.testing.assert_close(few.weight, all_of_it.weight, atol=1e-3, rtol=0)


def test_class_balanced_finetuning_is_afr_with_gamma_0(given):
    one, other = (
        _fitted(m, given) for m in (ClassBalancedFinetuning(), AutomaticFeatureReweighting(0))
    )
    torch.testing.assert_close(one.weight, other.weight)


def test_a_strong_penalty_leaves_the_weights(given):
    new = _fitted(ClassBalancedFinetuning(strength=1e4), given)
    torch.testing.assert_close(new.weight, given[0].weight, rtol=0, atol=1e-3)


def test_train_is_not_looked_at(given):
    head, train, validation, mistakes = given
    for method in (ClassBalancedFinetuning(), AutomaticFeatureReweighting()):
        one = _fitted(method, given)
        other = _fitted(method, (head, train.subset(torch.arange(7)), validation, mistakes))
        assert torch.equal(one.weight, other.weight)


def test_held_out_samples_may_be_given(given):
    head, train, _, mistakes = given
    others = _set(head, 40, 9)
    one = _fitted(ClassBalancedFinetuning(held_out=others), given)
    other = _fitted(ClassBalancedFinetuning(), (head, train, others, mistakes))
    assert torch.equal(one.weight, other.weight)
    assert not torch.equal(one.weight, _fitted(ClassBalancedFinetuning(), given).weight)


def test_self_takes_the_samples_of_largest_divergence(given):
    """Those that it takes are found one by one, and give the class-balanced fit by themselves."""
    head, train, validation, mistakes = given
    method = SelectiveFinetuning(12, budget=Budget(lr=0.05))
    early = early_head(head, train, 1, method.budget, 0)
    data = with_mistakes(validation, mistakes)
    divergence = []
    early, head = early.requires_grad_(False), head.requires_grad_(False)
    for z in data.features.double():
        p, q = (
            (one.weight.double() @ z + (0 if one.bias is None else one.bias.double())).softmax(0)
            for one in (head, early)
        )
        divergence.append(float((p * (p / q).log()).sum()))
    chosen = sorted(range(len(data)), key=lambda i: -divergence[i])[:12]
    few = data.subset(torch.tensor(chosen))
    alone = ClassBalancedFinetuning()(head, train, few, target=0, neurons=[])
    torch.testing.assert_close(_fitted(method, given).weight, alone.weight, atol=1e-3, rtol=0)


def test_self_with_all_samples_is_class_balanced_finetuning(given):
    one, other = (_fitted(m, given) for m in (SelectiveFinetuning(1000), ClassBalancedFinetuning()))
    torch.testing.assert_close(one.weight, other.weight)


def test_an_early_head_is_trained_by_its_own_steps():
    """One batch, one epoch: one step of Adam from zero, which is the step size in each weight."""
    head = linear([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0])
    data = feature_set(head, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), [0, 1])
    early = early_head(head, data, 1, Budget(lr=0.01), 0)
    expected = torch.tensor([[0.01, -0.01], [-0.01, 0.01]])
    torch.testing.assert_close(early.weight, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassBalancedFinetuning(strength=0.0), r"strength=0.0, expected a positive"),
        (lambda: AutomaticFeatureReweighting(-1.0), r"gamma=-1.0, expected 0 or more"),
        (lambda: AutomaticFeatureReweighting(float("nan")), r"gamma=nan, expected 0 or more"),
        (lambda: SelectiveFinetuning(0), r"n_selected=0"),
        (lambda: SelectiveFinetuning(n_early_epochs=0), r"n_early_epochs=0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "method", [ClassBalancedFinetuning, AutomaticFeatureReweighting, SelectiveFinetuning]
)
def test_samples_that_the_head_was_trained_on_are_not_held_out(method, given):
    head, train, validation, _ = given
    with pytest.raises(ValueError, match="40 of 40 samples of held_out are in train too"):
        method(held_out=train)(head, train, validation, target=0, neurons=[])
