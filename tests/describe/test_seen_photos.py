from __future__ import annotations

import pytest
import torch
from colour_encoder import ColourEncoder
from torch import Tensor

from captum_neuroinspect.describe import ATTRIBUTES, SeenPhotos, attribute_scores, phrase_scores
from captum_neuroinspect.features import FeatureSet

_N = 100  # more than are held at a time


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return torch.rand(_N, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def _features(labels: Tensor, **options: object) -> FeatureSet:
    z = torch.rand(len(labels), 4)
    return FeatureSet(z, z, labels, **options)  # type: ignore[arg-type]


def test_one_pass_gives_what_attributes_and_phrases_give_alone(photos: Tensor) -> None:
    phrases = ["red", "blue thing"]
    seen = SeenPhotos.of((photo for photo in photos), ColourEncoder(), n_images=_N)
    concepts = seen.concepts(ColourEncoder(), phrases=phrases)
    alone = phrase_scores(photos, ColourEncoder(), phrases=phrases)
    assert concepts.phrases == (*ATTRIBUTES, "red (encoder)", "blue thing")
    assert torch.equal(concepts.scores[:, : len(ATTRIBUTES)], attribute_scores(photos).scores)
    assert torch.allclose(concepts.scores[:, len(ATTRIBUTES) :], alone.scores, atol=1e-6)


def test_parts_are_as_the_whole(photos: Tensor) -> None:
    whole = SeenPhotos.of(photos, ColourEncoder())
    parts = [SeenPhotos.of(part, ColourEncoder()) for part in photos.split(40)]
    joined = SeenPhotos.joined(parts)
    assert torch.equal(joined.attributes, whole.attributes)
    assert joined.embeddings is not None
    assert whole.embeddings is not None
    assert torch.allclose(joined.embeddings, whole.embeddings)
    assert SeenPhotos.joined([SeenPhotos.of(photos[:3])]).embeddings is None


def test_classes_and_groups_are_concepts_where_enough_photos_have_them(photos: Tensor) -> None:
    labels = torch.zeros(_N, dtype=torch.int64)
    labels[:60], labels[60:63] = 1, 2  # class 2 has three photos
    groups = torch.arange(_N) % 2
    names = ("crane", "crane", "red")  # two classes of one name, one named as a colour is
    data = _features(
        labels, class_names=(*names, "d"), groups=groups, group_names=("on grass", "red")
    )
    concepts = SeenPhotos.of(photos).concepts(features=data)
    added = ("crane", "crane (label 1)", "on grass", "red (group)")
    assert concepts.phrases == (*ATTRIBUTES, *added)
    assert torch.equal(concepts.of("crane (label 1)"), (labels == 1).float())
    assert torch.equal(concepts.of("red (group)"), groups.float())


def test_multi_hot_labels_are_concepts(photos: Tensor) -> None:
    labels = (torch.arange(_N)[:, None] % torch.tensor([2, 3, 1, 90]) == 0).long()
    concepts = SeenPhotos.of(photos).concepts(features=_features(labels))
    # All photos have class 2, two have class 3.
    assert concepts.phrases == (*ATTRIBUTES, "class 0", "class 1")
    assert torch.equal(concepts.of("class 1"), labels[:, 1].float())


def test_what_it_rests_on_is_counted(photos: Tensor) -> None:
    data = _features(torch.arange(_N) % 2)
    seen = SeenPhotos.of(photos, ColourEncoder())
    said = seen.rests_on(seen.concepts(features=data), data)
    assert said == (
        "100 photos, half of them held out; 22 attributes of the pixels, "
        "2 labels of the data, no phrases, as there is no encoder"
    )
    concepts = seen.concepts(ColourEncoder(), features=data, phrases=["a", "b", "c"])
    assert seen.rests_on(concepts, data, "label-space").endswith("3 phrases by label-space")


def test_refuses_what_does_not_fit(photos: Tensor) -> None:
    seen, few = SeenPhotos.of(photos[:5]), _features(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="features has 4 rows and there are 5 photos"):
        seen.concepts(features=few)
    with pytest.raises(ValueError, match="phrases are given and no encoder"):
        seen.concepts(phrases=["red"])
    with pytest.raises(ValueError, match="no encoder looked at these photos"):
        seen.scored(["red"], ColourEncoder())
    other = SeenPhotos(seen.attributes, torch.rand(5, 7))
    with pytest.raises(ValueError, match="embedded in 7 numbers, and this encoder gives 3"):
        other.scored(["red"], ColourEncoder())
    with pytest.raises(ValueError, match="images has no photos"):
        SeenPhotos.of([])
    with pytest.raises(ValueError, match=r"images has values in 0\.\.255"):
        SeenPhotos.of([255 * torch.eye(8).expand(3, 8, 8)])
    with pytest.raises(ValueError, match="batch_size=0"):
        SeenPhotos.of(photos[:5], batch_size=0)
