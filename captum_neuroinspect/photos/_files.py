"""Photos in files: only their names and labels are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from captum_neuroinspect._core.class_names import ClassMatch
from captum_neuroinspect.photos._reading import (
    check_file,
    file_digest,
    naming,
    read_file,
)

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
class PhotoFiles:
    """Photos in files.

    Attributes:
        root: folder that the names are relative to.
        names: of the files.
        labels: a number a file.
        classes: what the labels mean.
        unused: numbers of the classes that have no photo.
        where: of each class in a table, the first row that has it.
        groups: a number a file, or ``None``.
        group_names: what these numbers mean, or ``None``.
        left_out: how many files of each suffix are no photos.
        notes: what is to be said.
    """

    root: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]
    classes: ClassMatch
    unused: frozenset[int] = frozenset()
    where: tuple[str, ...] = ()
    groups: tuple[int, ...] | None = None
    group_names: tuple[str, ...] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reads_files = True

    def __len__(self) -> int:
        return len(self.names)

    def item(self, index: int) -> Item:
        with naming(self.names[index]):
            image = read_file(str(self.root / self.names[index]))
        group = None if self.groups is None else self.groups[index]
        return Item(image, self.labels[index], group)

    def label(self, index: int) -> Label:
        return self.labels[index]

    def name(self, index: int) -> str:
        return self.names[index]

    def check(self, index: int) -> None:
        with naming(self.names[index]):
            check_file(str(self.root / self.names[index]))

    def digest(self, index: int) -> str:
        with naming(self.names[index]):
            return file_digest(str(self.root / self.names[index]))

    def identity(self, positions: Sequence[int], digests: Sequence[str]) -> Iterator[bytes]:
        # Sizes and times stay when photos are unpacked over others: only contents count.
        for position, digest in zip(positions, digests, strict=True):
            group = None if self.groups is None else self.groups[position]
            text = f"{self.names[position]}\0{self.labels[position]}\0{group}\0{digest}\n"
            yield text.encode(errors="surrogateescape")  # names need not be UTF-8
