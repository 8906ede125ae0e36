"""The photos of the demo: digits on textures, or a folder of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_neuroinspect.experiments.digits_on_textures import (
    DigitsOnTextures,
    DigitsOnTexturesConfig,
    Split,
)

SIZE = 224
SPLITS: tuple[Split, ...] = ("train", "validation", "deployment", "test")
_FOLDERS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class DemoData:
    """Four sets of photos with labels, and what is known about them.

    Attributes:
        name: how the report calls the data.
        sets: ``"train"``, ``"validation"``, ``"deployment"`` (where mistakes are noticed)
            and ``"test"`` (judges, used for nothing else); items are an image in 0..1,
            ``(3, 224, 224)``, and a label. ``deployment`` may be ``validation`` itself.
        class_names: one name a class.
        target: the class to mend, or ``None``: the worst validation class.
        groups: ``(N,)`` group labels of each set, or empty.
        group_names: one name a group, or ``None``.
        units: ``(N,)`` for ``deployment``: pictures of one unit are never torn apart.
    """

    name: str
    sets: dict[str, Dataset[Any]]
    class_names: tuple[str, ...]
    target: int | None
    groups: dict[str, Tensor]
    group_names: tuple[str, ...] | None
    units: Tensor | None

    @property
    def field_is_validation(self) -> bool:
        return self.sets["deployment"] is self.sets["validation"]

    def image(self, split: str, index: int) -> Tensor:
        """One picture in 0..1, ``(3, 224, 224)``."""
        return self.sets[split][index][0]


def digits_data(seed: int) -> DemoData:
    """Digits on textures (:class:`DigitsOnTextures`), with their texture as the group."""
    config = DigitsOnTexturesConfig(seed=seed)
    sets = {name: DigitsOnTextures(name, config) for name in SPLITS}
    field = sets["deployment"]
    return DemoData(
        name="handwritten digits on photos of textures",
        sets={name: data for name, data in sets.items()},
        class_names=tuple(field.classes),
        target=field.target,
        groups={name: data.groups for name, data in sets.items()},
        group_names=tuple(field.group_names),
        # Each handwritten digit is drawn once on each texture, one after the other.
        units=torch.arange(len(field)) // 3,
    )


def folder_data(folder: str | Path) -> DemoData:
    """A folder with ``train/``, ``validation/`` and ``test/``, one subfolder a class.

    Raises:
        ValueError: when the folder is not like that.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    folder = Path(folder)
    _check_folder(folder)
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(256, antialias=True),
            v2.CenterCrop(SIZE),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    sets = {name: ImageFolder(str(folder / name), transform) for name in _FOLDERS}
    classes = sets["train"].classes
    for name, data in sets.items():
        if data.classes != classes:
            raise ValueError(f"{name}/ has classes {data.classes}, train/ has {classes}")
    return DemoData(
        name=f"photos in {folder.name or folder}",
        sets={**sets, "deployment": sets["validation"]},
        class_names=tuple(classes),
        target=None,
        groups={},
        group_names=None,
        units=None,
    )


def _check_folder(folder: Path) -> None:
    missing = [name for name in _FOLDERS if not (folder / name).is_dir()]
    if missing:
        raise ValueError(
            f"data={str(folder)!r} has no {', '.join(m + '/' for m in missing)}: expected a folder "
            "with train/, validation/ and test/, each with one subfolder of photos a class"
        )
