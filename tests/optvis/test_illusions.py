import io
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from captum_neuroinspect._core.kept_file import write_kept
from captum_neuroinspect.optvis import Illusions, activation_mask

HOSTILE = ("../../etc/passwd", 'a\\b:c*?"<>|\0\n', "", "  ..", "Füße 猫", "x" * 500)


def _illusions(n: int = 2, **changes) -> Illusions:
    parts = {
        "images": torch.rand(n, 3, 20, 24),
        "masks": torch.tensor([0.5, 1.0]).repeat_interleave(12).expand(n, 1, 20, 24),
        "activations": torch.arange(n) + 0.25,
        "logits": torch.arange(n) - 0.5,
        "similarities": torch.full((n,), 0.125),
        "maps": torch.rand(n, 4, 5),
        "neurons": tuple(range(10, 10 + n)),
        "classes": tuple(range(n)),
        "class_names": tuple(f"class {i}" for i in range(n)),
        "settings": {"n_steps": 3, "size": (20, 24)},
    }
    return Illusions(**{**parts, **changes})


def _moving(n: int = 2, n_snapshots: int = 3, **changes) -> Illusions:
    snapshots = torch.rand(n_snapshots, n, 3, 20, 24)
    steps = tuple(range(1, n_snapshots + 1))
    return _illusions(n, snapshots=snapshots, snapshot_steps=steps, **changes)


def _assert_same(one: Illusions, other: Illusions) -> None:
    for part in fields(Illusions):
        mine, theirs = getattr(one, part.name), getattr(other, part.name)
        assert type(mine) is type(theirs), part.name
        if isinstance(mine, torch.Tensor):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)
        else:
            assert mine == theirs, part.name


def test_length_masks_and_pictures():
    illusions = _illusions()
    assert len(illusions) == 2
    assert illusions.masked().equal(illusions.images * illusions.masks)
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
    # 20 rows, each enlarged to six, below a gap of 8.
    assert ink[128:].any()
    assert not ink[:128].any()
    # White paper at both borders and in the gap between the columns.
    assert not ink[:, [0, 1, 161, 162, -1]].any()


@pytest.mark.parametrize("name", HOSTILE)
def test_grid_survives_any_name(name):
    assert _illusions(1, class_names=(name.replace("\n", " "),)).grid().width > 0


def test_save_pictures_writes_pictures_and_every_number(tmp_path):
    illusions = _illusions()
    paths = illusions.save_pictures(tmp_path / "new" / "folder")
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
        "failed": False,
    }
    assert sorted(p.name for p in paths[0].parent.iterdir()) == sorted(p.name for p in paths)


def test_save_pictures_without_classes(tmp_path):
    plain = _illusions(1, classes=None, class_names=None, logits=None, similarities=None)
    paths = plain.save_pictures(tmp_path)
    assert paths[0].name == "000_neuron10.png"
    row = json.loads(paths[1].read_text())["illusions"][0]
    assert row == {"file": "000_neuron10.png", "neuron": 10, "activation": 0.25, "failed": False}


def test_hostile_class_names_stay_in_the_folder(tmp_path):
    folder = tmp_path / "out"
    paths = _illusions(len(HOSTILE), class_names=HOSTILE).save_pictures(folder)
    assert all(path.parent == folder and path.is_file() for path in paths)
    assert all(len(path.name) < 100 and path.name.isascii() for path in paths)
    assert len({path.name.lower() for path in paths}) == len(HOSTILE) + 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    rows = json.loads(paths[-1].read_text(encoding="utf-8"))["illusions"]
    assert tuple(row["class_name"] for row in rows) == HOSTILE


def test_numbers_that_json_lacks(tmp_path):
    broken = _illusions(logits=torch.tensor([float("nan"), float("inf")]))
    rows = json.loads(broken.save_pictures(tmp_path)[-1].read_text())["illusions"]
    assert [row["logit"] for row in rows] == [None, None]


def test_saving_again_replaces_the_files(tmp_path):
    _illusions().save_pictures(tmp_path)
    changed = _illusions(activations=torch.tensor([8.0, 9.0]))
    rows = json.loads(changed.save_pictures(tmp_path)[-1].read_text())["illusions"]
    assert [row["activation"] for row in rows] == [8.0, 9.0]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("suffix", ["", ".png", ".2"])
