from __future__ import annotations

import sys

import pytest
import torch
from helpers import feature_set
from torch import nn

from captum_neuroinspect.edit.baselines import DeepFeatureReweighting
from captum_neuroinspect.edit.baselines.deep_feature_reweighting import _draws, _fitted

QUICK = {"strengths": (1.0, 0.1), "n_draws": 2}


def _cue_set(head, n, share, seed):
    """Classes by a weak neuron 0 - 2, and a strong cue, neuron 5, of class 0 for ``share``."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    z = 0.5 * torch.rand(n, 6, generator=rng)
    z[torch.arange(n), labels] += 1
    has_cue = (torch.rand(n, generator=rng) < share) == (labels == 0)
    z[:, 5] += 3 * has_cue
    return feature_set(head, z, labels, groups=2 * labels + has_cue.long())


@pytest.fixture
def head():
    return nn.Linear(6, 3)


def _fit(head, train, validation, held_out=None, **options):
    method = DeepFeatureReweighting(held_out, **(QUICK | options))
    return method(head, train, validation, target=0, neurons=[])


def test_dfr_separates_what_is_separable(head):
    data = _cue_set(head, 90, 0.5, 0)
    new = _fit(head, data, data)
    assert data.with_head(new).accuracy() == 1
    assert _cue_set(head, 90, 0.5, 1).with_head(new).accuracy() == 1


def test_dfr_balances_the_cue_away(head):
    """95 % of the held-out samples follow the cue; a balanced draw does not."""
    held = _cue_set(head, 600, 0.95, 0)
    new = _fit(head, held, held)
    judged = _cue_set(head, 300, 0.5, 1).with_head(new)
    assert judged.group_accuracy().min() > 0.9
    assert new.weight[0, 5].abs() < new.weight[0, 0].abs() / 4


def test_dfr_uses_the_held_out_set_only(head):
    held = _cue_set(head, 90, 0.5, 0)
    others = [_cue_set(head, 30, 0.9, s) for s in (1, 2)]
    new = [_fit(head, data, data, held_out=held) for data in others]
    assert torch.equal(new[0].weight, new[1].weight)
    assert torch.equal(new[0].weight, _fit(head, others[0], held).weight)


def test_draws_have_as_many_of_each_group_as_the_rarest(head):
    held = _cue_set(head, 200, 0.8, 0)
    counts = torch.bincount(held.groups)
    draws = list(_draws(held, 3, torch.Generator().manual_seed(0)))
    assert len(draws) == 3
    for draw in draws:
        assert torch.bincount(draw.groups).tolist() == [counts.min()] * len(counts)
    assert not torch.equal(draws[0].indices, draws[1].indices)


@pytest.mark.parametrize("bias", [True, False])
def test_fitted_undoes_the_standardisation(bias):
    """Scaling and shifting the features changes the layer, never what it says."""
    head = nn.Linear(6, 3, bias=bias)
    data = _cue_set(head, 90, 0.5, 0)
    scale = torch.tensor([1.0, 10.0, 0.1, 5.0, 2.0, 0.5])
    shift = torch.arange(6.0) * bias
    moved = feature_set(head, data.features * scale + shift, data.labels, data.groups)
    one, other = _fitted(head, data, 0.5), _fitted(head, moved, 0.5)
    logits = [d.features @ w.T + b for d, (w, b) in ((data, one), (moved, other))]
    torch.testing.assert_close(logits[0], logits[1], atol=0.02, rtol=0.02)


def test_a_stronger_penalty_is_sparser(head):
    data = _cue_set(head, 90, 0.5, 0)
    weak, strong = (_fitted(head, data, c)[0] for c in (10.0, 0.03))
    assert (strong == 0).sum() > (weak == 0).sum()
    assert (strong == 0).any()


def test_dfr_with_two_classes_is_a_layer_with_two_rows():
    head = nn.Linear(2, 2)
    labels = torch.arange(20) % 2
    data = feature_set(head, torch.eye(2)[labels] + 0.1 * torch.rand(20, 2), labels, labels)
    new = _fit(head, data, data, strengths=(1.0,))
    assert new.weight.shape == (2, 2)
    assert data.with_head(new).accuracy() == 1


def test_dfr_says_what_is_missing(head):
    z = torch.rand(6, 6)
    plain = feature_set(head, z, [0, 1, 2] * 2)
    with pytest.raises(ValueError, match=r"no groups.*collect it with \(image, label, group\)"):
        _fit(head, plain, plain)
    absent = feature_set(head, z, [0, 1] * 3, groups=torch.tensor([0, 1] * 3))
    with pytest.raises(ValueError, match=r"classes \[2\] are absent from the held-out set"):
        _fit(head, plain, absent)
    single = feature_set(head, z, [0, 1, 2] * 2, groups=torch.tensor([0, 1, 2, 0, 1, 3]))
    with pytest.raises(ValueError, match="group 2 has one held-out sample, expected two"):
        _fit(head, plain, plain, held_out=single)


def test_dfr_names_the_extra_without_scikit_learn(head, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    data = _cue_set(head, 90, 0.5, 0)
    with pytest.raises(ImportError, match=r'pip install "captum-neuroinspect\[demo\]"'):
        _fit(head, data, data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": ()}, r"strengths=\(\), expected positive numbers"),
        ({"strengths": (1.0, 0.0)}, "expected positive numbers"),
        ({"n_draws": 0}, "n_draws=0, expected at least 1"),
    ],
)
def test_dfr_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        DeepFeatureReweighting(**options)
