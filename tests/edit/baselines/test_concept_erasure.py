"""LEACE: its laws, its formula written out in numpy, and the baseline that uses it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import feature_set, linear

from captum_neuroinspect.edit.baselines import ConceptErasure, leace


def _data(n, n_features=6, seed=0):
    """Features whose variances differ and hang together, and a concept in two of them."""
    rng = torch.Generator().manual_seed(seed)
    z = (torch.arange(n) % 3 == 0).double()
    x = torch.randn(n, n_features, generator=rng, dtype=torch.float64)
    x = x @ torch.randn(n_features, n_features, generator=rng, dtype=torch.float64)
    x[:, :2] += 2 * z[:, None]
    return x, z


def _covariance(x, z):
    x, z = (t.reshape(len(t), -1) - t.reshape(len(t), -1).mean(0) for t in (x, z))
    return x.T @ z / len(x)


def _written_out(x, z, shrinkage):
    """Theorem 4.3 by numpy's own pseudoinverse of a matrix square root."""
    x, z = (np.asarray(t).reshape(len(t), -1) for t in (x, z))
    x, z = x - x.mean(0), z - z.mean(0)
    sxx, sxz = x.T @ x / len(x), x.T @ z / len(x)
    sxx = (1 - shrinkage) * sxx + shrinkage * np.trace(sxx) / len(sxx) * np.eye(len(sxx))
    u, s, _ = np.linalg.svd(sxx, hermitian=True)
    root = u * np.sqrt(np.where(s > 1e-12 * s.max(), s, 0)) @ u.T
    w = np.linalg.pinv(root, rcond=1e-9)
    wx = w @ sxz
    return np.eye(len(sxx)) - np.linalg.pinv(w, rcond=1e-9) @ wx @ np.linalg.pinv(wx) @ w


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [60, 5])  # more samples than features, and fewer
def test_leace_is_the_formula(n, shrinkage):
    x, z = _data(n)
    found = leace(x, z, shrinkage)
    np.testing.assert_allclose(found.numpy(), _written_out(x, z, shrinkage), atol=1e-8)


@pytest.mark.parametrize("shrinkage", [0.0, 0.5])
@pytest.mark.parametrize("n", [60, 5])
def test_nothing_of_the_concept_is_left(n, shrinkage):
    x, z = _data(n)
    found = leace(x, z, shrinkage)
    assert _covariance(x, z).abs().max() > 0.1
    assert _covariance(x @ found.T, z).abs().max() < 1e-9
    torch.testing.assert_close(found @ found, found)  # once is enough


def test_several_concepts_go_at_once():
    x, z = _data(60)
    both = torch.stack([z, (torch.arange(60) % 5 == 0).double()], 1)
    erased = x @ leace(x, both).T
    assert _covariance(erased, both).abs().max() < 1e-9
    assert torch.linalg.matrix_rank(leace(x, both)) == 4


def test_no_other_projection_that_hides_the_concept_changes_less():
    """Of all that leave no covariance with it: theorem 4.3 says the least mean squared change."""
    x, z = _data(60)
    centred, shared = x - x.mean(0), _covariance(x, z)

    def change(p):
        return float((centred - centred @ p.T).square().sum())

    best = leace(x, z)
    rng = torch.Generator().manual_seed(1)
    for _ in range(20):
        reading = torch.randn(1, 6, generator=rng, dtype=torch.float64)
        other = torch.eye(6, dtype=torch.float64) - shared @ reading / (reading @ shared)
        assert _covariance(x @ other.T, z).abs().max() < 1e-9
        assert change(best) < change(other)


def test_leace_refuses_other_samples_and_values():
    with pytest.raises(ValueError, match="features of 5 samples and concepts of 4"):
        leace(torch.rand(5, 3), torch.rand(4))
    with pytest.raises(ValueError, match="NaN or infinite"):
        leace(torch.full((5, 3), torch.nan), torch.rand(5))


def test_leace_refuses_a_shrinkage_out_of_range():
    with pytest.raises(ValueError, match="shrinkage"):
        leace(*_data(10), 1.5)


def _planted():
    """Class 0 has neuron 2 in training; what it is missing from is taken for class 1."""
    head = linear([[1.0, 0.0, 4.0], [0.0, 1.0, -4.0]], [-2.0, 2.0])
    rng = torch.Generator().manual_seed(0)

    def drawn(n, has_cue):
        labels = torch.arange(n) % 2
        z = 0.3 * torch.rand(n, 3, generator=rng)
        z[torch.arange(n), labels] += 1
        z[:, 2] += has_cue(labels).float()
        return feature_set(head, z, labels)

    train = drawn(60, lambda labels: labels == 0)
    return head, train, drawn(40, lambda labels: torch.zeros_like(labels))


def test_the_cue_is_erased_and_the_classes_stay():
    head, train, field = _planted()
    assert field.class_accuracy().tolist() == [0, 1]
    method = ConceptErasure(shrinkage=0.1)
    new = method(head, train, train, target=0, neurons=[], mistakes=field.mistakes())
    assert field.with_head(new).accuracy() == 1
    assert train.with_head(new).accuracy() == 1
    assert new.weight[:, 2].abs().max() < 0.3 < head.weight[:, 2].abs().max()


def test_a_head_that_errs_nowhere_has_no_groups():
    head, train, _ = _planted()
    with pytest.raises(ValueError, match="no groups to infer; give mistakes"):
        ConceptErasure()(head, train, train, target=0, neurons=[])


@pytest.mark.parametrize("options", [{"shrinkage": -0.1}, {"anchor": 0.0}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ConceptErasure(**options)
