from __future__ import annotations

from typing import Any

import pytest
import torch
from colour_encoder import ColourEncoder
from torch import Tensor

from captum_neuroinspect import describe_neurons
from captum_neuroinspect.describe import (
    DescribeOptions,
    SeenPhotos,
    attribute_scores,
    describe_units,
    label_scores,
    phrase_scores,
)
from captum_neuroinspect.features import FeatureSet

_N = 100
_PHRASES = ("crimson red", "azure blue")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return torch.rand(_N, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def features(photos: Tensor) -> FeatureSet:
    red = ColourEncoder().encode_image(photos)[:, 0]
    label = (torch.arange(_N) % 3 == 0).long()
    z = torch.stack([red, photos.mean((1, 2, 3)), label.float(), torch.ones(_N)], 1)
    return FeatureSet(z, z, label, class_names=("cat", "dog", "cow", "hen"))


def test_one_line_is_describe_units_with_all_concepts(photos: Tensor, features: FeatureSet) -> None:
    found = describe_neurons(features, ColourEncoder(), images=photos, phrases=_PHRASES)
    concepts = attribute_scores(photos).joined(label_scores(features.labels, ("cat", "dog")))
    concepts = concepts.joined(phrase_scores(photos, ColourEncoder(), phrases=_PHRASES))
    assert found == describe_units(features.features, concepts)
    assert [one.phrases[:1] for one in found] == [("crimson red",), ("bright",), ("dog",), ()]
    assert found.rests_on.startswith("100 photos, half of them held out; 22 attributes")
    assert "2 phrases by the encoder" in found.rests_on
    assert {(one.n_images, one.n_held_out) for one in found} == {(100, 50)}


def test_photos_may_come_one_by_one_and_neurons_are_chosen(
    photos: Tensor, features: FeatureSet
) -> None:
    found = describe_neurons(
        features, images=(photo for photo in photos), neurons=[2, 1], n_phrases=2
    )
    assert [(one.unit, one.phrases[0]) for one in found] == [(2, "dog"), (1, "bright")]
    assert max(len(one.phrases) for one in found) == 2
    assert "no phrases, as there is no encoder" in str(found)
    concepts = SeenPhotos.of(photos).concepts(features=features)
    options = DescribeOptions(n_phrases=2)
    assert found == describe_units(
        features.features[:, [2, 1]], concepts, units=[2, 1], options=options
    )


def test_photos_that_belong_together_are_passed_on(photos: Tensor, features: FeatureSet) -> None:
    pairs = torch.arange(_N) // 2
    concepts = SeenPhotos.of(photos).concepts(features=features)
    found = describe_neurons(features, images=photos, together=pairs)
    assert found == describe_units(features.features, concepts, together=pairs)
    assert found != describe_units(features.features, concepts)


def test_class_names_may_be_said_by_the_encoder_too(photos: Tensor, features: FeatureSet) -> None:
    found = describe_neurons(
        features,
        ColourEncoder(),
        images=photos,
        phrases=["x"],
        class_names=["dog red"],
        neurons=[0],
    )
    assert "dog red" in found[0].phrases


def test_words_from_pictures_are_never_certain(photos: Tensor) -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 4, 4)
    (found,) = describe_neurons({5: [red] * 30}, ColourEncoder(), phrases=["red", "blue"])
    assert found.phrases[0] == "red"
    assert not found.is_certain
    assert (found.n_images, found.n_held_out, found.correlations) == (30, 0, ())
    assert str(found).endswith("(30 pictures, no held-out photos)")


def test_refusals_come_before_any_photo_is_read(features: FeatureSet, photos: Tensor) -> None:
    def unreadable() -> Any:
        raise AssertionError
        yield

    few = features.subset(torch.arange(19))
    pictures = {1: photos[:2]}
    for evidence, options, error, match in (
        (few, {"images": unreadable()}, ValueError, "has 19 photos, expected at least 20"),
        (features, {}, ValueError, "images is None, expected the photos"),
        (features, {"images": unreadable(), "neurons": [4]}, ValueError, "neuron=4 is out of"),
        (features, {"images": unreadable(), "neurons": [1, 1]}, ValueError, "different"),
        (features, {"images": unreadable(), "neurons": []}, ValueError, "number of columns"),
        (features, {"images": unreadable(), "together": [1] * _N}, ValueError, "1 different num"),
        (features, {"images": unreadable(), "n_phrases": 0}, ValueError, "n_phrases=0"),
        (features, {"images": unreadable(), "phrases": ["a"]}, ValueError, "and no encoder"),
        (features, {"images": photos[:30]}, ValueError, "100 rows and there are 30 photos"),
        (features, {"images": photos, "background": photos}, ValueError, "background is given"),
        (pictures, {"images": photos, "encoder": ColourEncoder()}, ValueError, "images is given"),
        (pictures, {"neurons": [1], "encoder": ColourEncoder()}, ValueError, "neurons is given"),
        (pictures, {"together": [1], "encoder": ColourEncoder()}, ValueError, "together is given"),
        (pictures, {}, ValueError, "encoder is None"),
        (photos, {}, TypeError, "evidence is Tensor, expected a FeatureSet or pictures"),
    ):
        with pytest.raises(error, match=match):
            describe_neurons(evidence, **options)
