"""One view of a user's labelled photos, whatever form they have."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captum_neuroinspect._core.class_names import ClassMatch, as_names, shortened
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect.photos._files import Item, Label
from captum_neuroinspect.photos._reading import UnfitError
from captum_neuroinspect.photos._sources import PhotoSource, find_source
from captum_neuroinspect.photos.view import ImageSize, Interpolation, View

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
        left_out: how many files of each suffix in the folders are no photos.
        match: which of the data's own class names each of ``class_names`` is.
        group_names: in the order of the groups' numbers, or ``None``.

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
        match: ClassMatch,
        skipped: tuple[tuple[str, str], ...] = (),
        group_names: tuple[str, ...] | None = None,
    ) -> None:
        self._source, self._positions, self._view = source, positions, view
        self.match, self.skipped = match, skipped
        own = source.group_names
        self.group_names = own if group_names is None else group_names
        self._to_group = tuple(map((self.group_names or ()).index, own or ()))
        self._digests: dict[int, str] = {}  # by position in the source

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
        by_position: bool = False,
        what: str = "data",
    ) -> Photos:
        """Wrap what the user has.

        Args:
            data: one of

                - a folder with one subfolder of photos a class, at any depth below it:
                  what Pillow reads, each photo once;
                - a table (``.csv``, ``.tsv``, ``.parquet``) with a column ``path``,
                  ``file`` or ``filename`` (relative to the table's folder), one called
                  ``label``, ``class`` or ``target`` (names, or numbers from 0), and
                  perhaps ``group`` (names or numbers) and ``split``, of which
                  ``"labels.csv:val"`` takes one;
                - a ``Dataset`` of ``(image, label)``, ``(image, label, group)`` (its
                  ``group_names``, if it has them, are the groups' names) or
                  mappings; images are Pillow's, arrays ``(H, W, C)``, or tensors in
                  0..1 (or uint8), before normalisation;
                - a ``DataLoader``: its dataset, in the dataset's order, or the part that a
                  sampler with ``indices`` (``SubsetRandomSampler``) draws from; its
                  ``collate_fn`` is not used;
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
            class_names: in the order of the logits. The data's own names (of
                subfolders, ``classes`` of a ``Dataset``, a ``ClassLabel``, in a table)
                are found among them, also in another case, with other separators (space,
                ``_``, ``-``) or Unicode form; some classes may have no photos. Labels
                count in this order. Data without names have its numbers.
            on_error: what happens to photos that cannot be read: an error that names
                the first when it is read, or ``"skip"``: all are read once now, and
                those that cannot be are left out and listed in ``skipped``.
            key: stands for the contents of a ``Dataset`` in :meth:`fingerprint`.
            by_position: take the data's classes in their order (folders: sorted) as
                those of ``class_names``, whatever they are called.
            what: the data are called in errors about class names.

        Raises:
            TypeError: for another kind of data or item.
            ValueError: for no photos, an unknown ``on_error``, sizes below 1, or
                class names that do not fit, which lists both; for a folder of splits.
            FileNotFoundError: when a folder or table does not exist.
            OSError: when a folder cannot be listed.
            ImportError: when a Parquet file cannot be read.

        Warns:
            UserWarning: when files are left out or counted once, or class folders empty.
        """
        view = view or View.of(image_size, resize_size, interpolation)
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error={on_error!r}, expected 'raise' or 'skip'")
        names = None if class_names is None else as_names(class_names)
        must_exist = on_error == "raise"
        source = find_source(data, names, key, must_exist=must_exist)
        if not len(source):
            raise ValueError("data is empty: expected at least one photo")
        for note in source.notes:
            warnings.warn(note, stacklevel=2)
        match = source.classes.onto(
            names, what, by_position=by_position, unused=source.unused, where=source.where
        )
        positions: Sequence[int] = range(len(source))
        skipped: tuple[tuple[str, str], ...] = ()
        if on_error == "skip":
            positions, skipped = _readable(source)
        return cls(source, positions, view, match, skipped)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.match.names

    @property
    def left_out(self) -> dict[str, int]:
        return dict(self._source.left_out)

    def with_classes(
        self, class_names: Iterable[str], *, by_position: bool = False, what: str = "data"
    ) -> Photos:
        """The same photos with labels in the order of these names, as :meth:`of` finds them.

        Args:
            class_names: in the order of the logits.
            by_position: as in :meth:`of`.
            what: these photos are called in errors.

        Raises:
            ValueError: when the photos' own names do not fit.

        Examples::

            >>> images = torch.zeros(2, 3, 4, 4)
            >>> own = Photos.of((images, torch.tensor([0, 1])), class_names=["ant", "bee"])
            >>> own.with_classes(["Bee", "Cat", "Ant"]).labels.tolist()
            [2, 0]
        """
        match = self.match.onto(
            as_names(class_names),
            what,
            by_position=by_position,
            unused=self._source.unused,
            where=self._source.where,
        )
        return self._copy(self._positions, match)

    def with_groups(self, group_names: Iterable[str]) -> Photos:
        """The same photos with the numbers of their groups in the order of these names.

        Args:
            group_names: those of the photos, and perhaps others.

        Raises:
            ValueError: when a group of the photos is not among them, or has no name.
        """
        names = as_names(group_names, "group_names")
        missing = sorted(set(self._source.group_names or ()) - set(names))
        if missing or self._source.group_names is None:
            what = f"the photos' group {missing[0]!r}" if missing else "the photos' groups, numbers"
            raise ValueError(f"group_names are {shortened(names)}, without {what}")
        return self._copy(self._positions, self.match, names)

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
        if self._source.reads_files:
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
        return item._replace(
            image=of_kind(item.image),
            label=self._checked(item.label, index),
            group=self._group(item.group, index),
        )

    def digest(self, index: int) -> str:
        """A hash of the photo's content, to find the same photo in two sets.

        It is that of the file's bytes, also for the files of a torchvision folder; for
        other datasets and for tensors of the picture's type, shape and values.

        Raises:
            IndexError: when there is no such photo.
            ValueError: when it cannot be read; names it.
        """
        return self._digest_at(self._position(index))

    def digests(self) -> tuple[str, ...]:
        """:meth:`digest` of all photos, remembered.

        Examples::

            >>> same = torch.zeros(2, 3, 4, 4)
            >>> len(set(Photos.of((same, torch.tensor([0, 1])), image_size=4).digests()))
            1
        """
        missing = [position for position in self._positions if position not in self._digests]
        # A few long tasks: handing over 10,000 short ones takes as long as they do.
        shares = [missing[i::_N_THREADS] for i in range(_N_THREADS)]
        with _threads(self._source) as pool:
            list(pool.map(lambda share: [self._digest_at(one) for one in share], shares))
        return tuple(self._digests[position] for position in self._positions)

    def subset(self, indices: Iterable[int] | Tensor) -> Photos:
        """Some of the photos, in the order given.

        Raises:
            ValueError: for an index that is out of range.
        """
        given = indices if isinstance(indices, Tensor) else list(indices)
        wanted = as_indices("indices", given)
        check_indices("index", wanted, len(self), f"{len(self)} photos")
        positions = [self._positions[i] for i in wanted.tolist()]
        return self._copy(positions, self.match)

    def dataset(self, preprocess: Callable[[Tensor], Tensor] | None = None) -> PhotoDataset:
        """For ``collect_features``: images are read one by one.

        Args:
            preprocess: from images ``(N, 3, H, W)`` in 0..1 to the model's input.
        """
        return PhotoDataset(self, preprocess)

    def fingerprint(self) -> str:
        """A short name of the photos as they are looked at, for caches.

        For files from their names and contents (all are read: about as long as a copy
        takes); for tensors from their bytes; for a ``Dataset`` from ``key``, a Hugging
        Face dataset's own fingerprint, or else its contents, which reads every item.
        """
        view = repr((self._view, self.class_names, self.match.to_class, self._to_group))
        digest = hashlib.sha256(view.encode(errors="surrogateescape"))
        digests = self.digests() if self._source.reads_files else ()
        for part in self._source.identity(self._positions, digests):
            digest.update(part)
        return digest.hexdigest()[:16]

    def _copy(
        self,
        positions: Sequence[int],
        match: ClassMatch,
        group_names: tuple[str, ...] | None = None,
    ) -> Photos:
        names = group_names or self.group_names
        copy = Photos(self._source, positions, self._view, match, self.skipped, names)
        copy._digests = self._digests
        return copy

    def _digest_at(self, position: int) -> str:
        if position not in self._digests:
            self._digests[position] = self._source.digest(position)
        return self._digests[position]

    def _position(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index={index} is out of range: there are {len(self)} photos")
        return self._positions[index]

    def _group(self, group: int | None, index: int) -> int | None:
        if group is None or self._source.group_names is None:
            return group
        if group >= len(self._to_group):
            raise ValueError(
                f"photo {self.name(index)} has group {group}, but there are only "
                f"{len(self._to_group)} group_names"
            )
        return self._to_group[group]

    def _checked(self, label: Label, index: int) -> Label:
        try:
            label = self.match.label(label)
        except ValueError as error:
            raise ValueError(f"photo {self.name(index)}: {error}") from None
        if isinstance(label, int) and self.class_names and label >= len(self.class_names):
            raise ValueError(
                f"photo {self.name(index)} has label {label}, but there are only "
                f"{len(self.class_names)} class_names, whose labels are 0.."
                f"{len(self.class_names) - 1}"
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


def _threads(source: PhotoSource) -> ThreadPoolExecutor:
    # Files are read without Python's lock; a user's Dataset may not bear threads.
    return ThreadPoolExecutor(_N_THREADS if source.reads_files else 1)


def _readable(source: PhotoSource) -> tuple[list[int], tuple[tuple[str, str], ...]]:
    """Positions of the photos that can be read, and the names of the others with reasons."""
    with _threads(source) as pool:
        reasons = list(pool.map(lambda index: _reason(source, index), range(len(source))))
    good = [index for index, reason in enumerate(reasons) if reason is None]
    bad = [(source.name(i), reason) for i, reason in enumerate(reasons) if reason is not None]
    if not good:
        raise ValueError(f"none of the {len(source)} photos can be read; the first: {bad[0][1]}")
    return good, tuple(bad)


def _reason(source: PhotoSource, index: int) -> str | None:
    try:
        source.check(index)
    except UnfitError:  # the data set is not as it should be: no photo of it is
        raise
    except ValueError as error:
        return str(error.__cause__ or error)
    return None
