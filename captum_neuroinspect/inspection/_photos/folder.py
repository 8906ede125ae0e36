"""Photos in folders: one subfolder a class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from captum_neuroinspect.inspection._photos.reading import check_file, naming, read_file

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif")
Label = int | Tensor


class Item(NamedTuple):
    """A photo ``(3, H, W)`` as stored, its label, and its group if it has one.

    ``is_tensor``: it was given as a tensor or as fractions, and not as a picture.
    """

    image: Tensor
    label: Label
    group: int | None = None
    is_tensor: bool = False


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Photos in one subfolder a class; only their names and labels are in memory."""

    root: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...] | None

    @classmethod
    def of(cls, root: Path, class_names: Sequence[str] | None) -> FolderSource:
        if not root.is_dir():
            raise FileNotFoundError(f"data={str(root)!r}: there is no such folder")
        folders = sorted(p.name for p in root.iterdir() if p.is_dir() and _is_shown(p.name))
        classes, of_folder = _classes_of_folders(folders, class_names)
        found = [(n, of_folder[f]) for f in folders for n in sorted(_photos_below(root / f, f))]
        if not found:
            raise ValueError(
                f"data={str(root)!r} has no photos in subfolders: expected one subfolder a class, "
                f"with files that end in {', '.join(SUFFIXES)}"
            )
        names, labels = zip(*found, strict=True)
        return cls(root, names, labels, classes)

    def __len__(self) -> int:
        return len(self.names)

    def item(self, index: int) -> Item:
        with naming(self.names[index]):
            return Item(read_file(str(self.root / self.names[index])), self.labels[index])

    def label(self, index: int) -> Label:
        return self.labels[index]

    def name(self, index: int) -> str:
        return self.names[index]

    def check(self, index: int) -> None:
        with naming(self.names[index]):
            check_file(str(self.root / self.names[index]))

    def identity(self) -> Iterator[bytes]:
        for name, label in zip(self.names, self.labels, strict=True):
            stat = (self.root / name).stat()
            text = f"{name}\0{label}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            yield text.encode(errors="surrogateescape")  # names need not be UTF-8


def _is_shown(name: str) -> bool:
    return not name.startswith(".")  # .ipynb_checkpoints is no class, ._1.jpg is no photo


def _photos_below(folder: Path, prefix: str) -> Iterator[str]:
    for directory, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(filter(_is_shown, folders))
        relative = Path(prefix) / Path(directory).relative_to(folder)
        for name in files:
            if _is_shown(name) and name.lower().endswith(SUFFIXES):
                yield (relative / name).as_posix()


def _classes_of_folders(
    folders: list[str], class_names: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names in the order of the logits, and which of them each folder is."""
    if class_names is None:
        return tuple(folders), {name: index for index, name in enumerate(folders)}
    names = tuple(class_names)
    if all(names.count(folder) == 1 for folder in folders):
        return names, {folder: names.index(folder) for folder in folders}
    if len(names) == len(folders):
        return names, {name: index for index, name in enumerate(folders)}
    unknown = [folder for folder in folders if names.count(folder) != 1]
    raise ValueError(
        f"the folders {', '.join(unknown[:4])} are not among the {len(names)} class_names, or more "
        f"than once: expected folders named as classes, or one folder a class ({len(names)} "
        f"instead of {len(folders)}), sorted in the order of class_names"
    )
