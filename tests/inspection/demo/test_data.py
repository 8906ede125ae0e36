from pathlib import Path

import pytest
import torch
from PIL import Image

from captum_neuroinspect.inspection.demo.data import folder_data


def _photos(folder: Path, splits: tuple[str, ...], classes: tuple[str, ...]) -> Path:
    for split in splits:
        for number, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 30), (60 * number, 90, 200)).save(folder / split / name / "a.png")
    return folder


def test_folder_data_reads_photos_in_0_to_1_at_224_pixels(tmp_path: Path) -> None:
    data = folder_data(_photos(tmp_path, ("train", "validation", "test"), ("cat", "dog")))

    assert data.class_names == ("cat", "dog")
    assert data.target is None
    assert data.sets["deployment"] is data.sets["validation"]
    image = data.image("test", 1)
    assert image.shape == (3, 224, 224)
    torch.testing.assert_close(image[:, 0, 0] * 255, torch.tensor([60.0, 90.0, 200.0]))


def test_folder_data_names_what_is_missing(tmp_path: Path) -> None:
    folder = _photos(tmp_path, ("train", "test"), ("cat", "dog"))

    with pytest.raises(ValueError, match="has no validation/: expected a folder"):
        folder_data(folder)


def test_folder_data_refuses_splits_with_other_classes(tmp_path: Path) -> None:
    folder = _photos(tmp_path, ("train", "validation"), ("cat", "dog"))
    _photos(tmp_path, ("test",), ("cat", "bird"))

    with pytest.raises(ValueError, match=r"test/ has classes \['bird', 'cat'\]"):
        folder_data(folder)
