"""What an export refuses, and what it says nothing of."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import feature_set, linear
from PIL import Image

from captum_neuroinspect.export import prediction_rows, to_fiftyone, write_heat_maps, write_table

HEAD = linear([[1.0, 0.0, 0.3], [0.0, 1.0, -0.2]])
NOT_UTF8 = "bad\udcff.png"  # as Python gives the byte 0xff in a file's name


@pytest.fixture
def data():
    return feature_set(HEAD, torch.rand(6, 3), torch.arange(6) % 2)


def grey(index: int) -> torch.Tensor:
    return torch.full((3, 8, 8), index / 10)


def test_two_samples_never_share_a_photo(data, tmp_path: Path) -> None:
    joined = replace(data, indices=torch.tensor([0, 1, 2, 0, 1, 2]))  # two parts, each from 0
    with pytest.raises(ValueError, match="features has an index twice"):
        to_fiftyone(tmp_path / "out", joined, grey)
    assert not (tmp_path / "out").exists()


def test_maps_of_other_samples_are_refused(data, tmp_path: Path) -> None:
    others = replace(data, indices=torch.arange(6) + 100)
    given = {"maps": torch.rand(6, 1, 4, 4), "map_of": others, "neurons": [1]}
    with pytest.raises(ValueError, match="map_of has samples that are not in features"):
        to_fiftyone(tmp_path / "out", data, grey, **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (torch.rand(3, 8, 8) * 255, ValueError, r"values in .*, expected 0\.\.1"),
        (torch.full((3, 8, 8), torch.nan), ValueError, "values in nan"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), TypeError, "a photo is torch.uint8"),
        (torch.rand(1, 8, 8), ValueError, r"shape \(1, 8, 8\), expected \(3, H, W\)"),
    ],
)
def test_photos_that_a_png_would_cut_off_are_refused(data, image, kind, message, tmp_path) -> None:
    with pytest.raises(kind, match=message):
        to_fiftyone(tmp_path, data, lambda i: image)
    assert not (tmp_path / "samples.json").exists()


def test_what_is_half_written_is_not_taken_for_the_export_before(data, tmp_path: Path) -> None:
    to_fiftyone(tmp_path, data, grey)

    def interrupted(index: int) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="maps has shape"):
        to_fiftyone(tmp_path, data, grey, maps=torch.rand(6, 2, 4, 4), map_of=data, neurons=[1])
    assert (tmp_path / "samples.json").exists()  # nothing was begun
    with pytest.raises(KeyboardInterrupt):
        to_fiftyone(tmp_path, data, interrupted)
    assert not (tmp_path / "samples.json").exists()


def test_each_heat_map_is_a_file_of_its_own_and_white_is_its_highest(tmp_path: Path) -> None:
    given = {"indices": [0, 0], "photos": ["a", "b"], "size": (4, 4)}
    with pytest.raises(ValueError, match="indices has a number twice"):
        write_heat_maps(torch.rand(2, 1, 4, 4), [1], tmp_path, **given)
    given = {"indices": [0], "photos": ["a"], "size": (4, 4)}
    with pytest.raises(ValueError, match="neurons has a number twice"):
        write_heat_maps(torch.rand(1, 2, 4, 4), [1, 1], tmp_path, **given)
    row = write_heat_maps(1e-20 * torch.rand(1, 1, 4, 4), [1], tmp_path, **given)[0]
    with Image.open(tmp_path / row["file"]) as picture:
        assert np.asarray(picture).max() == 255


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_names_that_are_no_text_are_escaped(kind: str, tmp_path: Path) -> None:
    path = write_table([{"photo": NOT_UTF8}], tmp_path / f"rows.{kind}")
    found = pd.read_csv(path) if kind == "csv" else pd.read_parquet(path)
    assert found["photo"].tolist() == [r"bad\udcff.png"]


def test_names_say_nothing_of_the_machine(data) -> None:
    outside = ["../../home/me/x.png", "a/../../me/x.png", "file:///home/me/x.png"]
    rows = prediction_rows(data, [*outside, "..x/y.png", "a b.png", "x..png"])
    assert [row["photo"] for row in rows] == ["x.png"] * 3 + ["..x/y.png", "a b.png", "x..png"]


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    path = write_table([{"=a": "-1", "b": -1, "c": "\t=1"}], tmp_path / "x.csv")
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["'=a", "b", "c"], ["'-1", "-1", "'\t=1"]]
