"""The forms that people have photos in, behind one small interface."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from captum_neuroinspect.inspection._photos.folder import FolderSource, Item, Label
from captum_neuroinspect.inspection._photos.reading import as_rgb, naming

_IMAGE_KEYS = ("image", "img", "pixel_values", "images")
_LABEL_KEYS = ("label", "labels", "fine_label")


class PhotoSource(Protocol):
    """Photos that are read when they are asked for."""

    @property
    def class_names(self) -> tuple[str, ...] | None: ...
    def __len__(self) -> int: ...
    def item(self, index: int) -> Item: ...
    def label(self, index: int) -> Label: ...
    def name(self, index: int) -> str: ...
    def check(self, index: int) -> None:
        """Raise a ValueError when the photo cannot be read."""

    def identity(self) -> Iterator[bytes]:
        """What changes when the photos change."""


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """A map-style Dataset; labels are remembered once they were seen."""

    data: Any
    image_key: str | None = None
    label_key: str | None = None
    class_names: tuple[str, ...] | None = None
    key: str | None = None
    _labels: dict[int, Label] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Any, key: str | None) -> DatasetSource:
        names = getattr(data, "classes", None)
        return cls(data, None, None, tuple(map(str, names)) if names else None, key)

    @classmethod
    def hugging_face(cls, data: Any, key: str | None) -> DatasetSource:
        """A dataset of the `datasets` library, by what it offers: nothing is imported."""
        image_key = _column(data, "Image", _IMAGE_KEYS)
        label_key = _column(data, "ClassLabel", _LABEL_KEYS)
        names = getattr(data.features[label_key], "names", None)
        source = cls(
            *(data, image_key, label_key, tuple(names) if names else None),
            key or getattr(data, "_fingerprint", None),
        )
        # Whole columns are cheap there, single rows are decoded.
        source._labels.update(enumerate(_as_label(n) for n in data[label_key]))
        return source

    def __len__(self) -> int:
        return len(self.data)

    def item(self, index: int) -> Item:
        with naming(self.name(index)):
            row = self._row(index)
            group = int(row[2]) if len(row) == 3 else None
            image = as_rgb(row[0])
            # Arrays of fractions are no picture that Pillow knows.
            is_tensor = isinstance(row[0], Tensor) or image.is_floating_point()
            item = Item(image, _as_label(row[1]), group, is_tensor)
        self._labels[index] = item.label
        return item

    def label(self, index: int) -> Label:
        if index not in self._labels:
            with naming(self.name(index)):
                self._labels[index] = _as_label(self._row(index)[1])
        return self._labels[index]

    def name(self, index: int) -> str:
        return _file_name(self.data, index) or str(index)

    def check(self, index: int) -> None:
        self.item(index)

    def identity(self) -> Iterator[bytes]:
        if self.key is not None:
            yield f"key {self.key} {len(self)}".encode()
            return
        for index in range(len(self)):
            item = self.item(index)
            yield f"{item.image.dtype}{tuple(item.image.shape)}{item.label}{item.group}".encode()
            yield item.image.contiguous().numpy().tobytes()

    def _row(self, index: int) -> Sequence[Any]:
        row = self.data[index]
        if isinstance(row, Mapping):
            keys = (self.image_key or _IMAGE_KEYS), (self.label_key or _LABEL_KEYS)
            return [_value(row, key) for key in keys]
        if not isinstance(row, (tuple, list)) or len(row) not in (2, 3):
            raise TypeError(f"an item is {type(row).__name__}, expected (image, label)")
        return row


@dataclass(frozen=True, eq=False)
class TensorSource:
    """A pair of tensors ``(images, labels)``."""

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...] | None = None

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
        with naming(str(index)):
            return Item(as_rgb(self.images[index]), self.label(index), is_tensor=True)

    def label(self, index: int) -> Label:
        return _as_label(self.labels[index])

    def name(self, index: int) -> str:
        return str(index)

    def check(self, index: int) -> None:
        self.item(index)

    def identity(self) -> Iterator[bytes]:
        for tensor in (self.images, self.labels):
            yield f"{tensor.dtype}{tuple(tensor.shape)}".encode()
            for row in tensor.detach().cpu():  # one at a time: no second copy of everything
                yield row.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def find_source(data: Any, class_names: Sequence[str] | None, key: str | None) -> PhotoSource:
    """Wrap what the user has.

    Raises:
        TypeError: for something else than the forms that :meth:`Photos.of` lists.
        ValueError: when it is one of these, but not as expected.
        FileNotFoundError: when a folder does not exist.
    """
    if isinstance(data, (str, os.PathLike)):
        return FolderSource.of(Path(data).expanduser(), class_names)
    if isinstance(data, DataLoader):
        data = data.dataset
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


def _as_label(value: Any) -> Label:
    tensor = torch.as_tensor(value)
    if tensor.ndim == 1:
        return tensor
    if tensor.ndim or tensor.is_floating_point() or tensor.is_complex():
        raise TypeError(f"a label is {value!r}, expected a class index or a multi-hot row")
    if tensor < 0:
        raise ValueError(f"a label is {int(tensor)}, expected 0 or more")
    return int(tensor)


def _file_name(data: Any, index: int) -> str | None:
    """The file of an item of torchvision's folders, also behind ``Subset``."""
    if isinstance(data, Subset):
        return _file_name(data.dataset, int(data.indices[index]))
    samples, root = getattr(data, "samples", None), getattr(data, "root", None)
    if not isinstance(samples, list) or root is None:
        return None
    path = samples[index][0]
    return Path(os.path.relpath(path, root)).as_posix() if isinstance(path, str) else None
