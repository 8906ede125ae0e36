"""A folder for FiftyOne, by its JSON form; and read by FiftyOne itself where it is installed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers import feature_set, linear
from PIL import Image

from captum_neuroinspect.analysis import explain_mistakes
from captum_neuroinspect.describe import UnitDescription
from captum_neuroinspect.export import to_fiftyone, write_heat_maps

HEAD = linear([[1.0, 0.0, 0.3], [0.0, 1.0, -0.2]])
SIDE = 8


def _pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def _written(tmp_path, **changes):
    chance = torch.Generator().manual_seed(0)
    z = torch.rand(12, 3, generator=chance)
    data = feature_set(HEAD, z, torch.arange(12) % 2)
    images = torch.rand(12, 3, SIDE, SIDE, generator=chance)
    found = explain_mistakes(HEAD, data, target=0)
    given = {
        "photos": [f"=cat/{i}.jpg" for i in range(12)],
        "explanation": found,
        "maps": torch.rand(len(found.mistakes), 2, 4, 4, generator=chance),
        "map_of": found.mistakes,
        "neurons": [2, 0],
        "descriptions": [UnitDescription(2, ("<b>grass</b>",), (0.5,))],
        "tags": ["test"] * 12,
        **changes,
    }
    folder = to_fiftyone(tmp_path / "out", data, lambda i: images[i], **given)
    return folder, data, images, given


def test_the_folder_says_what_was_found(tmp_path) -> None:
    folder, data, images, given = _written(tmp_path)
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    about = json.loads((folder / "metadata.json").read_text())
    assert len(samples) == 12
    wrong = set(given["map_of"].indices.tolist())
    for i, sample in enumerate(samples):
        assert sample["filepath"] == f"data/{i:06}.png"
        assert sample["photo"] == f"=cat/{i}.jpg"  # JSON is no spreadsheet
        pixels = _pixels(folder / sample["filepath"])
        assert np.abs(pixels / 255 - images[i].permute(1, 2, 0).numpy()).max() < 0.51 / 255
        assert ("mistake" in sample["tags"]) == (not bool(data.is_correct[i]))
        assert sample["ground_truth"]["label"] == f"class {i % 2}"
        probability = float(data.logits[i].softmax(0)[i % 2])
        assert sample["ground_truth"]["confidence"] == pytest.approx(probability)
        assert ("heat_map_2" in sample) == (i in wrong)
        assert sample["slice"] == (0 if i in wrong else None)
    first = samples[min(wrong)]["heat_map_2"]
    heat = _pixels(folder / first["map_path"])
    assert heat.shape == (SIDE, SIDE)
    assert about["media_type"] == "image"
    assert about["info"]["words"][0]["phrase"] == "<b>grass</b>"
    assert about["info"]["blame"][0]["neuron"] in (0, 1, 2)


def test_fiftyone_reads_it(tmp_path) -> None:
    """Its importer needs no database; the App does."""
    pytest.importorskip("fiftyone")
    from fiftyone.utils.data.importers import LegacyFiftyOneDatasetImporter

    folder, *_ = _written(tmp_path)
    importer = LegacyFiftyOneDatasetImporter(dataset_dir=str(folder))
    with importer:
        samples = list(importer)
        assert importer.get_dataset_info()["words"][0]["neuron"] == 2
    assert len(samples) == 12
    assert samples[3].ground_truth.label == "class 1"
    with_map = [s for s in samples if s.has_field("heat_map_2")]
    assert with_map[0].heat_map_2.map_path.startswith(str(folder))
    assert _pixels(with_map[0].heat_map_2.map_path).shape == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tags": ["a"]}, "1 tags for 12 samples"),
        ({"maps": None}, "maps and map_of belong together"),
        ({"photos": ["a"]}, "1 names of photos for 12 samples"),
        ({"neurons": [1]}, "for as many photos and neurons"),
    ],
)
def test_what_does_not_fit_is_named(changes, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        _written(tmp_path, **changes)
    assert not (tmp_path / "out" / "samples.json").exists()


def test_heat_maps_are_grey_pictures(tmp_path) -> None:
    maps = torch.tensor([[[[0.0, 4.0], [-3.0, 2.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    rows = write_heat_maps(
        maps, [5], tmp_path, indices=[3, 8], photos=["a.jpg", "b.jpg"], size=(2, 2)
    )
    assert [row["highest"] for row in rows] == [4.0, 0.0]
    assert rows[0]["file"] == "heat_map_5/000003.png"
    pixels = _pixels(tmp_path / rows[0]["file"])
    assert pixels.tolist() == [[0, 255], [0, 128]]
    assert _pixels(tmp_path / rows[1]["file"]).max() == 0
    whole = {"indices": [3, 8], "photos": ["a", "b"], "size": (2, 2)}
    for bad, error in ((maps.long(), TypeError), (maps[0], ValueError), (maps / 0, ValueError)):
        with pytest.raises(error, match="maps"):
            write_heat_maps(bad, [5], tmp_path, **whole)
