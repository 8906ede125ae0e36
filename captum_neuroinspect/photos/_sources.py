"""The forms that people have photos in, behind one small interface."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

from captum_neuroinspect._core.class_names import LABEL_KEYS, ClassMatch, as_names, names_of
from captum_neuroinspect._core.items import as_group, as_label
from captum_neuroinspect.photos._files import Item, Label
from captum_neuroinspect.photos._folder import photos_in_folder
from captum_neuroinspect.photos._reading import (
    as_rgb,
    file_digest,
    naming,
    photo_suffixes,
    picture_digest,
    unfit,
)
from captum_neuroinspect.photos._table import photos_in_table, table_and_split

_IMAGE_KEYS = ("image", "img", "pixel_values", "images")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


_UNNAMED = ClassMatch()


class PhotoSource(Protocol):
    """Photos that are read when they are asked for."""

    @property
    def classes(self) -> ClassMatch:
        """The data's own class names."""

    @property
    def unused(self) -> frozenset[int]:
        """Labels that no photo has."""

    @property
    def group_names(self) -> tuple[str, ...] | None:
        """What the numbers of groups mean, or ``None``."""

    @property
    def where(self) -> Sequence[str]:
        """Where each of the data's classes first occurs, if that is known."""

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many files of each suffix are no photos."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said about the data."""

    @property
    def reads_files(self) -> bool:
        """Whether many threads may read."""

    def __len__(self) -> int: ...
    def item(self, index: int) -> Item: ...
    def label(self, index: int) -> Label: ...
    def name(self, index: int) -> str: ...
    def check(self, index: int) -> None:
        """Raise a ValueError when the photo cannot be read."""

    def digest(self, index: int) -> str:
        """A hash of the photo's content, the same in every set that has it."""

    def identity(self, positions: Sequence[int], digests: Sequence[str]) -> Iterator[bytes]:
        """What changes when the photos at these positions change.

        ``digests`` are theirs where ``reads_files``, else empty.
        """


class _NoFiles:
    """What is said of data that are no files."""

    unused: frozenset[int] = frozenset()
    group_names: tuple[str, ...] | None = None
    where: Sequence[str] = ()
    left_out: Mapping[str, int] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    reads_files = False


@dataclass(frozen=True, eq=False)
class DatasetSource(_NoFiles):
    """A map-style Dataset; labels are remembered once they were seen."""

    data: Any
    image_key: str | None = None
    label_key: str | None = None
    classes: ClassMatch = _UNNAMED
    key: str | None = None
    group_names: tuple[str, ...] | None = None
    _labels: dict[int, Label] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Any, key: str | None) -> DatasetSource:
        data = joined_by_name(data)
        return cls(data, None, None, names_of(data), key, _group_names(data))

    @classmethod
    def hugging_face(cls, data: Any, key: str | None) -> DatasetSource:
        """A dataset of the `datasets` library, by what it offers: nothing is imported."""
        image_key = _column(data, "Image", _IMAGE_KEYS)
        label_key = _column(data, "ClassLabel", LABEL_KEYS)
        names = getattr(data.features[label_key], "names", None)
        classes = ClassMatch() if not names else ClassMatch.own(names)
        key = key or getattr(data, "_fingerprint", None)
        source = cls(data, image_key, label_key, classes, key)
        # Whole columns are cheap there, single rows are decoded.
        for index, label in enumerate(data[label_key]):
            with naming(str(index)), unfit():
                source._labels[index] = as_label(label)
        return source

    def __len__(self) -> int:
        return len(self.data)

    def item(self, index: int) -> Item:
        with naming(self.name(index)):
            row = self._row(index)
            with unfit():
                label = as_label(row[1])
                group = as_group(row[2]) if len(row) == 3 else None
            image = as_rgb(row[0])
            # Arrays of fractions are no picture that Pillow knows.
            is_tensor = isinstance(row[0], Tensor) or image.is_floating_point()
            item = Item(image, label, group, is_tensor)
        self._labels[index] = item.label
        return item

    def label(self, index: int) -> Label:
        if index not in self._labels:
            with naming(self.name(index)):
                row = self._row(index)
                with unfit():
                    self._labels[index] = as_label(row[1])
        return self._labels[index]

    def name(self, index: int) -> str:
        return _file_name(self.data, index) or str(index)

    def check(self, index: int) -> None:
        self.item(index)

    def digest(self, index: int) -> str:
        path = _file_path(self.data, index)
        with naming(self.name(index)):
            if path is not None:  # the same as in a folder, whatever the transform draws
                return file_digest(path)
        return picture_digest(self.item(index).image)

    def identity(self, positions: Sequence[int], digests: Sequence[str]) -> Iterator[bytes]:
        if self.key is not None:
            yield f"key {self.key} {len(self)} {list(positions)}".encode()
            return
        for index in positions:
            item = self.item(index)
            yield f"{item.image.dtype}{tuple(item.image.shape)}{item.label}{item.group}".encode()
            yield item.image.contiguous().numpy().tobytes()

    def _row(self, index: int) -> Sequence[Any]:
        row = self.data[index]
        if isinstance(row, Mapping):
            keys = (self.image_key or _IMAGE_KEYS), (self.label_key or LABEL_KEYS)
            return [_value(row, key) for key in keys]
        if not isinstance(row, (tuple, list)) or len(row) not in (2, 3):
            kind = type(row).__name__
            kind += f" of {len(row)}" if isinstance(row, (tuple, list)) else ""
            raise TypeError(f"the item is a {kind}, expected (image, label) or (.., .., group)")
        return row


