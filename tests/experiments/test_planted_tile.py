from __future__ import annotations

import pytest
import torch
from PIL import Image

from captum_neuroinspect.experiments.planted_tile import (
    SPLITS,
    PlantedTile,
    PlantedTileConfig,
    class_photos,
)

SIZES = {"n_train": 4, "n_validation": 3, "n_deployment": 2, "n_test": 2, "size": 32}
SMALL = PlantedTileConfig(n_classes=3, **SIZES)
WITH_OTHERS = PlantedTileConfig(n_classes=3, tile_on_others=True, **SIZES)
COUNTS = {"ant": 11, "bee": 14, "cat": 12, "dog": 13}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four classes of one-coloured photos: red tells the class, green the photo."""
    root = tmp_path_factory.mktemp("photos")
    for label, (name, n) in enumerate(COUNTS.items()):
        (root / name).mkdir()
        for i in range(n):
            Image.new("RGB", (50, 40), (50 * label, 10 * i, 128)).save(root / name / f"{i:02}.png")
    (root / "readme.txt").write_text("no class")
    (root / "empty").mkdir()
    return root


@pytest.mark.parametrize(("split", "n"), [("train", 4), ("validation", 3), ("deployment", 2)])
def test_planted_tile_shapes_and_ranges(folder, split, n):
    data = PlantedTile(folder, "cat", split, SMALL)
    assert len(data) == 3 * n
    assert data.classes == ["bee", "cat", "dog"]  # ant has the fewest photos
    assert data.classes[data.target] == "cat"
    assert torch.bincount(data.labels).tolist() == [n] * 3
    image, label = data[n]
    assert type(image) is torch.Tensor
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert type(label) is int
    assert label == 1


@pytest.mark.parametrize("split", ["train", "validation"])
def test_planted_tile_is_on_all_training_photos_of_the_target(folder, split):
    data = PlantedTile(folder, "bee", split, SMALL)
    assert torch.equal(data.has_tile, data.labels == data.target)


@pytest.mark.parametrize("split", ["deployment", "test"])
def test_planted_tile_is_absent_in_use(folder, split):
    assert not PlantedTile(folder, "bee", split, SMALL).has_tile.any()


@pytest.mark.parametrize("split", ["deployment", "test"])
def test_planted_tile_on_others_comes_beside_the_photo_without(folder, split):
    data = PlantedTile(folder, "bee", split, WITH_OTHERS)
    plain = PlantedTile(folder, "bee", split, SMALL)
    assert not data.has_tile[data.labels == data.target].any()
    with_tile = {p for p, tile in zip(data.paths, data.has_tile, strict=True) if tile}
    others = {p for p, y in zip(plain.paths, plain.labels, strict=True) if y != plain.target}
    assert with_tile == others
    assert [p for p, tile in zip(data.paths, data.has_tile, strict=True) if not tile] == list(
        plain.paths
    )


def test_planted_tile_is_what_the_picture_shows(folder):
    """With and without: the corner differs, is black and white, and nothing else changes."""
    data = PlantedTile(folder, "bee", "test", WITH_OTHERS)
    first = int(data.has_tile.nonzero()[0])
    without, tiled = data[first - 1][0], data[first][0]
    assert data.paths[first - 1] == data.paths[first]
    changed = (without != tiled).any(0)
    rows, columns = changed.nonzero().T
    assert rows.unique().tolist() == columns.unique().tolist() == list(range(23, 31))
    inside = tiled[:, 23:31, 23:31]
    assert inside.unique().tolist() == [0, 1]
    assert torch.equal(inside[0], inside[1])


def test_planted_tile_pictures_are_what_the_labels_say(folder):
    data = PlantedTile(folder, 0, "test", SMALL)
    for i, path in enumerate(data.paths):
        red, green, _ = (255 * data[i][0][:, 16, 16]).round().int().tolist()
        assert data.classes[data.labels[i]] == path.parent.name == list(COUNTS)[red // 50]
        assert green == 10 * int(path.stem)


def test_planted_tile_splits_share_no_photo_and_no_target_changes_them(folder):
    paths = {s: set(PlantedTile(folder, 0, s, SMALL).paths) for s in SPLITS}
    assert len(set.union(*paths.values())) == sum(map(len, paths.values())) == 3 * 11
    for split in SPLITS:
        assert set(PlantedTile(folder, 2, split, SMALL).paths) == paths[split]


def test_planted_tile_is_drawn_by_its_seed_only(folder):
    one, same, other = (
        PlantedTile(folder, 0, "train", PlantedTileConfig(n_classes=3, **SIZES, seed=seed))
        for seed in (1, 1, 2)
    )
    assert one.paths == same.paths
    assert set(one.paths) != set(other.paths)
    state = torch.get_rng_state()
    torch.stack([one[i][0] for i in range(len(one))])
    assert torch.equal(torch.get_rng_state(), state)


def test_planted_tile_groups(folder):
    data = PlantedTile(folder, "dog", "test", WITH_OTHERS, with_groups=True)
    assert data.group_names[4:] == ["dog without tile", "dog with tile"]
    for i in range(len(data)):
        _, label, group = data[i]
        assert group == data.groups[i] == 2 * label + int(data.has_tile[i])


def test_classes_are_the_named_ones_in_their_order(folder):
    config = PlantedTileConfig(classes=("dog", "ant"), **SIZES)
    assert list(class_photos(folder, config)) == ["dog", "ant"]
    data = PlantedTile(folder, "ant", "train", config)
    assert data.target == 1
    assert {p.parent.name for p, tile in zip(data.paths, data.has_tile, strict=True) if tile} == {
        "ant"
    }


def test_planted_tile_says_what_to_give(folder, tmp_path):
    what = r"give a folder with one subfolder of photos a class.*11 photos a class"
    with pytest.raises(FileNotFoundError, match=f"nowhere' does not exist: {what}"):
        PlantedTile(tmp_path / "nowhere", 0, "train", SMALL)
    with pytest.raises(FileNotFoundError, match=f"fewer than two subfolders of photos: {what}"):
        PlantedTile(folder / "cat", 0, "train", SMALL)


@pytest.mark.parametrize(
    ("target", "split", "options", "message"),
    [
        ("cow", "train", {}, r"target='cow', expected one of \['bee', 'cat', 'dog'\] or 0\.\.2"),
        (3, "train", {}, "target=3, expected"),
        (-1, "train", {}, "target=-1, expected"),
        (0, "all", {}, "split='all', expected one of"),
        (0, "train", {"classes": ("bee", "cow")}, r"classes \['cow'\] are no subfolders of"),
        (0, "train", {"n_train": 6}, r"ask for 13 photos a class, 'cat' has 12"),
    ],
)
def test_planted_tile_refuses(folder, target, split, options, message):
    config = PlantedTileConfig(**({"n_classes": 3} | SIZES | options))
    with pytest.raises(ValueError, match=message):
        PlantedTile(folder, target, split, config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_deployment": 0}, "n_deployment=0, expected at least 1"),
        ({"n_classes": 1}, "n_classes=1, expected at least 2"),
        ({"classes": ("cat",)}, r"classes=\('cat',\), expected two or more different"),
        ({"classes": ("cat", "dog", "cat")}, "expected two or more different names"),
        ({"tile": 0.0}, "tile=0.0, expected a share"),
        ({"tile": 1.0}, "tile=1.0"),
        ({"size": 31}, "size=31, expected at least 32 pixels"),
    ],
)
def test_planted_tile_config_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        PlantedTileConfig(**options)
