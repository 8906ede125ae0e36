"""The reader of the published Waterbirds, on a small archive of the same layout."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from fake_archives import N_OF_SPLIT, write_table, write_waterbirds

from captum_neuroinspect.experiments.waterbirds_photos import (
    ARCHIVE,
    FOLDER,
    find_waterbirds,
    read_birds,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_waterbirds(tmp_path / FOLDER)


def test_all_birds_are_read(folder: Path) -> None:
    birds = read_birds(folder)
    for split, n in N_OF_SPLIT.items():
        mine = [bird for bird in birds if bird.split == split]
        assert len(mine) == n
        at_home = sum(bird.label == bird.place for bird in mine) / n
        assert at_home == (0.9 if split == 0 else 0.5)


def test_the_archive_is_found_unpacked_or_packed(folder: Path, tmp_path: Path) -> None:
    assert find_waterbirds(folder) == folder
    assert find_waterbirds(tmp_path) == folder
    other = tmp_path / "other"
    other.mkdir()
    with tarfile.open(ARCHIVE.file(other), "w:gz") as packed:
        packed.add(folder, arcname=FOLDER)
    found = find_waterbirds(other)
    assert found == other / FOLDER
    assert len(read_birds(found)) == len(read_birds(folder))


def test_an_archive_that_is_not_whole_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected the unpacked archive waterbird_comp"):
        read_birds(tmp_path / "elsewhere")
    (folder / "001.Bird/2_1.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 128 photos are missing, such as .*2_1.jpg"):
        read_birds(folder)
    write_table(folder, ["img_filename", "y", "split"], [["a.jpg", 0, 0]])
    with pytest.raises(ValueError, match=r"lacks the columns \['place'\]"):
        read_birds(folder)
    write_table(folder, ["img_filename", "y", "split", "place"], [["a.jpg", 0, 3, 1]])
    with pytest.raises(ValueError, match="y=0, split=3, place=1"):
        read_birds(folder)
