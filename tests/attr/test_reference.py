from __future__ import annotations

import pytest
import torch
from helpers import feature_set, linear
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_neuroinspect.attr import Reference
from captum_neuroinspect.attr.reference import agreement

# Two classes that the identity head tells apart; the last sample is a mistake.
FEATURES = torch.tensor([[3.0, 0.0], [5.0, 2.0], [0.0, 2.0], [2.0, 4.0], [9.0, 0.0]])
LABELS = [0, 0, 1, 1, 1]


def test_reference_of_a_feature_set_by_hand():
    """Levels by class, one spread over all; the mistake does not count."""
    reference = Reference.of(feature_set(linear(torch.eye(2)), FEATURES, LABELS))
    assert torch.equal(reference.level, torch.tensor([[4.0, 1.0], [1.0, 3.0]]))
    torch.testing.assert_close(reference.spread, FEATURES[:4].std(0))


def test_reference_of_a_class_without_correct_samples_is_the_mean_of_all():
    reference = Reference.of(feature_set(linear(torch.eye(2)), FEATURES[:2], [0, 0]))
    assert torch.equal(reference.level, torch.tensor([[4.0, 1.0], [4.0, 1.0]]))


def test_reference_of_activations_flattens_maps():
    maps = torch.rand(6, 2, 3, 3)
    reference = Reference.of(maps)
    torch.testing.assert_close(reference.level, maps.flatten(1).mean(0, keepdim=True))


def test_reference_of_a_reference_is_itself():
    reference = Reference.of(FEATURES)
    assert Reference.of(reference) is reference
    weighted = Reference.of(reference, effect=0.5)
    assert weighted.effect == 0.5
    assert torch.equal(weighted.level, reference.level)
    assert Reference.of(weighted).effect == 0.5


def _reference_contrast(w, z, level, spread, effect):
    """The formula of the docstring, one number at a time."""
    out = torch.zeros_like(w)
    for i in range(len(w)):
        for j in range(w.shape[1]):
            delta = level[i, j] - z[i, j]
            the_effect, surprise = abs(w[i, j] * delta), abs(delta) / spread[j]
            if w[i, j] != 0 and delta != 0:
                out[i, j] = delta.sign() * the_effect**effect * surprise ** (1 - effect)
    return out


@pytest.mark.parametrize("effect", [0.0, 0.25, 1.0])
def test_contrast_is_the_weighted_geometric_mean_of_effect_and_surprise(effect):
    usual = torch.rand(8, 3)
    w, z = torch.randn(5, 3), torch.rand(5, 3)
    w[0, 0] = 0
    reference = Reference.of(usual, effect=effect)
    expected = _reference_contrast(w, z, usual.mean(0).expand(5, -1), usual.std(0), effect)
    torch.testing.assert_close(reference.contrast(w, z), expected)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.1, 10), effect=st.sampled_from([0, 0.25, 1]))
def test_contrast_laws(seed, factor, effect):
    """Scaling w scales blame by a power; scaling activations scales only the effect's share."""
    rng = torch.Generator().manual_seed(seed)
    usual, w, z = (torch.randn(n, 4, generator=rng, dtype=torch.float64) for n in (9, 5, 5))
    v = Reference.of(usual.float(), effect=effect).contrast(w, z)
    scaled = Reference.of(usual.float(), effect=effect).contrast(factor * w, z)
    torch.testing.assert_close(scaled, factor**effect * v)
    stretched = Reference.of(usual.float() * 2, effect=effect).contrast(w, z * 2)
    torch.testing.assert_close(stretched, 2**effect * v)
    neurons = torch.randperm(4, generator=rng)
    permuted = Reference.of(usual[:, neurons].float(), effect=effect)
    torch.testing.assert_close(permuted.contrast(w[:, neurons], z[:, neurons]), v[:, neurons])


def test_contrast_does_not_explode_for_a_neuron_that_never_moved():
    usual = torch.rand(8, 3)
    usual[:, 1] = 0.5
    v = Reference.of(usual).contrast(torch.ones(1, 3), torch.full((1, 3), 0.6))
    assert v.isfinite().all()
    assert v.abs().max() < 100


