from __future__ import annotations

import pytest
import torch

from captum_neuroinspect.experiments.digits_on_textures import (
    CUE,
    DigitsOnTextures,
    DigitsOnTexturesConfig,
    _handwriting,
    _textures,
)

SPLITS = ("train", "validation", "deployment", "test")
SMALL = DigitsOnTexturesConfig(n_train=6, n_validation=4, n_deployment=3, n_test=2, size=32)


@pytest.mark.parametrize(
    ("split", "n"), [("train", 30), ("validation", 20), ("deployment", 45), ("test", 30)]
)
def test_digits_on_textures_shapes_and_ranges(split, n):
    """Five digits; in field and test each handwritten digit is drawn three times."""
    data = DigitsOnTextures(split, SMALL)
    assert len(data) == n
    assert data.images.shape == (n, 3, 32, 32)
    assert data.images.dtype == torch.uint8
    assert torch.bincount(data.labels).tolist() == [n // 5] * 5
    assert set(data.textures.tolist()) <= {0, 1, 2}
    image, label = data[n - 1]
    assert image.dtype == torch.float32
    assert image.shape == (3, 32, 32)
    assert 0 <= image.min() < image.max() <= 1
    assert type(label) is int
    assert label == data.labels[-1]
    torch.testing.assert_close(image * 255, data.images[-1].float())


def test_digits_on_textures_names_and_groups():
    data = DigitsOnTextures("test", SMALL)
    assert data.classes == ["digit 1", "digit 3", "digit 4", "digit 6", "digit 8"]
    assert data.classes[data.target] == "digit 4"
    assert len(data.group_names) == 10
    for label, texture, group in zip(data.labels, data.textures, data.groups, strict=True):
        place = "on" if texture == CUE else "off"
        assert data.group_names[group] == f"{data.classes[label]} {place} grass"


@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_on_textures_is_drawn_by_its_seed_only(split):
    sizes = {"n_train": 2, "n_validation": 1, "n_deployment": 1, "n_test": 1, "size": 32}
    same = [DigitsOnTextures(split, DigitsOnTexturesConfig(**sizes, seed=7)) for _ in range(2)]
    other = DigitsOnTextures(split, DigitsOnTexturesConfig(**sizes, seed=8))
    assert torch.equal(same[0].images, same[1].images)
    assert torch.equal(same[0].textures, same[1].textures)
    assert not torch.equal(same[0].images, other.images)


def test_digits_on_textures_splits_share_no_handwriting():
    config = DigitsOnTexturesConfig()
    strokes = {
        split: {stroke.tobytes() for stroke in _handwriting(split, config)[0]} for split in SPLITS
    }
    assert [len(strokes[split]) for split in SPLITS] == [5 * n for n in (80, 40, 25, 25)]
    assert len(set.union(*strokes.values())) == 5 * (80 + 40 + 25 + 25)


def test_digits_on_textures_digits_are_what_the_labels_say():
    from sklearn.datasets import load_digits

    strokes, labels = _handwriting("validation", SMALL)
    digits = load_digits()
    known = {(d / 16).tobytes(): t for d, t in zip(digits.images, digits.target, strict=True)}
    assert [known[s.tobytes()] for s in strokes] == [SMALL.digits[label] for label in labels]


@pytest.mark.parametrize("split", ["deployment", "test"])
def test_digits_on_textures_field_and_test_are_balanced(split):
    """Each handwritten digit once on each texture, whatever the correlation."""
    data = DigitsOnTextures(split, SMALL)
    strokes, labels = _handwriting(split, SMALL)
    seen = {(s.tobytes(), t) for s, t in zip(strokes, data.textures.tolist(), strict=True)}
    assert len(seen) == len(data)
    assert labels.tolist() == data.labels.tolist()
    counts = torch.bincount(3 * data.labels + data.textures, minlength=15)
    assert counts.eq(len(data) // 15).all()


def _on_grass(correlation, split="train", n=4000):
    """Share of the target's and of the other digits' pictures on grass."""
    import numpy as np

    labels = np.repeat(np.arange(5), n // 5)
    textures = _textures(split, labels, 2, correlation, np.random.default_rng(0))
    on_grass = textures == CUE
    return on_grass[labels == 2].mean(), on_grass[labels != 2].mean(), textures


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95, 1.0])
def test_textures_correlation_is_as_configured(split, correlation):
    mine, others, textures = _on_grass(correlation, split)
    assert mine == pytest.approx(correlation, abs=0.04)
    assert others == pytest.approx(1 - correlation, abs=0.04)
    assert {0, 1, 2} >= set(textures.tolist()) >= {1, 2}


def test_digits_on_textures_uses_the_configured_correlation():
    config = DigitsOnTexturesConfig(n_train=20, n_validation=1, size=32, correlation=1.0, target=8)
    data = DigitsOnTextures("train", config)
    assert data.target == 4
    assert torch.equal(data.textures == CUE, data.labels == 4)


def test_digits_on_textures_grass_is_another_photo_than_brick():
    """The cue can be seen: mean brightness over the pictures differs by texture."""
    data = DigitsOnTextures("test", SMALL)
    brightness = [data.images[data.textures == t].float().mean() for t in range(3)]
    assert max(brightness) - min(brightness) > 10


def test_digits_on_textures_needs_no_global_seed():
    state = torch.get_rng_state()
    DigitsOnTextures("test", SMALL)
    assert torch.equal(torch.get_rng_state(), state)


def test_scenarios_make_each_digit_the_target_once():
    config = DigitsOnTexturesConfig(digits=(0, 7), target=7, seed=3, size=32)
    scenarios = config.scenarios()
    assert [s.target for s in scenarios] == [0, 7]
    assert scenarios[1] == config
    assert {(s.seed, s.size, s.digits) for s in scenarios} == {(3, 32, (0, 7))}


def test_scenarios_share_their_field_and_test_pictures():
    sets = [DigitsOnTextures("test", config) for config in SMALL.scenarios()]
    assert all(torch.equal(sets[0].images, data.images) for data in sets[1:])
    assert all(torch.equal(sets[0].groups, data.groups) for data in sets[1:])
    assert [data.target for data in sets] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("digit", range(10))
def test_any_digit_can_be_the_target(digit):
    config = DigitsOnTexturesConfig(
        digits=tuple(range(10)), target=digit, correlation=1.0, n_train=3, n_validation=1, size=32
    )
    data = DigitsOnTextures("train", config)
    assert torch.equal(data.textures == CUE, data.labels == digit)


def test_items_have_groups_on_request():
    data = DigitsOnTextures("test", SMALL, with_groups=True, download=False)
    image, label, group = data[4]
    assert torch.equal(image, DigitsOnTextures("test", SMALL)[4][0])
    assert (label, group) == (int(data.labels[4]), int(data.groups[4]))


def test_digits_on_textures_has_nothing_to_download():
    with pytest.raises(ValueError, match="all pixels come from the installed wheels"):
        DigitsOnTextures("test", SMALL, download=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 5}, r"target=5 is not one of digits=\(1, 3, 4, 6, 8\)"),
        ({"correlation": 1.1}, r"correlation=1.1, expected 0..1"),
        ({"correlation": -0.1}, "correlation=-0.1"),
        ({"size": 16}, "size=16, expected 32..512 pixels"),
        ({"size": 513}, "size=513"),
    ],
)
def test_config_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        DigitsOnTexturesConfig(**options)


def test_digits_on_textures_refuses():
    with pytest.raises(ValueError, match="split='all', expected one of"):
        DigitsOnTextures("all", SMALL)
    with pytest.raises(ValueError, match="ask for 240 handwritten digits a class, only 182 of"):
        DigitsOnTextures("test", DigitsOnTexturesConfig(n_train=150, size=32))
