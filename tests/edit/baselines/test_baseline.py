"""Laws that hold for every baseline, and the helpers that they share."""

from __future__ import annotations

import inspect

import pytest
import torch
from helpers import feature_set, left_unchanged, linear
from torch import nn

from captum_neuroinspect.edit.baselines import (
    CON,
    AutomaticFeatureReweighting,
    Baseline,
    Budget,
    ClassBalancedFinetuning,
    ClassWeighting,
    CoefficientNorm,
    ConceptErasure,
    DeepFeatureReweighting,
    FocalLoss,
    JustTrainTwice,
    Retraining,
    SelectiveFinetuning,
    SpuriousDirectionRemoval,
    Unchanged,
    Zeroing,
    with_mistakes,
)

SHORT = Budget(n_epochs=2)
EVERY = [
    Unchanged(),
    Retraining(SHORT),
    ClassWeighting(budget=SHORT),
    ClassWeighting(3, SHORT),
    FocalLoss(budget=SHORT),
    CON(budget=SHORT),
    CoefficientNorm(budget=SHORT),
    Zeroing("all"),
    Zeroing("target"),
    SpuriousDirectionRemoval(),
    SpuriousDirectionRemoval("class"),
    JustTrainTwice(budget=SHORT),
    DeepFeatureReweighting(strengths=(1.0, 0.1), n_draws=2),
    ClassBalancedFinetuning(),
    AutomaticFeatureReweighting(),
    SelectiveFinetuning(100, budget=SHORT),
    ConceptErasure(),
]
TRAINED = [b for b in EVERY if hasattr(b, "budget") and not isinstance(b, SelectiveFinetuning)]
WITH_NEURONS = [
    b for b in EVERY if isinstance(b, (CON, CoefficientNorm, Zeroing, SpuriousDirectionRemoval))
]
by_name = pytest.mark.parametrize("baseline", EVERY, ids=lambda b: b.name)


def _set(head, n=30, seed=0):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % head.out_features
    z = torch.randn(n, head.in_features, generator=rng, dtype=torch.float32)
    return feature_set(head, z, labels, groups=2 * labels + (z[:, 0] > 0).long())


def _bits(data):
    return [getattr(data, n).clone() for n in ("features", "logits", "labels", "groups")]


@by_name
def test_baseline_leaves_all_that_it_is_given_alone(baseline):
    head = nn.Linear(5, 3)
    sets = [_set(head, seed=s) for s in range(3)]
    before = [_bits(data) for data in sets]
    state = torch.get_rng_state()
    train, validation, field = sets
    mistakes = field.mistakes()
    with left_unchanged(head):
        new = baseline(head, train, validation, target=1, neurons=[0, 3], mistakes=mistakes)
    assert new is not head
    for data, bits in zip(sets, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(_bits(data), bits, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@by_name
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_baseline_returns_a_frozen_layer_like_the_head(baseline, bias, dtype):
    head = nn.Linear(5, 3, bias=bias)
    train, validation = _set(head), _set(head, seed=1)
    new = baseline(head.to(dtype), train, validation, target=1, neurons=[0])
    assert new.weight.shape == head.weight.shape
    assert new.weight.dtype == dtype
    assert (new.bias is None) == (head.bias is None)
    assert new.weight.isfinite().all()
    assert not any(p.requires_grad for p in new.parameters())


@by_name
def test_baseline_repeats_for_a_seed(baseline):
    head = nn.Linear(5, 3)
    train, validation = _set(head), _set(head, seed=1)
    one, other = (
        baseline(head, train, validation, target=0, neurons=[2], seed=4) for _ in range(2)
    )
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)


@by_name
def test_baseline_has_the_signature_of_the_protocol(baseline):
    expected = inspect.signature(Baseline.__call__)
    assert inspect.signature(type(baseline).__call__) == expected
    assert isinstance(baseline.name, str)


def test_names_tell_the_baselines_apart():
    assert len({b.name for b in EVERY}) == len(EVERY)


@by_name
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 3}, "target=3"),
        ({"train": "empty"}, "train is empty"),
        ({"validation": "other"}, "validation has 4 features and 3 classes, the head takes 5"),
    ],
)
def test_baseline_refuses(baseline, change, message):
    head = nn.Linear(5, 3)
    data = _set(head)
    sets = {"empty": data.subset(torch.zeros(30, dtype=torch.bool)), "other": _set(nn.Linear(4, 3))}
    options = {"train": data, "validation": data, "target": 0, "neurons": [1]}
    options |= {k: sets.get(v, v) if isinstance(v, str) else v for k, v in change.items()}
    with pytest.raises(ValueError, match=message):
        baseline(head, **options)


