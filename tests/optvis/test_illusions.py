import json

import pytest
import torch
from PIL import Image

from captum_neuroinspect.optvis import Illusions

HOSTILE = ("../../etc/passwd", 'a\\b:c*?"<>|\0\n', "", "  ..", "Füße 猫", "x" * 500)


def _illusions(n: int = 2, **changes) -> Illusions:
    fields = {
        "images": torch.rand(n, 3, 20, 24),
        "masks": torch.full((n, 1, 20, 24), 0.5),
        "activations": torch.arange(n) + 0.25,
        "logits": torch.arange(n) - 0.5,
        "similarities": torch.full((n,), 0.125),
        "neurons": tuple(range(10, 10 + n)),
        "classes": tuple(range(n)),
        "class_names": tuple(f"class {i}" for i in range(n)),
        "settings": {"n_steps": 3, "size": (20, 24)},
    }
    return Illusions(**{**fields, **changes})


def test_length_masks_and_pictures():
    illusions = _illusions()
    assert len(illusions) == 2
    assert illusions.masked().equal(illusions.images * 0.5)
    picture = illusions.to_pil()[1]
    assert picture.size == (24, 20)
    expected = (illusions.images[1, :, 3, 7] * 255).round().int().tolist()
    assert list(picture.getpixel((7, 3))) == expected
    dimmed = illusions.to_pil(masked=True)[1].getpixel((7, 3))
    assert all(d == pytest.approx(e / 2, abs=1) for d, e in zip(dimmed, expected, strict=True))


def test_grey_images():
    illusions = _illusions(images=torch.rand(2, 1, 20, 24))
    assert illusions.to_pil()[0].mode == "L"
    assert illusions.grid().mode == "RGB"


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["neuron 10", "class 0", "activation 0.25"]),
        ({"class_names": None}, ["neuron 10", "class 0", "activation 0.25"]),
        ({"class_names": None, "classes": None}, ["neuron 10", "activation 0.25"]),
    ],
)
def test_captions(changes, lines):
    assert _illusions(**changes).captions()[0].split("\n") == lines


@pytest.mark.parametrize(("columns", "n_columns"), [(None, 3), (1, 1), (2, 2), (99, 5)])
def test_grid_has_room_for_all(columns, n_columns):
    one = _illusions(1).grid()
    sheet = _illusions(5).grid(columns=columns)
    cell = 158
    assert one.width == cell + 8
    assert sheet.width == n_columns * cell + 8
    n_rows = -(-5 // n_columns)
    assert sheet.height - 8 == n_rows * (one.height - 8)


def test_captions_are_on_the_sheet_and_inside_their_column():
    names = ("short", "a name that is far too long for so small a picture")
    sheet = _illusions(images=torch.ones(2, 3, 20, 24), class_names=names).grid(columns=2)
    ink = torch.tensor(list(sheet.convert("L").tobytes())).view(sheet.height, sheet.width) < 128
    assert ink[28:].any()
    assert not ink[:28].any()
    # White paper at both borders and in the gap between the columns.
    assert not ink[:, [0, 1, 161, 162, -1]].any()


@pytest.mark.parametrize("name", HOSTILE)
def test_grid_survives_any_name(name):
    assert _illusions(1, class_names=(name.replace("\n", " "),)).grid().width > 0


def test_save_writes_pictures_and_every_number(tmp_path):
    illusions = _illusions()
    paths = illusions.save(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        "000_neuron10_class0_class-0.png",
        "001_neuron11_class1_class-1.png",
        "illusions.json",
    ]
    with Image.open(paths[0]) as saved:
        assert saved.tobytes() == illusions.to_pil()[0].tobytes()
    content = json.loads(paths[-1].read_text(encoding="utf-8"))
    assert content["settings"] == {"n_steps": 3, "size": [20, 24]}
    assert content["illusions"][1] == {
        "file": "001_neuron11_class1_class-1.png",
        "neuron": 11,
        "class": 1,
        "class_name": "class 1",
        "activation": 1.25,
        "logit": 0.5,
        "similarity": 0.125,
    }
    assert sorted(p.name for p in paths[0].parent.iterdir()) == sorted(p.name for p in paths)


def test_save_without_classes(tmp_path):
    plain = _illusions(1, classes=None, class_names=None, logits=None, similarities=None)
    paths = plain.save(tmp_path)
    assert paths[0].name == "000_neuron10.png"
    row = json.loads(paths[1].read_text())["illusions"][0]
    assert row == {"file": "000_neuron10.png", "neuron": 10, "activation": 0.25}


def test_hostile_class_names_stay_in_the_folder(tmp_path):
    folder = tmp_path / "out"
    paths = _illusions(len(HOSTILE), class_names=HOSTILE).save(folder)
    assert all(path.parent == folder and path.is_file() for path in paths)
    assert all(len(path.name) < 100 and path.name.isascii() for path in paths)
    assert len({path.name.lower() for path in paths}) == len(HOSTILE) + 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    rows = json.loads(paths[-1].read_text(encoding="utf-8"))["illusions"]
    assert tuple(row["class_name"] for row in rows) == HOSTILE


def test_numbers_that_json_lacks(tmp_path):
    broken = _illusions(logits=torch.tensor([float("nan"), float("inf")]))
    rows = json.loads(broken.save(tmp_path)[-1].read_text())["illusions"]
    assert [row["logit"] for row in rows] == [None, None]


def test_saving_again_replaces_the_files(tmp_path):
    _illusions().save(tmp_path)
    changed = _illusions(activations=torch.tensor([8.0, 9.0]))
    rows = json.loads(changed.save(tmp_path)[-1].read_text())["illusions"]
    assert [row["activation"] for row in rows] == [8.0, 9.0]
    assert len(list(tmp_path.iterdir())) == 3


def test_bad_values():
    with pytest.raises(ValueError, match="neurons has 1 entries, expected 2"):
        _illusions(neurons=(1,))
    with pytest.raises(ValueError, match="columns=0"):
        _illusions().grid(columns=0)
    with pytest.raises(RuntimeError, match="no masks"):
        _illusions(masks=None).grid(masked=True)
