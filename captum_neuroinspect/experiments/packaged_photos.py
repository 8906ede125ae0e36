"""Photos that come inside wheels, and those of a folder, as tensors of one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_neuroinspect._core.optional import optional

CROPS_A_PHOTO = 45
SIZE = 224  # pixels a side


def crops_of_packaged_photos() -> Tensor:
    """Random square crops of eight photos inside scikit-image, scikit-learn and matplotlib.

    Returns:
        ``(360, 3, 224, 224)`` in 0..1, 45 of each photo; always the same.

    Raises:
        ImportError: when scikit-image or scikit-learn is not installed.
    """
    rng = torch.Generator().manual_seed(0)
    return torch.stack([crop(p, rng) for p in packaged_photos() for _ in range(CROPS_A_PHOTO)])


def crop(photo: Tensor, rng: torch.Generator) -> Tensor:
    """A random square of a photo ``(3, H, W)``, mirrored or not: ``(3, 224, 224)``."""
    height, width = photo.shape[1:]
    side = int(min(height, width) * (0.4 + 0.6 * torch.rand(1, generator=rng).item()))
    top = int(torch.randint(height - side + 1, (1,), generator=rng))
    left = int(torch.randint(width - side + 1, (1,), generator=rng))
    from torchvision.transforms.v2 import functional as vision

    small = vision.resized_crop(photo, top, left, side, side, [SIZE, SIZE], antialias=True)
    return small.flip(-1) if torch.rand(1, generator=rng) < 0.5 else small


def packaged_photos() -> list[Tensor]:
    """The eight photos, each ``(3, H, W)`` in 0..1."""
    import matplotlib

    data = optional("skimage.data")
    load_sample_images = optional("sklearn.datasets").load_sample_images

    hopper = Path(matplotlib.__file__).parent / "mpl-data/sample_data/grace_hopper.jpg"
    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    photos += [data.stereo_motorcycle()[0], *load_sample_images().images]
    photos.append(np.array(Image.open(hopper).convert("RGB")))
    return [torch.tensor(photo).permute(2, 0, 1).float() / 255 for photo in photos]


def folder_photos(folder: Path, a_class: int | None = None) -> tuple[Tensor, Tensor]:
    """Photos ``(N, 3, 224, 224)`` in 0..1 and labels of a folder with one subfolder a class.

    Args:
        folder: as for torchvision's ``ImageFolder``.
        a_class: photos of each class, the first ones; ``None``: all.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.v2 import functional as vision

    data = ImageFolder(str(folder))
    rows = [
        row.item()
        for label in range(len(data.classes))
        for row in (torch.tensor(data.targets) == label).nonzero()[:a_class]
    ]
    photos = [vision.center_crop(vision.resize(data[i][0], [256]), [SIZE, SIZE]) for i in rows]
    stacked = torch.stack([vision.to_dtype(vision.to_image(p), scale=True) for p in photos])
    return stacked, torch.tensor([data.targets[i] for i in rows])
