from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from captum_neuroinspect.photos import Photos
from captum_neuroinspect.photos._folder import photos_in_folder
from captum_neuroinspect.photos._reading import photo_suffixes


def _photo(path: Path, colour: str = "red", kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), colour).save(path, format=kind)
    return path


def _labels(root: Path) -> dict[str, str]:
    found = photos_in_folder(root)
    assert found.classes.given is not None
    return {n: found.classes.given[i] for n, i in zip(found.names, found.labels, strict=True)}


# What is a photo


def test_every_raster_that_pillow_writes_is_read(tmp_path: Path) -> None:
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "avif": "AVIF", "jp2": "JPEG2000", "tga": "TGA",
             "webp": "WEBP", "ico": "ICO", "pcx": "PCX", "dds": "DDS", "mpo": "MPO", "qoi": "QOI",
             "sgi": "SGI", "apng": "PNG", "dib": "DIB"}  # fmt: skip
    Image.init()
    kinds = {suffix: kind for suffix, kind in kinds.items() if kind in Image.SAVE}
    for suffix, kind in kinds.items():
        _photo(tmp_path / f"a/x.{suffix}", kind=kind)
    photos = Photos.of(tmp_path, image_size=4)
    assert len(photos) == len(kinds) > 8
    for index in range(len(photos)):
        image = photos.image(index)
        assert image[0].mean() > 0.9, photos.name(index)
        assert image[1].mean() < 0.1, photos.name(index)
    assert not {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".h5", ".wmf"} & {*photo_suffixes()}


def test_what_is_left_out_is_counted_and_said(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/deep/2.jpg", "beside.png"):
        _photo(tmp_path / name)
    for name in ("a/x.heic", "a/y.HEIC", "b/film.mp4", "b/noend", "a/.DS_Store", "a/Thumbs.db"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "labels.csv").write_text("")
    with pytest.warns(UserWarning, match="left out") as said:
        photos = Photos.of(tmp_path)
    assert len(photos) == 2
    assert photos.left_out == {".heic": 2, ".mp4": 1, "no suffix": 1}
    texts = [str(one.message) for one in said]
    assert any("4 files are left out, as they are no photos: 2 .heic, 1 " in t for t in texts)
    assert any("1 photos are left out, as they lie in no class folder" in t for t in texts)
    assert len(texts) == 2


# Links


def test_each_photo_counts_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _photo(root / "zoo/x.png")
    _photo(root / "bee/deep/y.png")
    (root / "bee/again").symlink_to(root / "bee")  # leads back
    (root / "bee/up").symlink_to(root)
    (root / "bee/deep/copy.png").symlink_to(root / "bee/deep/y.png")
    (root / "ant").symlink_to(root / "zoo")  # another name of a class, earlier in the alphabet
    _photo(tmp_path / "pool/far.png")
    (root / "zoo/pool").symlink_to(tmp_path / "pool")
    (root / "zoo/far2.png").symlink_to(tmp_path / "pool/far.png")
    found = photos_in_folder(root)
    assert found.classes.given == ("bee", "zoo")
    labels = _labels(root)
    assert labels.pop("bee/deep/y.png") == "bee"
    assert labels.pop("zoo/x.png") == "zoo"
    assert [*labels.values()] == ["zoo"]  # far.png, by one of its two names
    with pytest.warns(UserWarning, match="5 links lead to photos or folders that are there"):
        Photos.of(root)


def test_a_photo_of_a_class_cannot_be_of_another_by_a_link(tmp_path: Path) -> None:
    _photo(tmp_path / "b/x.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/linked.png").symlink_to(tmp_path / "b/x.png")
    assert _labels(tmp_path) == {"b/x.png": "b"}


@pytest.mark.parametrize("what", ["pool", "pool/x.png"])
def test_a_pool_that_two_classes_link_to(tmp_path: Path, what: str) -> None:
    root = tmp_path / "root"
    _photo(tmp_path / "pool/x.png")
    for name in "ab":
        (root / name).mkdir(parents=True)
        (root / name / Path(what).name).symlink_to(tmp_path / what)
    with pytest.raises(ValueError, match=r"b/.* and a/.* lead to the same photos"):
        photos_in_folder(root)


def test_links_into_a_pool_are_photos_as_others(tmp_path: Path) -> None:
    """As git-annex and download caches lay them."""
    for number, name in enumerate("ab"):
        _photo(tmp_path / f"pool/{number}.png")
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / "x.png").symlink_to(tmp_path / f"pool/{number}.png")
    assert _labels(tmp_path / "root") == {"a/x.png": "a", "b/x.png": "b"}


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    _photo(tmp_path / "a/x.png")
    (tmp_path / "a/gone.png").symlink_to(tmp_path / "gone")
    (tmp_path / "a/self.png").symlink_to(tmp_path / "a/self.png")
    os.mkfifo(tmp_path / "a/pipe.png")
    photos = Photos.of(tmp_path, on_error="skip")
    assert len(photos) == 1
    assert [name for name, _ in photos.skipped] == ["a/gone.png", "a/pipe.png", "a/self.png"]
    photos.fingerprint()


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch) -> None:
    _photo(tmp_path / "a/x.png")
    _photo(tmp_path / "b/y.png")
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match=r"folder .*b cannot be listed \(Permission denied"):
        photos_in_folder(tmp_path)


# Splits


@pytest.mark.parametrize(
    ("splits", "data"),
    [
        (("train", "val", "test"), "val"),
        (("Training", "Validation"), "Validation"),
        (("TRAIN", "dev"), "dev"),
        (("train", "test"), "test"),
        (("train",), "train"),
        (("train", "valid", "extra"), "valid"),  # something else lies beside them
    ],
)
def test_splits_are_no_classes(tmp_path: Path, splits: tuple[str, ...], data: str) -> None:
    for split in splits:
        for name in "ab":
            _photo(tmp_path / split / name / "x.png")
    with pytest.raises(ValueError, match=rf"has the splits .*: give data='.*{data}'") as said:
        photos_in_folder(tmp_path)
    assert ("train='" in str(said.value)) == (data != "train")


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    for name in ("test", "bus", "plane"):
        _photo(tmp_path / name / "x.png")
    assert [*_labels(tmp_path).values()] == ["bus", "plane", "test"]
    _photo(tmp_path / "train" / "x.png")  # on rails
    assert [*_labels(tmp_path).values()] == ["bus", "plane", "test", "train"]
    few = tmp_path / "few"
    _photo(few / "train/x.png")
    photos = Photos.of(few, class_names=["bus", "Train"])
    assert photos.labels.tolist() == [1]


# Empty folders


def test_empty_class_folders_are_said(tmp_path: Path) -> None:
    _photo(tmp_path / "b/x.png")
    for name in ("a", "notes"):
        (tmp_path / name).mkdir()
    with pytest.warns(UserWarning, match="2 class folders have no photos: a, notes"):
        photos = Photos.of(tmp_path, class_names=["b", "a", "c"])
    assert photos.labels.tolist() == [0]
    assert photos.match.to_class == (1, 0, -1)
    (tmp_path / "b/x.png").unlink()
    with pytest.raises(ValueError, match=r"no photos in subfolders; the subfolders a, b, notes ho"):
        Photos.of(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos.zip", "is an archive: unpack it"),
        ("photos.tar.gz", "is an archive: unpack it"),
        ("x.PNG", "is one photo; expected a folder"),
        ("notes.txt", "is one file; expected a folder"),
    ],
)
def test_a_file_is_no_folder(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        Photos.of(tmp_path / name)
