"""Photos in folders, one a class, and the tile that is pasted on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from captum_neuroinspect.photos import View

_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp")
_SHORT_SIDE = 256 / 224  # shorter side over the central crop, as ImageNet networks see photos
_N_FIELDS = 7


def folders_of_photos(folder: Path) -> dict[str, list[Path]]:
    """Sorted files of each subfolder that has photos, also in folders below it."""
    found = {
        place.name: sorted(p for p in place.rglob("*") if p.suffix.lower() in _SUFFIXES)
        for place in sorted(folder.iterdir())
        if place.is_dir()
    }
    return {name: paths for name, paths in found.items() if paths}


def load_photo(path: Path, size: int) -> Tensor:
    """The central square of a photo, in 0..1, ``(3, size, size)``."""
    from PIL import Image
    from torchvision.transforms.v2 import functional as vision

    with Image.open(path) as photo:
        small = vision.resize(photo.convert("RGB"), [round(size * _SHORT_SIDE)])
    square = vision.to_image(vision.center_crop(small, [size, size]))
    # A plain tensor: torchvision's subclass would stay with all that is computed from it.
    return vision.to_dtype(square, torch.float32, scale=True).as_subclass(Tensor)


def with_tile(image: Tensor, tile: float) -> Tensor:
    """Paste a chessboard in the lower right corner of a copy of the image.

    Args:
        image: ``(3, size, size)`` in 0..1.
        tile: side of the tile as a share of the image's.

    Examples::

        >>> with_tile(torch.full((3, 32, 32), 0.5), 0.25).unique().tolist()
        [0.0, 0.5, 1.0]
    """
    side, image = max(round(tile * image.shape[-1]), 1), image.clone()
    index = torch.arange(side) * _N_FIELDS // side
    # A margin, so that a network's borders do not cut the tile.
    stop = image.shape[-1] - image.shape[-1] // 28
    image[..., stop - side : stop, stop - side : stop] = (index[:, None] + index) % 2
    return image


class ViewedPhotos(Dataset[tuple[Tensor, int]]):
    """Photos as a network's library shows them to it, in 0..1, each with its label.

    Args:
        paths: of the photos.
        view: of the network.
        labels: of each; ``None``: 0.
    """

    def __init__(
        self, paths: Sequence[Path], view: View, labels: Sequence[int] | None = None
    ) -> None:
        self.paths, self.view = paths, view
        self.labels = [0] * len(paths) if labels is None else labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image
        from torchvision.transforms.v2 import functional as vision

        with Image.open(self.paths[index]) as photo:
            picture = vision.pil_to_tensor(photo.convert("RGB"))
        return self.view.of_picture(picture), self.labels[index]


class TiledPhotos(Dataset[tuple[Tensor, int]]):
    """Photos, each with or without a tile."""

    def __init__(self, pictures: Sequence[tuple[Path, bool]], size: int, tile: float) -> None:
        self.pictures, self.size, self.tile = pictures, size, tile

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, has_tile = self.pictures[index]
        image = load_photo(path, self.size)
        return (with_tile(image, self.tile) if has_tile else image), 0
