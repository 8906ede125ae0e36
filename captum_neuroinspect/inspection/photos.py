"""One view of a user's labelled photos, whatever form they have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captum_neuroinspect._modules import as_indices, check_indices
from captum_neuroinspect.inspection._photos.folder import FolderSource, Item, Label
from captum_neuroinspect.inspection._photos.sources import PhotoSource, find_source
from captum_neuroinspect.inspection._photos.view import ImageSize, Interpolation, View

__all__ = ["PhotoDataset", "Photos"]

OnError = Literal["raise", "skip"]
_N_THREADS = 4


class Photos:
    """Labelled photos: names and labels are in memory, pictures are read when asked for.

    Made by :meth:`of`.

    Attributes:
        class_names: in the order of the labels, or ``None``.
        skipped: name and reason of each photo that could not be read, with
            ``on_error="skip"``.

    Examples::

        >>> photos = Photos.of((torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 1])), image_size=4)
        >>> len(photos), photos.label(1), photos.name(1), photos.image(1).shape
        (3, 1, '1', torch.Size([3, 4, 4]))
    """

    def __init__(
        self,
        source: PhotoSource,
        positions: Sequence[int],
        view: View,
        class_names: tuple[str, ...] | None,
        skipped: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._source, self._positions, self._view = source, positions, view
        self.class_names, self.skipped = class_names, skipped

    @classmethod
    def of(
        cls,
        data: str | PathLike[str] | Dataset[Any] | DataLoader[Any] | tuple[Tensor, Tensor] | Any,
        *,
        image_size: ImageSize = 224,
        resize_size: int | str | None = None,
        interpolation: Interpolation = "bilinear",
        view: View | None = None,
        class_names: Iterable[str] | None = None,
        on_error: OnError = "raise",
        key: str | None = None,
    ) -> Photos:
        """Wrap what the user has.

        Args:
            data: one of

                - a folder with one subfolder of photos a class, at any depth below it;
                - a ``Dataset`` of ``(image, label)``, ``(image, label, group)`` or
                  mappings; images are Pillow's, arrays ``(H, W, C)``, or tensors in
                  0..1 (or uint8), before normalisation;
                - a ``DataLoader``: its dataset, in the dataset's order; neither its
                  sampler nor its ``collate_fn`` is used;
                - a Hugging Face dataset (one split);
                - tensors ``(images (N, C, H, W), labels (N,))``.
            image_size: a side, or height and width, at which photos are looked at.
                Tensors that have this size are left as they are.
            resize_size: the shorter side before the centre is cropped; ``None``:
                ``image_size``, so that no border is lost along it. Or a text:
                ``"squash"``, or as :func:`load_model` reads ``resize``.
            interpolation: of that resize; tensors are antialiased.
            view: instead of these three, such as :attr:`LoadedModel.view`, which shows
                photos to a library's model as the library does.
            class_names: in the order of the logits. A folder's subfolders are found
                among them by name, so that some may have no photos; when the names
                differ, the sorted subfolders are taken in this order.
            on_error: what happens to photos that cannot be read: an error that names
                the first when it is read, or ``"skip"``: all are read once now, and
                those that cannot be are left out and listed in ``skipped``.
            key: stands for the contents of a ``Dataset`` in :meth:`fingerprint`.

        Raises:
            TypeError: for another kind of data or item.
            ValueError: for no photos, an unknown ``on_error``, sizes below 1, or
                class names that do not fit.
            FileNotFoundError: when a folder does not exist.
        """
        view = view or View.of(image_size, resize_size, interpolation)
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error={on_error!r}, expected 'raise' or 'skip'")
        names = None if class_names is None else tuple(map(str, class_names))
        source = find_source(data, names, key)
        if not len(source):
            raise ValueError("data is empty: expected at least one photo")
        positions: Sequence[int] = range(len(source))
        skipped: tuple[tuple[str, str], ...] = ()
        if on_error == "skip":
            positions, skipped = _readable(source)
        return cls(source, positions, view, names or source.class_names, skipped)

    def __len__(self) -> int:
        return len(self._positions)

    def __repr__(self) -> str:
        n_classes = "" if self.class_names is None else f", {len(self.class_names)} classes"
        return f"Photos({len(self)} photos{n_classes}, {self._view.said})"

    @property
    def image_size(self) -> ImageSize:
        """The side of the images in pixels, or their height and width."""
        return self._view.image_size

    @property
    def view(self) -> View:
        """How a photo is brought to that size."""
        return self._view

    def tensor_size(self) -> tuple[int, int] | None:
        """Height and width of the first photo as given, when it is a tensor."""
        if isinstance(self._source, FolderSource):
            return None
        item = self._source.item(self._positions[0])
        height, width = item.image.shape[-2:]
        return (height, width) if item.is_tensor else None

    @property
    def labels(self) -> Tensor:
        """``(N,)`` int64, or ``(N, C)`` multi-hot; a ``Dataset`` is read for them once."""
        return torch.stack([torch.as_tensor(self.label(i)) for i in range(len(self))])

    def label(self, index: int) -> Label:
        """A class index, or a row of zeros and ones."""
        return self._checked(self._source.label(self._position(index)), index)

    def name(self, index: int) -> str:
        """The file's name relative to the folder, or its number."""
        return self._source.name(self._position(index))

    def image(self, index: int) -> Tensor:
        """``(3, image_size, image_size)`` float in 0..1.

        Raises:
            IndexError: when there is no such photo.
            ValueError: when it cannot be read; names it.
        """
        return self.item(index).image

    def images(self, indices: Iterable[int] | Tensor) -> Tensor:
        """Several photos, ``(N, 3, image_size, image_size)``."""
        wanted = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        images = [self.image(i) for i in wanted]
        return torch.stack(images) if images else torch.empty(0, 3, *self._view.size)

    def item(self, index: int) -> Item:
        """The photo as :meth:`image` gives it, its label, and its group or ``None``."""
        item = self._source.item(self._position(index))
        of_kind = self._view.of_tensor if item.is_tensor else self._view.of_picture
        return item._replace(image=of_kind(item.image), label=self._checked(item.label, index))

    def subset(self, indices: Iterable[int] | Tensor) -> Photos:
        """Some of the photos, in the order given.

        Raises:
            ValueError: for an index that is out of range.
        """
        given = indices if isinstance(indices, Tensor) else list(indices)
        wanted = as_indices("indices", given)
        check_indices("index", wanted, len(self), f"{len(self)} photos")
        positions = [self._positions[i] for i in wanted.tolist()]
        return Photos(self._source, positions, self._view, self.class_names, self.skipped)

    def dataset(self, preprocess: Callable[[Tensor], Tensor] | None = None) -> PhotoDataset:
        """For ``collect_features``: images are read one by one.

        Args:
            preprocess: from images ``(N, 3, H, W)`` in 0..1 to the model's input.
        """
        return PhotoDataset(self, preprocess)

    def fingerprint(self) -> str:
        """A short name of the photos as they are looked at, for caches.

        For a folder from names, sizes and times of the files, which takes moments; for
        tensors from their bytes; for a ``Dataset`` from ``key``, a Hugging Face
        dataset's own fingerprint, or else its contents, which reads every item.
        """
        view = repr((self._view, self.class_names))
        digest = hashlib.sha256(view.encode(errors="surrogateescape"))
        for part in self._source.identity():
            digest.update(part)
        digest.update(",".join(map(str, self._positions)).encode())
        return digest.hexdigest()[:16]

    def _position(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index={index} is out of range: there are {len(self)} photos")
        return self._positions[index]

    def _checked(self, label: Label, index: int) -> Label:
        if isinstance(label, int) and self.class_names and label >= len(self.class_names):
            raise ValueError(
                f"photo {self.name(index)} has label {label}, but there are only "
                f"{len(self.class_names)} class_names"
            )
        return label


class PhotoDataset(Dataset[Any]):
    """What ``collect_features`` runs over: ``(image, label)``, or with a group as well.

    Attributes:
        classes: the class names, or ``None``.
    """

    def __init__(
        self, photos: Photos, preprocess: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.photos, self.classes = photos, photos.class_names
        self._preprocess = preprocess

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, Label] | tuple[Tensor, Label, int]:
        image, label, group, _ = self.photos.item(index)
        if self._preprocess is not None:
            with torch.no_grad():
                image = self._preprocess(image.unsqueeze(0)).squeeze(0)
        return (image, label) if group is None else (image, label, group)


def _readable(source: PhotoSource) -> tuple[list[int], tuple[tuple[str, str], ...]]:
    """Positions of the photos that can be read, and the names of the others with reasons."""
    # Pillow reads files without Python's lock; a user's Dataset may not bear threads.
    n_threads = _N_THREADS if isinstance(source, FolderSource) else 1
    with ThreadPoolExecutor(n_threads) as pool:
        reasons = list(pool.map(lambda index: _reason(source, index), range(len(source))))
    good = [index for index, reason in enumerate(reasons) if reason is None]
    bad = [(source.name(i), reason) for i, reason in enumerate(reasons) if reason is not None]
    if not good:
        raise ValueError(f"none of the {len(source)} photos can be read; the first: {bad[0][1]}")
    return good, tuple(bad)


def _reason(source: PhotoSource, index: int) -> str | None:
    try:
        source.check(index)
    except ValueError as error:
        return str(error.__cause__ or error)
    return None