@dataclass(frozen=True, eq=False)
class TensorSource(_NoFiles):
    """A pair of tensors ``(images, labels)``."""

    images: Tensor
    labels: Tensor
    classes: ClassMatch = _UNNAMED

    def __post_init__(self) -> None:
        n_labels = len(self.labels) if self.labels.ndim else 0
        if self.images.ndim != 4 or len(self.images) != n_labels:
            raise ValueError(
                f"images have shape {tuple(self.images.shape)} and labels "
                f"{tuple(self.labels.shape)}, expected (N, C, H, W) and one label an image"
            )

    def __len__(self) -> int:
        return len(self.images)

    def item(self, index: int) -> Item:
        label = self.label(index)
        with naming(str(index)):
            return Item(as_rgb(self.images[index]), label, is_tensor=True)

    def label(self, index: int) -> Label:
        with naming(str(index)), unfit():
            return as_label(self.labels[index])

    def name(self, index: int) -> str:
        return str(index)

    def check(self, index: int) -> None:
        self.item(index)

    def digest(self, index: int) -> str:
        return picture_digest(self.item(index).image)

    def identity(self, positions: Sequence[int], digests: Sequence[str]) -> Iterator[bytes]:
        for tensor in (self.images, self.labels):
            yield f"{tensor.dtype}{tuple(tensor.shape[1:])}".encode()
            for position in positions:  # one at a time: no second copy of everything
                row = tensor[position].detach().cpu().contiguous()
                yield row.reshape(-1).view(torch.uint8).numpy().tobytes()


class _JoinedByName(ConcatDataset[Any]):
    """Data sets one behind the other, whose labels are numbers in one list of all their names."""

    def __init__(self, datasets: Sequence[Any], names: Sequence[Sequence[str]]) -> None:
        super().__init__(datasets)
        given = dict.fromkeys(name for of_part in names for name in of_part)
        is_sorted = all(list(of_part) == sorted(of_part) for of_part in names)
        self.classes = sorted(given) if is_sorted else list(given)
        number = {name: i for i, name in enumerate(self.classes)}
        self._matches = [
            ClassMatch(tuple(of_part), tuple(self.classes), tuple(number[n] for n in of_part))
            for of_part in names
        ]

    def __getitem__(self, index: int) -> Any:
        row: Any = super().__getitem__(index)  # type: ignore[no-untyped-call]
        match = self._matches[bisect_right(self.cumulative_sizes, index)]
        if isinstance(row, Mapping):
            keys = [key for key in LABEL_KEYS if key in row]
            return {**row, **{key: match.label(as_label(row[key])) for key in keys}}
        if not isinstance(row, (tuple, list)) or len(row) < 2:
            return row  # which is told where it is read
        image, label, *rest = row
        return (image, match.label(as_label(label)), *rest)


def joined_by_name(data: Any) -> Any:
    """A ``ConcatDataset`` whose parts have different class lists as one with all their names.

    Anything else is returned as it is.
    """
    if not isinstance(data, ConcatDataset):
        return data
    parts = [joined_by_name(part) for part in data.datasets]
    names = [names_of(part).given for part in parts]
    if None in names or len(set(names)) == 1:
        return data
    return _JoinedByName(parts, [of_part for of_part in names if of_part is not None])


