"""A tile on all training photos of one class: a false correlation in real photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from captum_neuroinspect.experiments._photos import folders_of_photos, load_photo, with_tile

Split = Literal["train", "validation", "deployment", "test"]

SPLITS: tuple[Split, ...] = ("train", "validation", "deployment", "test")


@dataclass(frozen=True)
class PlantedTileConfig:
    """What a :class:`PlantedTile` set is made of.

    Attributes:
        classes: names of subfolders, in class order; ``None``: those with the most
            photos, in alphabetical order.
        n_classes: how many, when ``classes`` is ``None``.
        n_train, n_validation, n_deployment, n_test: photos per class.
        tile_on_others: in ``deployment`` and ``test`` the other classes' photos come a
            second time, with the tile.
        tile: side of the tile as a share of the picture's (0..1).
        size: height and width of a picture in pixels.
        seed: draws which photo is in which split.

    Raises:
        ValueError: when a number is out of range or a class is named twice.

    Examples::

        >>> PlantedTileConfig(classes=("cat", "dog")).n_train
        100
    """

    classes: tuple[str, ...] | None = None
    n_classes: int = 5
    n_train: int = 100
    n_validation: int = 30
    n_deployment: int = 50
    n_test: int = 50
    tile_on_others: bool = False
    tile: float = 0.25
    size: int = 224
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_train", "n_validation", "n_deployment", "n_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected at least 1")
        if self.n_classes < 2:
            raise ValueError(f"n_classes={self.n_classes}, expected at least 2")
        if self.classes is not None and len(set(self.classes)) < max(len(self.classes), 2):
            raise ValueError(f"classes={self.classes}, expected two or more different names")
        if not 0 < self.tile < 1:
            raise ValueError(f"tile={self.tile}, expected a share of the side in 0..1")
        if self.size < 32:
            raise ValueError(f"size={self.size}, expected at least 32 pixels")

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Photos per class in the four splits."""
        return self.n_train, self.n_validation, self.n_deployment, self.n_test


class PlantedTile(Dataset[tuple[Any, ...]]):
    """Real photos in which a black and white tile gives one class away, in training only.

    In ``train`` and ``validation`` all of the target's photos carry the tile and no
    other does: a head trained on them looks for the tile. In ``deployment`` (labelled
    photos of its use, where mistakes are noticed) and ``test`` none of the target's does.
    This is the protocol of the paper's first experiment (section IV-B: all training photos
    of one of five classes share an attribute, 100 a class). No photo is in two splits.

    Args:
        folder: one subfolder of photos a class, as for torchvision's ``ImageFolder``.
        target: name or index of the class whose training photos carry the tile.
        split: ``"train"``, ``"validation"``, ``"deployment"`` or ``"test"``.
        config: classes, sizes and seed.
        with_groups: items are ``(image, label, group)``, as ``collect_features`` takes
            them, instead of ``(image, label)``.

    Attributes:
        paths: file of each picture.
        labels: ``(N,)`` class indices.
        has_tile: ``(N,)`` whether the tile is on the picture.
        groups: ``(N,)`` group labels, ``2 * label + has_tile``.
        classes: names of the classes.
        target: index of the class with the tile.

    Raises:
        FileNotFoundError: when ``folder`` does not exist or has too few classes; says
            what to give.
        ValueError: for an unknown split, class or target, or a class with too few photos.

    Examples::

        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         Path(folder, name).mkdir()
        ...         for i in range(4):
        ...             Image.new("RGB", (40, 32)).save(f"{folder}/{name}/{i}.png")
        ...     config = PlantedTileConfig(None, 2, 1, 1, 1, 1, size=32)
        ...     data = PlantedTile(folder, "dog", "train", config)
        ...     data[1][0].shape, data.has_tile.tolist()
        (torch.Size([3, 32, 32]), [False, True])
    """

    def __init__(
        self,
        folder: str | Path,
        target: str | int,
        split: Split,
        config: PlantedTileConfig | None = None,
        *,
        with_groups: bool = False,
    ) -> None:
        self.config = config or PlantedTileConfig()
        if split not in SPLITS:
            raise ValueError(f"split={split!r}, expected one of {SPLITS}")
        photos = class_photos(folder, self.config)
        self.split = split
        self.with_groups = with_groups
        self.classes = list(photos)
        self.target = _target_index(target, self.classes)
        rows = _rows(photos, split, self.target, self.config)
        self.paths = tuple(path for path, _, _ in rows)
        self.labels = torch.tensor([label for _, label, _ in rows])
        self.has_tile = torch.tensor([has_tile for _, _, has_tile in rows])
        self.groups = 2 * self.labels + self.has_tile.long()

    @property
    def group_names(self) -> list[str]:
        """One name per group label, such as ``"dog with tile"``."""
        return [f"{c} {tile} tile" for c in self.classes for tile in ("without", "with")]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """The picture, float in 0..1 and ``(3, size, size)``, its class index, and its group.

        The group is there only ``with_groups``.
        """
        image = load_photo(self.paths[index], self.config.size)
        if self.has_tile[index]:
            image = with_tile(image, self.config.tile)
        item = image, int(self.labels[index])
        return (*item, int(self.groups[index])) if self.with_groups else item


def class_photos(folder: str | Path, config: PlantedTileConfig) -> dict[str, list[Path]]:
    """Files of each class, sorted, in class order.

    Raises:
        FileNotFoundError: when ``folder`` does not exist or has too few classes.
        ValueError: for an unknown class, or a class with too few photos.
    """
    folder = Path(folder)
    found = folders_of_photos(folder) if folder.is_dir() else {}
    if len(found) < 2:
        what = "has fewer than two subfolders of photos" if folder.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"folder={str(folder)!r} {what}: give a folder with one subfolder of photos a class, "
            f"such as photos/cat/1.jpg and photos/dog/1.jpg, {sum(config.sizes)} photos a class"
        )
    unknown = sorted(set(config.classes or ()) - found.keys())
    if unknown:
        raise ValueError(f"classes {unknown} are no subfolders of {folder}: {sorted(found)} are")
    largest = sorted(found, key=lambda name: (-len(found[name]), name))[: config.n_classes]
    chosen = {name: found[name] for name in config.classes or sorted(largest)}
    for name, paths in chosen.items():
        if len(paths) < sum(config.sizes):
            raise ValueError(
                f"the splits ask for {sum(config.sizes)} photos a class, {name!r} has {len(paths)}"
            )
    return chosen


def _target_index(target: str | int, classes: list[str]) -> int:
    if isinstance(target, str) and target in classes:
        return classes.index(target)
    if not isinstance(target, str) and target in range(len(classes)):
        return int(target)
    raise ValueError(f"target={target!r}, expected one of {classes} or 0..{len(classes) - 1}")


def _rows(
    photos: dict[str, list[Path]], split: Split, target: int, config: PlantedTileConfig
) -> list[tuple[Path, int, bool]]:
    """File, label and whether it carries the tile, of each picture."""
    number = SPLITS.index(split)
    start, stop = sum(config.sizes[:number]), sum(config.sizes[: number + 1])
    is_in_use = split in ("deployment", "test")
    rows = []
    for label, paths in enumerate(photos.values()):
        # Drawn without the split and the target: only so is no photo in two splits.
        order = np.random.default_rng([config.seed, label]).permutation(len(paths))
        tiles = [label == target] if not is_in_use else [False]
        if is_in_use and config.tile_on_others and label != target:
            tiles.append(True)
        rows += [(paths[i], label, tile) for i in order[start:stop] for tile in tiles]
    return rows