def test_save_to_anything_else_points_to_the_pictures(tmp_path, suffix):
    with pytest.raises(ValueError, match=r"for a folder of pictures call save_pictures\(folder\)"):
        _illusions().save(tmp_path / f"out{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "illusions",
    [
        _moving(3, masks=torch.rand(3, 1, 20, 24), class_names=("Füße 猫", 'a"b\\', "\ud800")),
        _illusions(classes=None, class_names=None, logits=None, similarities=None, masks=None),
        _illusions(logits=torch.tensor([torch.nan, torch.inf])),
        _illusions(settings={"a": [1.5, None, {"b": (True, "ß")}], "c": 0.1, "": {}}),
        _illusions(images=torch.rand(2, 20, 24, 3).permute(0, 3, 1, 2)),
        _moving()[:0],
    ],
)
def test_load_gives_back_what_was_saved(illusions, tmp_path):
    path = illusions.save(tmp_path / "new" / "set.safetensors")
    assert path == tmp_path / "new" / "set.safetensors"
    assert list(path.parent.iterdir()) == [path]
    _assert_same(Illusions.load(str(path)), illusions)


def test_saving_is_deterministic_and_keeps_tensors_that_share_memory(tmp_path):
    numbers = torch.rand(2)
    shared = _moving(activations=numbers, logits=numbers, similarities=numbers)
    first = shared.save(tmp_path / "1.safetensors").read_bytes()
    assert shared.save(tmp_path / "2.safetensors").read_bytes() == first
    _assert_same(Illusions.load(tmp_path / "2.safetensors"), shared)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    old = _illusions()
    path = old.save(tmp_path / "set.safetensors")

    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("captum_neuroinspect._core.kept_file.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        _illusions().save(path)
    _assert_same(Illusions.load(path), old)
    assert list(tmp_path.iterdir()) == [path]


def test_load_refuses_other_files(tmp_path):
    path = tmp_path / "other.safetensors"
    with pytest.raises(FileNotFoundError):
        Illusions.load(path)
    save_file({"images": torch.rand(1, 3, 4, 4)}, path)
    with pytest.raises(ValueError, match=r"other\.safetensors .*it holds no Illusions"):
        Illusions.load(path)
    write_kept(path, "Illusions", {}, {}, version=2)
    with pytest.raises(ValueError, match="version 2 of the format, this package reads up to 1"):
        Illusions.load(path)
    path.write_text("something else")
    with pytest.raises(ValueError, match="it is damaged or no safetensors file"):
        Illusions.load(path)
    whole = _illusions().save(path).read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="it is damaged or no safetensors file"):
        Illusions.load(path)
    with pytest.raises(ValueError, match="is a folder"):
        Illusions.load(_illusions().save_pictures(tmp_path / "pictures")[0].parent)


def test_settings_become_json_and_a_copy():
    given = {"size": (20, 24), "lr": torch.tensor(0.5), "f": print, "deep": {"list": [1]}}
    settings = _illusions(settings=given).settings
    assert settings == {
        "size": [20, 24],
        "lr": 0.5,
        "f": "<built-in function print>",
        "deep": {"list": [1]},
    }
    given["deep"]["list"].append(2)
    assert settings["deep"] == {"list": [1]}


@pytest.mark.parametrize(
    ("which", "rows"),
    [
        (1, [1]),
        (-1, [3]),
        (slice(1, None), [1, 2, 3]),
        (slice(None, None, -2), [3, 1]),
        ([3, 0, 3], [3, 0, 3]),
        ([], []),
        ([True, False, False, True], [0, 3]),
        (torch.tensor([2, -4]), [2, 0]),
        (torch.tensor(2), [2]),
        (torch.tensor([False, True, True, False]), [1, 2]),
    ],
)
def test_rows_keep_every_field_in_step(which, rows):
    whole = _moving(4, masks=torch.rand(4, 1, 20, 24), logits=torch.rand(4))
    part = whole[which]
    assert part.neurons == tuple(whole.neurons[row] for row in rows)
    assert part.classes == tuple(whole.classes[row] for row in rows)
    assert part.class_names == tuple(whole.class_names[row] for row in rows)
    for name in ("images", "masks", "maps", "activations", "logits", "similarities"):
        assert getattr(part, name).equal(getattr(whole, name)[rows])
    assert part.snapshots.equal(whole.snapshots[:, rows])
    assert part.snapshot_steps == whole.snapshot_steps
    assert part.settings == whole.settings


