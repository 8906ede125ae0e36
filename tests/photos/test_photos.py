from __future__ import annotations

import gc
import hashlib
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Listed
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
)
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from captum_neuroinspect import collect_features
from captum_neuroinspect.photos import Photos


def _picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(["cat/b.png", "cat/a.PNG", "dog/deep/c.png", "ant/z.jpg"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _picture(number).save(path)
    (tmp_path / "photos/.ipynb_checkpoints").mkdir()
    (tmp_path / "photos/cat/._a.png").write_bytes(b"macOS")
    return tmp_path / "photos"


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


# Folders


def test_a_folder_is_read_as_torchvision_reads_it(folder: Path) -> None:
    photos = Photos.of(folder, image_size=16, resize_size=20)
    assert photos.class_names == ("ant", "cat", "dog")
    names = ["ant/z.jpg", "cat/a.PNG", "cat/b.png", "dog/deep/c.png"]
    assert [photos.name(i) for i in range(len(photos))] == names
    assert photos.labels.tolist() == [0, 1, 1, 2]
    transform = v2.Compose(
        [v2.ToImage(), v2.Resize(20), v2.CenterCrop(16), v2.ToDtype(torch.float32, scale=True)]
    )
    # ImageFolder would take the hidden files and folders for photos and a class.
    (folder / "cat/._a.png").unlink()
    (folder / ".ipynb_checkpoints").rmdir()
    reference = ImageFolder(str(folder), transform)
    assert len(reference) == len(photos)
    for (image, label), i in zip(reference, range(4), strict=False):
        assert torch.equal(photos.image(i), image)
        assert photos.label(i) == label


def test_class_names_find_their_folders(folder: Path) -> None:
    names = ["dog", "cat", "emu", "ant"]
    photos = Photos.of(folder, class_names=names)
    assert photos.labels.tolist() == [3, 1, 1, 0]
    assert photos.class_names == tuple(names)
    renamed = Photos.of(str(folder), class_names=["an ant", "a cat", "a dog"], by_position=True)
    assert renamed.labels.tolist() == [0, 1, 1, 2]
    assert renamed.match.by_position
    with pytest.raises(ValueError, match=r"called ant, dog.*data has the classes ant, cat, dog"):
        Photos.of(folder, class_names=["cat", "emu"])


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        Photos.of(tmp_path / "gone")
    _picture(0).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="it has 1 photos that lie in no subfolder: expected one"):
        Photos.of(tmp_path)


# Kinds of pictures


def test_exif_orientation_is_respected(tmp_path: Path) -> None:
    upright = Image.new("RGB", (40, 40), "black")
    upright.paste("white", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    (tmp_path / "a").mkdir()
    upright.rotate(180).save(tmp_path / "a/turned.jpg", exif=exif, quality=95)
    image = Photos.of(tmp_path, image_size=40).image(0)
    assert image[:, :18].min() > 0.9
    assert image[:, 22:].max() < 0.1


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    (tmp_path / "a").mkdir()
    suffix = "tif" if mode == "CMYK" else "png"
    source = Image.new("RGB", (8, 8), "white")
    source.convert(mode).save(tmp_path / f"a/b.{suffix}")
    image = Photos.of(tmp_path, image_size=8).image(0)
    assert image.shape == (3, 8, 8)
    assert image.min() > 0.98


def test_sixteen_bits_and_palettes_with_transparency(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    grey = np.full((8, 8), 128 * 257, dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a/0.png")
    Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)).save(tmp_path / "a/1.tif")
    palette = Image.new("P", (8, 8))
    palette.info["transparency"] = bytes(range(256))
    palette.save(tmp_path / "a/2.png", transparency=bytes(range(256)))
    photos = Photos.of(tmp_path, image_size=8)
    assert torch.allclose(photos.image(0), torch.tensor(128 / 255))
    assert torch.allclose(photos.image(1), torch.tensor(128 / 255))
    assert photos.image(2).shape == (3, 8, 8)


def test_broken_photos_are_named_or_skipped(folder: Path) -> None:
    (folder / "cat/broken.jpg").write_bytes(b"no photo at all")
    whole = folder / "dog/whole.jpg"
    _picture(9, (200, 200)).save(whole)
    (folder / "dog/cut.jpg").write_bytes(whole.read_bytes()[:3000])
    png = (folder / "cat/b.png").read_bytes()
    (folder / "dog/cut.png").write_bytes(png[: len(png) // 2])
    photos = Photos.of(folder, image_size=8)
    bad = [i for i in range(len(photos)) if photos.name(i).split("/")[1].startswith(("br", "cut"))]
    assert len(bad) == 3
    for i in bad:
        with pytest.raises(ValueError, match=f"photo {photos.name(i)} cannot be read"):
            photos.image(i)
    good = Photos.of(folder, image_size=8, on_error="skip")
    assert sorted(name for name, _ in good.skipped) == sorted(photos.name(i) for i in bad)
    assert all(reason for _, reason in good.skipped)
    assert len(good) == len(photos) - 3
    assert good.images(range(len(good))).shape == (len(good), 3, 8, 8)


def test_nothing_but_broken_photos(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.png").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 1 photos can be read"):
        Photos.of(tmp_path, on_error="skip")


# Datasets, loaders, tensors


def test_all_forms_of_the_same_photos_agree() -> None:
    pictures = [_picture(i) for i in range(3)]
    labels = [2, 0, 1]
    tensors = torch.stack([v2.functional.pil_to_tensor(p) for p in pictures])
    forms = {
        "pillow": Listed(list(zip(pictures, labels, strict=True))),
        "arrays": Listed([(np.asarray(p), n) for p, n in zip(pictures, labels, strict=True)]),
        "uint8": Listed(list(zip(tensors, labels, strict=True))),
        "mapping": Listed(
            [{"image": p, "label": n} for p, n in zip(pictures, labels, strict=True)]
        ),
        "tensors": (tensors, torch.tensor(labels)),
        "loader": DataLoader(Listed(list(zip(tensors, labels, strict=True))), shuffle=True),
    }
    expected = Photos.of(forms["pillow"], image_size=16).images(range(3))
    for name, data in forms.items():
        photos = Photos.of(data, image_size=16)
        # Tensors are resized as tensors, pictures by Pillow.
        off = (photos.images(range(3)) - expected).abs().max()
        assert off <= (0 if name in ("pillow", "arrays") else 1 / 255 + 1e-6), name
        assert photos.labels.tolist() == labels, name
        assert photos.class_names is None
    close = Photos.of((tensors / 255, torch.tensor(labels)), image_size=16).images(range(3))
    torch.testing.assert_close(close, expected, rtol=0, atol=1 / 255)


class FakeHub(Listed):
    """What the `datasets` library offers, as far as it is used."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        super().__init__(items)
        self.features = {"img": object(), "label": type("ClassLabel", (), {"names": ["x", "y"]})()}
        self.column_names = ["img", "label"]
        self._fingerprint = "abc"
        self.n_decoded = 0

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return [item[index] for item in self.items]
        self.n_decoded += 1
        return self.items[index]


def test_a_hugging_face_dataset_gives_labels_without_decoding() -> None:
    data = FakeHub([{"img": _picture(i), "label": i % 2} for i in range(4)])
    photos = Photos.of(data, image_size=8)
    assert photos.class_names == ("x", "y")
    assert photos.labels.tolist() == [0, 1, 0, 1]
    first = photos.fingerprint()
    assert data.n_decoded == 0
    assert photos.image(1).shape == (3, 8, 8)
    data._fingerprint = "abd"
    assert Photos.of(data, image_size=8).fingerprint() != first
    with pytest.raises(ValueError, match="data has the splits train, test: give one"):
        Photos.of({"train": data, "test": data})
    del data.features["img"]
    with pytest.raises(ValueError, match="expected one called 'image'"):
        Photos.of(data)


def test_names_come_through_torchvision_and_subset(folder: Path) -> None:
    (folder / ".ipynb_checkpoints").rmdir()
    (folder / "cat/._a.png").unlink()
    data = ImageFolder(str(folder))
    assert Photos.of(data, image_size=8).name(3) == "dog/deep/c.png"
    assert Photos.of(Subset(data, [3, 1]), image_size=8).name(0) == "dog/deep/c.png"
    assert Photos.of(data).class_names == ("ant", "cat", "dog")


def test_a_loader_that_splits_gives_its_part(folder: Path) -> None:
    (folder / ".ipynb_checkpoints").rmdir()
    (folder / "cat/._a.png").unlink()
    data = ImageFolder(str(folder))
    sampler = SubsetRandomSampler([3, 1])
    photos = Photos.of(DataLoader(data, sampler=sampler), image_size=8)
    assert [photos.name(i) for i in range(len(photos))] == [
        Photos.of(data, image_size=8).name(i) for i in (3, 1)
    ]
    assert photos.class_names == tuple(data.classes)


def test_groups_and_multi_hot_labels_come_through() -> None:
    grouped = Photos.of(Listed([(_picture(0), 1, 5)]), image_size=8).dataset()
    assert grouped[0][1:] == (1, 5)
    assert Photos.of(Listed([(_picture(0), 1, 5)])).group_names is None
    rows = torch.tensor([[1, 0, 1], [0, 0, 1]])
    photos = Photos.of((torch.rand(2, 3, 8, 8), rows), image_size=8)
    assert torch.equal(photos.labels, rows)


def test_groups_have_the_names_of_their_data_set_in_any_order() -> None:
    data = Listed([(_picture(0), 1, 1), (_picture(1), 0, 0)])
    data.group_names = ["snow", "grass"]
    photos = Photos.of(Subset(data, [0, 1]), image_size=8)
    assert photos.group_names == ("snow", "grass")
    assert [photos.item(i).group for i in range(2)] == [1, 0]
    other = photos.with_groups(["grass", "sand", "snow"]).subset([1, 0])
    assert other.group_names == ("grass", "sand", "snow")
    assert [other.item(i).group for i in range(2)] == [2, 0]
    assert other.subset([1, 0]).fingerprint() != photos.fingerprint()
    with pytest.raises(ValueError, match="group_names are grass, without the photos' group 'snow'"):
        photos.with_groups(["grass"])
    with pytest.raises(ValueError, match="without the photos' groups, numbers"):
        Photos.of(Listed([(_picture(0), 1, 5)])).with_groups(["grass"])
    data.group_names = ["snow"]
    with pytest.raises(ValueError, match="photo 0 has group 1, but there are only 1 group_names"):
        Photos.of(data).item(0)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (3, TypeError, "data is int, expected a folder"),
        (Stream(), TypeError, "expected a folder, a Dataset with"),
        (Listed([]), ValueError, "data is empty"),
        ((torch.rand(2, 3, 8), torch.tensor([0, 1])), ValueError, r"images have shape \(2, 3, 8\)"),
        ((torch.rand(2, 3, 8, 8), torch.tensor([0])), ValueError, "one label an image"),
    ],
)
def test_bad_data(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Photos.of(data)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ((torch.randn(3, 8, 8) * 3, 0), ValueError, "normalised already"),
        ((torch.full((3, 8, 8), torch.nan), 0), ValueError, "values from nan"),
        ((torch.zeros(3, 8, 8, dtype=torch.int64), 0), TypeError, "expected uint8 or float"),
        ((torch.zeros(7, 8, 8), 0), ValueError, "with 1 to 4 channels"),
        (("photo.png", 0), TypeError, "the image is str"),
        ((torch.zeros(3, 8, 8), 0.5), TypeError, "the label is 0.5"),
        ((torch.zeros(3, 8, 8), -1), ValueError, "photo 0: the label is -1"),
        (torch.zeros(3, 8, 8), TypeError, "the item is a Tensor"),
        ({"picture": 1}, TypeError, "an item has the keys picture"),
    ],
)
def test_bad_items(item: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Photos.of(Listed([item]), image_size=8).item(0)


def test_bad_arguments() -> None:
    data = (torch.rand(2, 3, 8, 8), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="on_error='ignore'"):
        Photos.of(data, on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="image_size=0 and resize=None"):
        Photos.of(data, image_size=0)
    with pytest.raises(ValueError, match="image_size=8 and resize=4"):
        Photos.of(data, image_size=8, resize_size=4)
    photos = Photos.of(data, image_size=8, class_names=["a", "b"])
    with pytest.raises(ValueError, match="photo 1 has label 3, but there are only 2 class_names"):
        photos.label(1)
    with pytest.raises(IndexError, match="index=2 is out of range: there are 2 photos"):
        photos.image(2)
    with pytest.raises(ValueError, match="index=2 is out of range"):
        photos.subset([2])


# Size, subsets, streaming


def test_a_picture_of_the_right_size_stays_as_it_is() -> None:
    images = torch.rand(1, 3, 16, 16)
    photos = Photos.of((images, torch.tensor([0])), image_size=16, resize_size=32)
    assert torch.equal(photos.images([0]), images)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolations_stay_in_range(interpolation: Any) -> None:
    image = torch.zeros(1, 1, 30, 20)
    image[..., ::3] = 1
    photos = Photos.of((image, torch.tensor([0])), image_size=9, interpolation=interpolation)
    assert photos.image(0).shape == (3, 9, 9)
    assert photos.image(0).min() >= 0
    assert photos.image(0).max() <= 1


def test_a_subset_keeps_names_labels_and_pictures(folder: Path) -> None:
    photos = Photos.of(folder, image_size=8)
    few = photos.subset(torch.tensor([3, 1]))
    assert [few.name(0), few.name(1)] == [photos.name(3), photos.name(1)]
    assert few.labels.tolist() == [2, 1]
    assert torch.equal(few.image(1), photos.image(1))
    assert few.subset([1]).name(0) == photos.name(1)
    assert few.fingerprint() != photos.fingerprint()


def test_collect_features_streams_them(folder: Path) -> None:
    photos = Photos.of(folder, image_size=8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 3))
    found = collect_features(
        model, photos.dataset(lambda images: images - 0.5), batch_size=2, progress=False
    )
    assert found.class_names == photos.class_names
    assert torch.equal(found.labels, photos.labels)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(photos.images(range(4)) - 0.5))


def test_twenty_thousand_photos_stream_in_bounded_memory() -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    class Many(Dataset[Any]):
        def __len__(self) -> int:
            return 20_000

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            nonlocal most
            image = torch.full((3, 4, 4), index / 20_000)
            alive.add(image)
            most = max(most, len(alive))
            return image, index % 7

    photos = Photos.of(Many(), image_size=4)
    gc.collect()
    for batch, _ in DataLoader(photos.dataset(), batch_size=64):
        assert batch.shape[1:] == (3, 4, 4)
    assert most <= 2 * 64 + 2
    most = 0
    assert photos.labels.tolist() == [index % 7 for index in range(20_000)]
    assert most == 0  # the labels were remembered: nothing is read again


# Fingerprints


def test_a_folder_changes_its_name_with_its_files(folder: Path) -> None:
    first = Photos.of(folder).fingerprint()
    assert Photos.of(folder).fingerprint() == first
    assert Photos.of(folder, image_size=100).fingerprint() != first
    one, other = folder / "cat/b.png", folder / "dog/deep/c.png"
    os.utime(one, ns=(1, 1))
    assert Photos.of(folder).fingerprint() == first  # the photo is the same
    pixels = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(pixels)
    changed = Photos.of(folder).fingerprint()
    assert changed != first
    one.rename(folder / "cat/c.png")
    assert Photos.of(folder).fingerprint() not in (first, changed)


def test_a_folders_fingerprint_opens_no_photo(folder: Path, monkeypatch) -> None:
    photos = Photos.of(folder)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a photo was opened"))
    photos.fingerprint()


def test_tensors_and_datasets_change_their_name_with_their_contents() -> None:
    images, labels = torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])
    changed = images.clone()
    changed[2, 0, 0, 0] += 0.25 - changed[2, 0, 0, 0]
    pairs = [(images, labels), (changed, labels), (images, labels.flip(0))]
    assert len({Photos.of(pair).fingerprint() for pair in pairs}) == 3
    listed = [Listed(list(zip(*pair, strict=True))) for pair in pairs]
    assert len({Photos.of(data).fingerprint() for data in listed}) == 3
    copy = Listed(list(zip(images.clone(), labels, strict=True)))
    assert Photos.of(copy).fingerprint() == Photos.of(listed[0]).fingerprint()


def test_a_key_stands_for_the_contents() -> None:
    data = Listed([("unreadable", 0)])
    one, other = (Photos.of(data, key=key).fingerprint() for key in ("v1", "v2"))
    assert one != other
    assert Photos.of(data, key="v1").fingerprint() == one


class TestDigests:
    """A hash of each photo's content finds it in another set."""

    def test_the_same_file_under_another_name(self, tmp_path: Path) -> None:
        for name in ("a/0.png", "a/1.png", "b/2.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (5, 4), "red" if name != "a/1.png" else "blue").save(tmp_path / name)
        photos = Photos.of(tmp_path)
        first, other, again = photos.digests()
        assert first == again != other
        assert first == hashlib.sha256((tmp_path / "a/0.png").read_bytes()).hexdigest()
        assert photos.subset([2]).digests() == (again,) == (photos.digest(2),)
        folder = ImageFolder(str(tmp_path))
        assert Photos.of(Subset(folder, [2, 1])).digests() == (again, other)

    def test_pictures_by_type_shape_and_values(self) -> None:
        images = torch.zeros(3, 3, 4, 4)
        images[1, 2, 3, 3] = 1 / 512
        first, other, again = Photos.of((images, torch.tensor([0, 1, 1]))).digests()
        assert first == again != other
        rows = [(images[0], 0), (images[0, :, :2], 1), (images[0].to(torch.uint8), 0)]
        found = Photos.of(rows).digests()
        assert found[0] == first
        assert len(set(found)) == 3

    def test_unreadable_photos_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/gone.png").symlink_to(tmp_path / "nowhere")
        os.mkfifo(tmp_path / "a/pipe.png")
        photos = Photos.of(tmp_path)
        for index, name in enumerate(("gone", "pipe")):
            with pytest.raises(ValueError, match=f"photo a/{name}.png cannot be read"):
                photos.digest(index)
        with pytest.raises(ValueError, match=r"photo a/gone.png cannot be read"):
            photos.digests()
        with pytest.raises(IndexError, match="index=2"):
            photos.digest(2)


class _Part(Dataset):
    """Grey pictures of labels ``0, 1, ...`` of its own classes."""

    def __init__(self, classes: list[str], labels: list[int], *, as_dict: bool = False) -> None:
        self.classes, self.labels, self.as_dict = classes, labels, as_dict

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        image, label = Image.new("L", (5, 4), 40 * index), self.labels[index]
        return {"image": image, "label": label} if self.as_dict else (image, label)


@pytest.mark.parametrize("as_dict", [False, True])
def test_joined_data_sets_of_other_classes_are_matched_by_name(as_dict: bool) -> None:
    one = _Part(["ant", "cat"], [0, 1, 1])
    other, third = _Part(["bee", "cat"], [1, 0], as_dict=as_dict), _Part(["dog"], [0])
    data = ConcatDataset([one, ConcatDataset([other, third])])
    found = Photos.of(data)
    assert found.class_names == ("ant", "bee", "cat", "dog")
    assert [found.label(i) for i in range(6)] == [0, 2, 2, 2, 1, 3]
    named = Photos.of(data, class_names=["dog", "cat", "bee", "ant"])
    assert [named.label(i) for i in range(6)] == [3, 1, 1, 1, 2, 0]
    with pytest.raises(ValueError, match="dog"):
        Photos.of(data, class_names=["cat", "bee", "ant"])


def test_a_photo_is_named_once_in_a_message() -> None:
    photos = Photos.of((torch.rand(2, 3, 4, 4), torch.tensor([0.5, 1.0])))
    for call in (photos.image, photos.label, photos.dataset().__getitem__):
        with pytest.raises(TypeError, match=r"^photo 0: the label is tensor"):
            call(0)
