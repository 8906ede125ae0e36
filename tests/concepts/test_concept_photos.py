"""Concept photos from a folder and from the packaged pictures."""

from __future__ import annotations

import pytest
import torch
from helpers import ConvNet
from torchvision.transforms.v2.functional import to_pil_image

from captum_neuroinspect.concepts import (
    PACKAGED_CONCEPTS,
    ConceptPhotos,
    collect_concepts,
    fit_concepts,
    packaged_concepts,
)
from captum_neuroinspect.describe import attribute_scores


def _folder(path, names=("blue", "random", "red")):
    for number, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for i in range(6):
            chance = torch.Generator().manual_seed(100 * number + i)
            picture = torch.rand(3, 16, 16, generator=chance)
            if name != "random":
                picture[{"red": 0, "blue": 2}[name]] = 1
            to_pil_image(picture).save(path / name / f"{i}.png")
    return path


def test_a_folder_has_a_subfolder_a_concept_and_counterparts(tmp_path) -> None:
    photos = ConceptPhotos.of_folder(_folder(tmp_path / "c"), image_size=16)
    assert repr(photos) == "ConceptPhotos(blue: 6 + 6, red: 6 + 6)"
    assert photos.counterparts[0] is photos.counterparts[1]
    assert float(photos.shown[1][0][0].min()) == 1
    torch.manual_seed(1)
    bank = fit_concepts(collect_concepts(ConvNet(), photos, progress=False))
    assert bank.names == ("blue", "red")


def test_without_counterparts_they_are_the_other_concepts(tmp_path) -> None:
    folder = _folder(tmp_path / "c", ("blue", "red"))
    photos = ConceptPhotos.of_folder(folder, image_size=16, counterparts=None)
    assert float(photos.counterparts[0][0][0].min()) == 1
    assert len(photos.counterparts[1]) == 6
    with pytest.raises(ValueError, match="no subfolder 'random' of counterparts, it has blue, red"):
        ConceptPhotos.of_folder(folder)
    with pytest.raises(ValueError, match="expected a concept and its counterparts"):
        ConceptPhotos.of_folder(_folder(tmp_path / "d", ("blue",)), counterparts=None)
    with pytest.raises(OSError, match="nowhere"):
        ConceptPhotos.of_folder(tmp_path / "nowhere")


def test_packaged_photos_show_what_they_are_called() -> None:
    photos = packaged_concepts(n_photos=6, size=64)
    assert photos.names == PACKAGED_CONCEPTS
    scores = {}
    for name, shown, absent in zip(*(photos.names, photos.shown, photos.counterparts), strict=True):
        assert len(shown) == len(absent) == 6
        both = attribute_scores([*shown, *absent]).scores.view(2, 6, -1).mean(1)
        scores[name] = dict(zip(attribute_scores([*shown]).phrases, both[0] - both[1], strict=True))
    for name, attribute in {
        "red": "red",
        "green": "green",
        "blue": "blue",
        "stripes": "striped",
        "dots": "dotted",
        "noise": "grainy",
        "blur": "blurred",
        "fog": "pale",
        "dark": "dark",
        "text": "lettered",
    }.items():
        if attribute in scores[name]:
            assert scores[name][attribute] > 0, name


def test_packaged_photos_are_the_same_again_and_in_pairs() -> None:
    one, other = (packaged_concepts(["dark", "brick"], n_photos=4, size=48) for _ in range(2))
    assert torch.equal(one.shown[0][2], other.shown[0][2])
    assert torch.equal(one.counterparts[1][3], other.counterparts[1][3])
    ratio = one.shown[0][1].mean() / one.counterparts[0][1].mean()
    torch.testing.assert_close(one.shown[0][1], one.counterparts[0][1] * ratio)
    assert not torch.equal(
        one.shown[1][0], packaged_concepts(["brick"], seed=1, size=48).shown[0][0]
    )
    with pytest.raises(IndexError):
        one.shown[0][4]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"names": ["sand"]}, ValueError, "names has 'sand', expected some of grass"),
        ({"n_photos": 3}, ValueError, "n_photos=3"),
        ({"size": 10.0}, TypeError, "size=10.0"),
        ({"seed": -1}, ValueError, "seed=-1"),
    ],
)
def test_packaged_concepts_name_bad_arguments(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        packaged_concepts(**arguments)