def test_iteration_gives_single_illusions():
    whole = _illusions(3, masks=None, classes=None, class_names=None)
    singles = list(whole)
    assert [one.neurons for one in singles] == [(10,), (11,), (12,)]
    assert singles[2].images.equal(whole.images[2:])
    assert singles[0].masks is None


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        (2, IndexError, "row 2 does not exist, there are 2"),
        ([0, -3], IndexError, "row -3 does not exist"),
        ([True], ValueError, "1 booleans, expected 2"),
        (True, TypeError, "rows=True, expected a row, a slice"),
        (0.5, TypeError, "rows=0.5"),
        ("0", TypeError, "rows='0'"),
        (None, TypeError, "rows=None"),
        (torch.zeros(1, 1, dtype=torch.int64), TypeError, "expected a row, a slice"),
    ],
)
def test_bad_rows(which, error, message):
    with pytest.raises(error, match=message):
        _illusions()[which]


@pytest.mark.parametrize(
    "options", [{}, {"threshold": 1.0, "floor": 0.1}, {"softness": 0.3, "blur": 1.0, "floor": 0.0}]
)
def test_other_masks_are_made_of_the_maps(options):
    illusions = _illusions(3)
    other = illusions.remasked(**options)
    assert other.masks.equal(activation_mask(illusions.maps, (20, 24), **options))
    _assert_same(replace(other, masks=illusions.masks), illusions)


@pytest.mark.parametrize(
    ("background", "value"), [("grey", 0.5), ("white", 1.0), ("black", 0.0), (0.25, 0.25), (1, 1.0)]
)
def test_every_view_can_show_a_background(background, value, tmp_path):
    illusions = _moving(2, masks=torch.rand(2, 1, 20, 24))

    def over(images):
        return images * illusions.masks + value * (1 - illusions.masks)

    expected = replace(illusions, images=over(illusions.images))
    pictures = [picture.tobytes() for picture in expected.to_pil()]
    assert [p.tobytes() for p in illusions.to_pil(masked=background)] == pictures
    assert illusions.grid(masked=background).tobytes() == expected.grid().tobytes()
    shown = illusions.show(masked=background).axes[1].images[0].get_array()
    assert shown.tobytes() == pictures[1]
    moved = torch.stack([over(images) for images in illusions.snapshots])
    assert illusions.animate(masked=background) == replace(expected, snapshots=moved).animate()
    paths = illusions.save_pictures(tmp_path, masked=background)
    with Image.open(paths[1]) as saved:
        assert saved.tobytes() == pictures[1]


@pytest.mark.parametrize(
    ("background", "error", "message"),
    [
        ("pink", ValueError, "background='pink', expected one of grey, white, black"),
        (1.5, ValueError, r"background=1\.5, expected 0\.\.1"),
        (float("nan"), ValueError, "background=nan"),
        (None, TypeError, "background is NoneType, expected a name or a number"),
    ],
)
def test_bad_backgrounds(background, error, message):
    with pytest.raises(error, match=message):
        _illusions().to_pil(masked=background)


def test_pictures_are_rounded_and_cut_off():
    images = torch.tensor([-1.0, 0.5, 2.0]).view(1, 3, 1, 1)
    one = Illusions(images, None, torch.ones(1), None, None, (0,))
    assert one.to_pil()[0].getpixel((0, 0)) == (0, 128, 255)
    assert replace(one, images=images[:, :1].bfloat16()).to_pil()[0].mode == "L"


def test_true_is_no_brightness():
    illusions = _illusions()
    dimmed = [p.tobytes() for p in illusions.to_pil(masked=True)]
    assert dimmed == [p.tobytes() for p in illusions.to_pil(masked="black")]
    assert dimmed != [p.tobytes() for p in illusions.to_pil(masked=1.0)]