@by_name
def test_baseline_refuses_labels_of_several_classes(baseline):
    head = nn.Linear(5, 3)
    data = _set(head)
    several = feature_set(head, data.features, torch.eye(3, dtype=torch.int64)[data.labels])
    with pytest.raises(ValueError, match=r"train has labels of shape \(30, 3\), expected \(N,\)"):
        baseline(head, several, data, target=0, neurons=[1])


@by_name
def test_baseline_refuses_a_head_that_is_not_linear(baseline):
    data = _set(nn.Linear(5, 3))
    with pytest.raises(TypeError, match=r"head is Conv2d, expected nn\.Linear"):
        baseline(nn.Conv2d(3, 3, 1), data, data, target=0, neurons=[1])


@by_name
def test_baseline_refuses_a_single_output(baseline):
    head = nn.Linear(5, 1)
    data = feature_set(head, torch.rand(4, 5), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="head has a single output, expected two or more"):
        baseline(head, data, data, target=0, neurons=[1])


@pytest.mark.parametrize("baseline", WITH_NEURONS, ids=lambda b: b.name)
@pytest.mark.parametrize(
    ("neurons", "message"), [([], "neurons is empty"), ([5], "neuron=5"), ([-1], "neuron=-1")]
)
def test_baseline_refuses_neurons(baseline, neurons, message):
    head = nn.Linear(5, 3)
    data = _set(head)
    with pytest.raises(ValueError, match=message):
        baseline(head, data, data, target=0, neurons=neurons)


@pytest.mark.parametrize("baseline", TRAINED, ids=lambda b: b.name)
def test_trained_baselines_learn_from_the_mistakes(baseline):
    head = linear(torch.eye(3), torch.zeros(3))
    train = feature_set(head, torch.eye(3), [0, 1, 2])
    # The same features with another label: without the mistakes they would never be learned.
    mistakes = feature_set(head, 3 * torch.eye(3)[:1].repeat(20, 1), [1] * 20)
    longer = type(baseline)(budget=Budget(lr=0.1, n_epochs=30, patience=30))
    options = {"target": 1, "neurons": [2]}
    plain = longer(head, train, mistakes, **options)
    taught = longer(head, train, mistakes, mistakes=mistakes, **options)
    assert mistakes.with_head(plain).accuracy() == 0
    assert mistakes.with_head(taught).accuracy() == 1


def test_dfr_looks_at_its_held_out_set_and_not_at_mistakes():
    head = nn.Linear(5, 3)
    data, other = _set(head), _set(nn.Linear(4, 3))
    DeepFeatureReweighting(strengths=(1.0,), n_draws=1)(
        head, data, data, target=0, neurons=[], mistakes=other
    )
    with pytest.raises(ValueError, match="held_out has 4 features"):
        DeepFeatureReweighting(other)(head, data, data, target=0, neurons=[])


# --- what they share -----------------------------------------------------------------


def test_with_mistakes_appends_rows():
    head = nn.Linear(5, 3)
    train, more = _set(head, 6), _set(head, 3, seed=1)
    both = with_mistakes(train, more)
    for name in ("features", "logits", "labels", "groups"):
        assert torch.equal(
            getattr(both, name), torch.cat([getattr(train, name), getattr(more, name)])
        )
    assert both.indices.tolist() == list(range(9))
    assert with_mistakes(train, None) is train


def test_with_mistakes_drops_groups_that_only_one_set_has():
    head = nn.Linear(5, 3)
    plain = feature_set(head, torch.rand(2, 5), [0, 1])
    assert with_mistakes(_set(head), plain).groups is None


@pytest.mark.parametrize("other", [nn.Linear(4, 3), nn.Linear(5, 2)])
def test_with_mistakes_refuses_other_shapes(other):
    with pytest.raises(ValueError, match=r"mistakes have \d features and \d classes, train has 5"):
        with_mistakes(_set(nn.Linear(5, 3)), _set(other))
