"""Photos of concepts and their counterparts: from a folder, or as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from torch import Tensor

from captum_neuroinspect.concepts.concept_features import check_as_many, checked_names
from captum_neuroinspect.photos import Photos
from captum_neuroinspect.photos.view import ImageSize, View

Images = Sequence[Tensor] | Tensor


@dataclass(frozen=True, eq=False)
class ConceptPhotos:
    """For each concept photos that show it, and others that do not.

    Attributes:
        names: the P concepts.
        shown: for each, images ``(3, H, W)`` in 0..1, in a sequence or as ``(N, 3, H, W)``.
        counterparts: for each, images without it. One object may stand for several concepts.

    Raises:
        TypeError: for names that are not several strings.
        ValueError: for a name twice, or not as many sets of photos as names.

    Examples::

        >>> import torch
        >>> ConceptPhotos(("red",), (torch.rand(5, 3, 8, 8),), (torch.rand(4, 3, 8, 8),))
        ConceptPhotos(red: 5 + 4)
    """

    names: tuple[str, ...]
    shown: tuple[Images, ...]
    counterparts: tuple[Images, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", checked_names(self.names))
        check_as_many(self.names, self.shown, self.counterparts)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        sets = zip(self.names, self.shown, self.counterparts, strict=True)
        return f"ConceptPhotos({', '.join(f'{n}: {len(a)} + {len(b)}' for n, a, b in sets)})"

    @classmethod
    def of_folder(
        cls,
        folder: str | PathLike[str],
        *,
        counterparts: str | None = "random",
        image_size: ImageSize = 224,
        view: View | None = None,
    ) -> ConceptPhotos:
        """A folder with one subfolder of photos a concept; pictures are read when asked for.

        Args:
            folder: such as ``concepts/`` with ``grass/*.jpg``, ``water/*.jpg``, ``random/*.jpg``.
            counterparts: the subfolder whose photos show none of the concepts. ``None``: the
                counterparts of a concept are the photos of all others.
            image_size: a side, or height and width, at which photos are looked at.
            view: instead, such as ``LoadedModel.view``.

        Raises:
            OSError: when there is no such folder.
            ValueError: when it has no such subfolder, no concept beside it, or only one concept
                where the others are the counterparts.
        """
        photos = Photos.of(folder, image_size=image_size, view=view, what="folder")
        names = list(photos.class_names or ())
        if counterparts is not None and counterparts not in names:
            raise ValueError(
                f"folder={str(folder)!r} has no subfolder {counterparts!r} of counterparts, it has "
                f"{', '.join(names)}: give counterparts= its name, or None for the photos of the "
                "other concepts"
            )
        concepts = [name for name in names if name != counterparts]
        if len(concepts) < (1 if counterparts is not None else 2):
            raise ValueError(
                f"folder={str(folder)!r} has the subfolders {', '.join(names)}: expected a concept "
                "and its counterparts, or two concepts or more"
            )

        def rows(which: Sequence[str]) -> _ImagesOf:
            wanted = [names.index(name) for name in which]
            found = [i for i, label in enumerate(photos.labels.tolist()) if label in wanted]
            return _ImagesOf(photos.subset(found))

        shared = None if counterparts is None else rows([counterparts])
        return cls(
            tuple(concepts),
            tuple(rows([name]) for name in concepts),
            tuple(shared or rows([n for n in concepts if n != name]) for name in concepts),
        )


class _ImagesOf(Sequence[Tensor]):
    """The pictures of labelled photos, read one by one."""

    def __init__(self, photos: Photos) -> None:
        self.photos = photos

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.photos.image(index)