@pytest.mark.parametrize("n_channels", [2, 5])
def test_channels_that_are_no_colours(n_channels):
    strange = _illusions(images=torch.rand(2, n_channels, 20, 24))
    for view in (strange.to_pil, strange.grid, strange.show):
        with pytest.raises(ValueError, match=f"images have {n_channels} channels, expected 1, 3"):
            view()
    assert strange._repr_png_() is None, "a notebook shows the text"


def test_four_channels_are_colours_and_opacity():
    four = _illusions(images=torch.rand(2, 4, 20, 24))
    assert four.to_pil()[0].mode == "RGBA"
    assert four.grid().mode == "RGB"


def test_labels_of_the_grid():
    illusions = _illusions(4)
    bare = illusions.grid(labels=False)
    assert bare.size == (2 * (24 + 8) + 8, 2 * (20 + 8) + 8)
    corner = bare.crop((8, 8, 32, 28))
    assert corner.tobytes() == illusions.to_pil()[0].tobytes()
    own = illusions.grid(labels=illusions.captions())
    assert own.tobytes() == illusions.grid().tobytes()
    assert illusions.grid(labels=["a", "b", "c", "d"]).height < own.height


def test_a_small_picture_is_enlarged_pixel_by_pixel():
    illusions = _illusions(1)
    enlarged = illusions.grid().crop((8 + 3, 8, 8 + 3 + 6 * 24, 8 + 6 * 20))
    back = enlarged.resize((24, 20), Image.Resampling.NEAREST)
    assert back.tobytes() == illusions.to_pil()[0].tobytes()


def test_figure_has_a_picture_and_a_title_for_each():
    names = ("$\\frac$", "<b>", "a " * 60, "\t")
    illusions = _illusions(4, class_names=names)
    figure = illusions.show(masked=True, columns=3)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == [
        "neuron 10\n$\\frac$\nactivation 0.25",
        "neuron 11\n<b>\nactivation 1.25",
    ]
    assert all(len(line) <= 28 for title in titles for line in title.split("\n"))
    pictures = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(pictures) == 4
    assert pictures[2].tobytes() == illusions.to_pil(masked=True)[2].tobytes()
    figure.savefig(io.BytesIO())
    assert {axes.get_title() for axes in illusions.show(labels=False).axes} == {""}


def _share(bright: int) -> torch.Tensor:
    """A mask of which so many of its 480 pixels are not dimmed."""
    return torch.where(torch.arange(480) < bright, 1.0, 0.5).view(1, 20, 24)


def test_what_is_no_result_is_left_out_with_a_word_why():
    masks = torch.stack([_share(n) for n in (480, 470, 1, 150, 150)])
    activations = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    illusions = _illusions(5, masks=masks, activations=activations)
    assert illusions.failed.tolist() == [False] * 4 + [True]
    assert illusions.mask_tells.tolist() == [False] * 3 + [True] * 2
    assert [bool(text) for text in illusions.remarks()] == [False] * 4 + [True]
    for masked, n_left_out in ((False, 1), ("grey", 4)):
        figure = illusions.show(masked)
        shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
        assert sum(len(set(array.reshape(-1).tolist())) == 1 for array in shown) == n_left_out
        titles = [axes.get_title() for axes in figure.axes][:5]
        assert sum("no mask" in title for title in titles) == n_left_out - 1
        assert "failed: stayed at 0" in titles[4]
        assert len(illusions.to_pil(masked)) == 5
    assert illusions.rows()[4]["failed"]
    texts = [axes.get_title() for axes in illusions.show(labels=list("abcde")).axes][:5]
    assert texts == ["a", "b", "c", "d", "e\nfailed: stayed at 0"]


def test_figure_belongs_to_no_window():
    from matplotlib import pyplot

    _illusions(images=torch.rand(2, 1, 20, 24)).show()
    assert pyplot.get_fignums() == []


