from __future__ import annotations

import pytest
import torch
from helpers import left_unchanged
from torch import Tensor, nn

from captum_neuroinspect import collect_features
from captum_neuroinspect.analysis import crops, describe_crops
from captum_neuroinspect.describe import attribute_scores, describe_units

N, SIDE, PATCH = 60, 32, 8


class Patches(nn.Module):
    """Neuron 0: red places; neuron 1: dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 2, PATCH, PATCH), nn.ReLU()
        self.head = nn.Linear(2, 2)
        red = torch.tensor([1.0, -1.0, -1.0])
        with torch.no_grad():
            for row, colour in enumerate((red, -torch.ones(3))):
                self.conv.weight[row] = colour[:, None, None] / PATCH**2
            self.conv.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.act(self.conv(images)).mean((2, 3)))


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """Grey of any lightness; every third has a red patch somewhere, every third a blue one."""
    rng = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(N, 1, 1, 1, generator=rng).expand(N, 3, SIDE, SIDE)
    images = (images + 0.05 * torch.rand(images.shape, generator=rng)).clone()
    for row in range(N):
        top, left = (PATCH * torch.randint(0, 4, (2,), generator=rng)).tolist()
        colour = (torch.tensor([1.0, 0.1, 0.1]), torch.tensor([0.1, 0.1, 1.0]), None)[row % 3]
        if colour is not None:
            strength = 0.6 + 0.4 * float(torch.rand((), generator=rng))
            patch = strength * colour[:, None, None]
            images[row, :, top : top + PATCH, left : left + PATCH] = patch
    return images


@pytest.fixture(scope="module")
def activations(photos: Tensor) -> Tensor:
    labels = torch.zeros(N, dtype=torch.int64)
    return collect_features(Patches(), (photos, labels), progress=False).features


def test_the_words_are_those_of_describe_units_on_the_crops(
    photos: Tensor, activations: Tensor
) -> None:
    model = Patches()
    with left_unchanged(model):
        found = describe_crops(model, photos, activations, [0, 1])
    for k in (0, 1):
        concepts = attribute_scores(crops(model, photos, k).images)
        expected = describe_units(activations[:, [k]], concepts, units=[k])[0]
        assert found[k] == expected
    assert found.rests_on.startswith("the active part of 60 photos, half of them held out; 22")


def test_what_fills_a_crop_is_told_more_clearly_than_in_the_whole_photo(
    photos: Tensor, activations: Tensor
) -> None:
    by_crops = describe_crops(Patches(), photos, activations[:, [0]], [0])[0]
    by_photos = describe_units(activations[:, [0]], attribute_scores(photos))[0]
    assert by_crops.phrases[0] == "red"
    assert by_crops.correlations[0] > 0.9
    crop_shows = attribute_scores(crops(Patches(), photos, 0).images).of("red")
    photo_shows = attribute_scores(photos).of("red")
    is_red = torch.arange(N) % 3 == 0
    assert crop_shows[is_red].mean() > 3 * photo_shows[is_red].mean()
    assert by_photos.phrases[0] == "red"


def test_units_without_a_place_are_refused(photos: Tensor) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4), nn.Linear(4, 2))
    values = torch.rand(N, 1)
    with left_unchanged(flat), pytest.raises(ValueError, match="unit 1 has no place in the image"):
        describe_crops(flat, photos, values, [1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"activations": torch.rand(N, 2)}, ValueError, r"has shape \(60, 2\), expected \(60, 1\)"),
        ({"activations": torch.rand(N - 1, 1)}, ValueError, r"expected \(60, 1\)"),
        ({"activations": [[1.0]]}, TypeError, "activations is a list"),
        ({"units": []}, ValueError, "at least one"),
        ({"units": [2]}, ValueError, "neuron=2 is out of range"),
        ({"phrases": ["red"]}, ValueError, "phrases are given and no encoder"),
    ],
)
def test_bad_input_is_told(
    photos: Tensor, activations: Tensor, change: dict, error: type, message: str
) -> None:
    given = {"images": photos, "activations": activations[:, [0]], "units": [0]} | change
    with pytest.raises(error, match=message):
        describe_crops(Patches(), **given)