def find_source(
    data: Any, class_names: Sequence[str] | None, key: str | None, *, must_exist: bool = True
) -> PhotoSource:
    """Wrap what the user has.

    Args:
        data: as :meth:`Photos.of` lists.
        class_names: of the model, if they are known.
        key: stands for a Dataset's contents.
        must_exist: whether a table's first missing file is an error now.

    Raises:
        TypeError: for something else than the forms that :meth:`Photos.of` lists.
        ValueError: when it is one of these, but not as expected.
        FileNotFoundError: when a folder or table does not exist.
    """
    if isinstance(data, (str, os.PathLike)):
        return _on_disk(Path(data).expanduser(), class_names or (), must_exist)
    if isinstance(data, DataLoader):
        data = _of_loader(data)
    if isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], Tensor):
        return TensorSource(data[0], torch.as_tensor(data[1]))
    if isinstance(data, Mapping):
        raise ValueError(f"data has the splits {', '.join(map(str, data))}: give one of them")
    if isinstance(data, IterableDataset) or not _has_items(data):
        raise TypeError(
            f"data is {type(data).__name__}, expected a folder, a Dataset with __getitem__ and "
            "__len__, a DataLoader of one, or tensors (images, labels)"
        )
    if hasattr(data, "features") and hasattr(data, "column_names"):
        return DatasetSource.hugging_face(data, key)
    return DatasetSource.of(data, key)


def _on_disk(path: Path, class_names: Sequence[str], must_exist: bool) -> PhotoSource:
    table, split = table_and_split(path)
    if table is not None and not path.is_dir():
        return photos_in_table(table, split, class_names, must_exist=must_exist)
    if path.is_file():
        kind = "one file"
        if path.suffix.lower() in _ARCHIVES:
            kind = "an archive: unpack it and give the folder"
        elif path.suffix.lower() in photo_suffixes():
            kind = "one photo"
        raise ValueError(
            f"data={str(path)!r} is {kind}; expected a folder with one subfolder of photos a "
            "class, or a table (.csv, .tsv, .parquet) of paths and labels"
        )
    return photos_in_folder(path, class_names)


def _of_loader(loader: DataLoader[Any]) -> Any:
    """Its dataset, or the part of it that its sampler draws from, as one that splits does."""
    drawn = getattr(loader.sampler, "indices", None)
    if drawn is None:
        return loader.dataset
    return Subset(loader.dataset, torch.as_tensor(drawn).tolist())


def _has_items(data: Any) -> bool:
    return hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _column(data: Any, kind: str, usual: tuple[str, ...]) -> str:
    features: Mapping[str, Any] = data.features
    for name in usual:
        if name in features:
            return name
    for name, feature in features.items():
        if type(feature).__name__ == kind:
            return name
    raise ValueError(
        f"the dataset has the columns {', '.join(features)}, expected one called {usual[0]!r}: "
        f'data.rename_column("...", {usual[0]!r})'
    )


def _value(row: Mapping[str, Any], keys: str | tuple[str, ...]) -> Any:
    keys = (keys,) if isinstance(keys, str) else keys
    for key in keys:
        if key in row:
            return row[key]
    raise TypeError(f"an item has the keys {', '.join(map(str, row))}, expected {keys[0]!r}")


def _group_names(data: Any) -> tuple[str, ...] | None:
    """The attribute of a data set or, behind a ``Subset`` or wrapper, of its ``dataset``."""
    while (names := getattr(data, "group_names", None)) is None and hasattr(data, "dataset"):
        data = data.dataset
    return None if names is None else as_names(names, "group_names")


def _file_name(data: Any, index: int) -> str | None:
    """An item's file as it lies in its torchvision folder, also behind wrappers."""
    data, index = _unwrapped(data, index)
    path = _path_of(data, index)
    return None if path is None else Path(os.path.relpath(path, data.root)).as_posix()


def _file_path(data: Any, index: int) -> str | None:
    """The file of an item of torchvision's folders, also behind wrappers."""
    return _path_of(*_unwrapped(data, index))


def _unwrapped(data: Any, index: int) -> tuple[Any, int]:
    """The data set behind ``Subset`` and ``ConcatDataset``, and the position there."""
    if isinstance(data, Subset):
        return _unwrapped(data.dataset, int(data.indices[index]))
    if isinstance(data, ConcatDataset):
        part = bisect_right(data.cumulative_sizes, index)
        before = data.cumulative_sizes[part - 1] if part else 0
        return _unwrapped(data.datasets[part], index - before)
    return data, index


def _path_of(data: Any, index: int) -> str | None:
    samples = getattr(data, "samples", None)
    if not isinstance(samples, list) or getattr(data, "root", None) is None:
        return None
    path = samples[index][0]
    return path if isinstance(path, str) else None