def test_animation_has_a_frame_per_snapshot(tmp_path):
    moving = _moving(2, 4)
    gif = moving.animate(tmp_path / "new" / "a.gif", duration=50)
    assert (tmp_path / "new" / "a.gif").read_bytes() == gif == moving.animate(duration=50)
    with Image.open(io.BytesIO(gif)) as animation:
        assert animation.n_frames == 4
        assert animation.info["loop"] == 0
        # One more line than in a sheet without activations: the step.
        assert animation.width == moving.grid().width
        assert animation.height == moving.grid().height
    one = _moving(2, 1, masks=torch.zeros(2, 1, 20, 24))
    with Image.open(io.BytesIO(one.animate(masked=True, columns=1))) as animation:
        assert animation.convert("RGB").getpixel((80, 80)) == (0, 0, 0)


def test_a_notebook_shows_the_sheet():
    few = _illusions(3)
    with Image.open(io.BytesIO(few._repr_png_())) as picture:
        assert picture.convert("RGB").tobytes() == few.grid().tobytes()
    many = _illusions(40)
    with Image.open(io.BytesIO(many._repr_png_())) as picture:
        # A line more, which says that these are not all.
        assert picture.height == many[:36].grid().height + 18
    assert few[:0]._repr_png_() is None


def test_numbers_of_other_kinds_become_tuples_of_int():
    found = _illusions(neurons=torch.tensor([3, 4]), classes=[1, 2], class_names=["a", "b"])
    assert (found.neurons, found.classes, found.class_names) == ((3, 4), (1, 2), ("a", "b"))
    assert {type(neuron) for neuron in found.neurons} == {int}
    with pytest.raises(TypeError, match="integer"):
        _illusions(neurons=(1.5, 2.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neurons": (1,)}, "neurons has 1 entries, expected 2"),
        ({"class_names": ("a", "b", "c")}, "class_names has 3 entries, expected 2"),
        ({"images": torch.rand(2, 20, 24)}, r"images have shape \(2, 20, 24\)"),
        ({"masks": torch.rand(2, 20, 24)}, r"masks have shape .*, expected \(2, 1, 20, 24\)"),
        ({"maps": torch.rand(2, 1, 4, 5)}, r"maps have shape \(2, 1, 4, 5\), expected \(N, h, w\)"),
        ({"maps": torch.rand(3, 4, 5)}, "maps has 3 entries, expected 2"),
        ({"snapshot_steps": (1,)}, "1 snapshot_steps without snapshots"),
        ({"snapshots": torch.rand(1, 2, 3, 20, 24)}, "snapshots without snapshot_steps"),
        (
            {"snapshots": torch.rand(2, 2, 3, 20, 24), "snapshot_steps": (1,)},
            r"snapshots have shape \(2, 2, 3, 20, 24\), expected \(1, 2, 3, 20, 24\)",
        ),
        ({"snapshots": torch.rand(1, 3, 3, 20, 24), "snapshot_steps": (1,)}, "snapshots have"),
    ],
)
def test_parts_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        _illusions(**changes)


def test_bad_values():
    illusions = _illusions()
    with pytest.raises(ValueError, match="columns=0"):
        illusions.grid(columns=0)
    with pytest.raises(TypeError, match=r"columns=1\.5, expected a whole number"):
        illusions.show(columns=1.5)
    for draw in (illusions.grid, illusions.show):
        with pytest.raises(ValueError, match="1 captions, expected 2: one per picture"):
            draw(labels=["one"])
    with pytest.raises(ValueError, match="no pictures"):
        illusions[:0].grid()
    with pytest.raises(ValueError, match="duration=10, expected at least 20"):
        _moving().animate(duration=10)


def test_what_is_missing_is_said():
    bare = _illusions(masks=None, maps=None)
    with pytest.raises(RuntimeError, match="no maps"):
        bare.remasked()
    for use in (bare.masked, lambda: bare.grid(masked=True)):
        with pytest.raises(RuntimeError, match="no masks"):
            use()
    with pytest.raises(RuntimeError, match=r"no snapshots: .*IllusionOptions\(snapshots="):
        bare.animate()
    assert replace(bare, masks=torch.ones(2, 1, 20, 24)).masked().equal(bare.images)