def test_contrast_chooses_the_level_of_the_class():
    reference = Reference.of(feature_set(linear(torch.eye(2)), FEATURES, LABELS))
    z = torch.tensor([[4.0, 1.0], [1.0, 3.0]])  # exactly the two levels
    w = torch.ones(2, 2)
    assert reference.contrast(w, z, torch.tensor([0, 1])).eq(0).all()
    assert reference.contrast(w, z, torch.tensor([1, 0])).ne(0).all()
    one = reference.contrast(w, z, 0)
    assert one[0].eq(0).all()
    assert one[1].ne(0).all()


def test_agreement_equals_the_mean_cosine_of_all_pairs(monkeypatch):
    monkeypatch.setattr("captum_neuroinspect.attr.reference._CHUNK", 4)
    w = torch.randn(11, 3) + 1
    cosines = torch.nn.functional.cosine_similarity(w[:, None], w[None], dim=-1)
    pairs = cosines[~torch.eye(11, dtype=torch.bool)]
    assert agreement(w) == pytest.approx(float(pairs.mean()), abs=1e-6)
    with_zeros = torch.cat([w, torch.zeros(5, 3)])
    assert agreement(with_zeros) == pytest.approx(agreement(w))


@pytest.mark.parametrize("n", [2, 3, 7, 50])
def test_agreement_of_copies_is_one_and_not_a_hair_more(n):
    """Mistakes that are copies of one photo: rounding must not refuse them as an effect."""
    for seed in range(20):
        one = torch.randn(1, 64, generator=torch.Generator().manual_seed(seed))
        for dtype in (torch.float32, torch.float64):
            w = one.to(dtype).expand(n, -1) * torch.arange(1, n + 1)[:, None]
            found = agreement(w)
            assert 1 - 1e-12 <= found <= 1
            reference = Reference.of(torch.randn(9, 64)).for_mistakes(w)
            assert reference.effect == found


def test_reference_keeps_float64_and_refuses_multi_hot_labels():
    samples = torch.rand(9, 3, dtype=torch.float64)
    reference = Reference.of(samples)
    assert reference.level.dtype == reference.spread.dtype == torch.float64
    torch.testing.assert_close(reference.level[0], samples.mean(0), rtol=1e-15, atol=0)
    labels = torch.tensor([[1, 0], [1, 1], [0, 1]])
    data = feature_set(linear(torch.eye(2)), torch.rand(3, 2), labels)
    with pytest.raises(ValueError, match="reference has multi-hot labels, expected samples of one"):
        Reference.of(data)


def test_agreement_of_opposites_is_zero_and_of_one_change_unknown():
    assert agreement(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == 0.0
    assert agreement(torch.tensor([[1.0, 0.0], [0.0, 0.0]])) is None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Reference.of([1.0]), TypeError, "reference is list, expected a FeatureSet or"),
        (lambda: Reference.of(FEATURES[:1]), ValueError, r"1 correct sample.*R >= 2"),
        (lambda: Reference.of(FEATURES / 0), ValueError, "reference has NaN"),
        (lambda: Reference.of(FEATURES, effect=1.5), ValueError, "effect=1.5, expected a weight"),
    ],
)
def test_reference_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("w", "z", "target", "message"),
    [
        (torch.ones(1, 2), torch.ones(2, 2), 0, r"features \(2, 2\) do not fit w \(1, 2\)"),
        (torch.ones(1, 3), torch.ones(1, 3), 0, r"reference has 2 features, w has \(1, 3\)"),
        (torch.ones(1, 2), torch.ones(1, 2), None, "target is missing"),
        (torch.ones(1, 2), torch.ones(1, 2), 2, "target=2 is out of range"),
        (torch.ones(3, 2), torch.ones(3, 2), torch.tensor([0, 1]), "2 entries for 3 samples"),
    ],
)
def test_contrast_refuses(w, z, target, message):
    reference = Reference.of(feature_set(linear(torch.eye(2)), FEATURES, LABELS))
    with pytest.raises(ValueError, match=message):
        reference.contrast(w, z, target)
