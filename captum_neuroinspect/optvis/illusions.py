"""The images that were rendered, with every number that belongs to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from operator import index
from pathlib import Path
from typing import Any

from torch import Tensor

from captum_neuroinspect._core.kept_file import reading
from captum_neuroinspect._core.kinds import check_kinds
from captum_neuroinspect.optvis._pictures.illusions_file import (
    SUFFIX,
    as_json,
    read_fields,
    write_file,
    write_pictures,
)
from captum_neuroinspect.optvis._pictures.parts import check_parts
from captum_neuroinspect.optvis._pictures.rows import Rows, as_positions, chosen
from captum_neuroinspect.optvis._pictures.views import Masked, Views
from captum_neuroinspect.optvis.mask import activation_mask

_PER_IMAGE = (
    *("masks", "maps", "activations", "logits", "similarities"),
    *("neurons", "classes", "class_names"),
)


@dataclass(frozen=True, eq=False)
class Illusions(Views):
    """What neurons look for in classes: N images and their numbers, on the CPU.

    Look at them with :meth:`grid`, :meth:`show`, :meth:`animate` or :meth:`to_pil`; a
    notebook shows the sheet by itself. Choose rows by ``illusions[2]``,
    ``illusions[:5]`` or ``illusions[illusions.activations > 1]``: Illusions again, with
    every number still beside its image.

    Attributes:
        images: ``(N, 3, H, W)``, 0..1, float32.
        masks: ``(N, 1, H, W)``, 0..1, or ``None`` where the neurons have no maps;
            :meth:`remasked` makes others.
        activations: activation of each image's neuron, ``(N,)``.
        logits: logit of each image's class, ``(N,)``, or ``None`` without classes.
        similarities: cosine of image and text embedding, ``(N,)``, or ``None``
            without an encoder.
        neurons: the neuron of each image.
        classes: the class of each image, or ``None``.
        class_names: the name of each image's class, or ``None``.
        settings: how they were rendered, as JSON gives it back: tuples become lists,
            and what JSON does not know becomes its text. They speak of the whole
            rendering; chosen rows keep them as they are.
        snapshots: the images on their way, ``(S, N, 3, H, W)``, or ``None``.
        snapshot_steps: the step of each snapshot, S numbers.
        maps: how active each neuron is at the places of its image, ``(N, h, w)``, or
            ``None``; what the masks are made of.

    Raises:
        TypeError: when a neuron, a class or a step is no whole number.
        ValueError: when the parts differ in length or shape.

    Examples::

        >>> import torch
        >>> images, numbers = torch.rand(3, 3, 8, 8), torch.arange(3.0)
        >>> found = Illusions(images, None, numbers, None, None, neurons=(4, 7, 9))
        >>> found[1:].neurons, found[found.activations > 1].neurons
        ((7, 9), (9,))
    """

    images: Tensor
    masks: Tensor | None
    activations: Tensor
    logits: Tensor | None
    similarities: Tensor | None
    neurons: tuple[int, ...]
    classes: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    snapshots: Tensor | None = None
    snapshot_steps: tuple[int, ...] = ()
    maps: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("neurons", "classes", "snapshot_steps"):
            if (part := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(map(index, part)))
        if self.class_names is not None:
            object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "settings", as_json(self.settings))
        check_parts(self, _PER_IMAGE)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images.shape[-2:]
        return f"Illusions({len(self)} images of {width}x{height}, neurons={self.neurons})"

    def __iter__(self) -> Iterator[Illusions]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, which: Rows) -> Illusions:
        """Chosen rows in the order asked for; a single number gives Illusions of one.

        Args:
            which: a row, a slice, several rows, or a boolean for every row.

        Raises:
            TypeError: when ``which`` is something else.
            IndexError: when a row does not exist.
            ValueError: when there are more or fewer booleans than images.
        """
        rows = as_positions(which, len(self))
        parts = {name: chosen(getattr(self, name), rows) for name in ("images", *_PER_IMAGE)}
        snapshots = None if self.snapshots is None else self.snapshots[:, rows]
        return replace(self, **parts, snapshots=snapshots)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary an illusion, ready for ``pandas.DataFrame``; NaN becomes ``None``."""
        columns = {
            "neuron": self.neurons,
            "class": self.classes,
            "class_name": self.class_names,
            "activation": _numbers(self.activations),
            "logit": _numbers(self.logits),
            "similarity": _numbers(self.similarities),
        }
        present = {name: column for name, column in columns.items() if column is not None}
        return [dict(zip(present, row, strict=True)) for row in zip(*present.values(), strict=True)]

    def remasked(
        self,
        threshold: float = 0.5,
        floor: float = 0.5,
        softness: float = 0.0,
        blur: float = 0.0,
    ) -> Illusions:
        """The same illusions with other masks; arguments as in :func:`activation_mask`.

        Args:
            threshold: in standard deviations above the mean over pixels.
            floor: brightness or opacity of what is dimmed, 0..1.
            softness: in standard deviations; 0 is a hard edge.
            blur: standard deviation in pixels of a Gaussian over the mask.

        Raises:
            RuntimeError: when there are no maps.
            ValueError: when ``floor`` is outside 0..1, or ``softness`` or ``blur`` negative.

        Examples::

            >>> import torch
            >>> maps = torch.tensor([[[0.0, 0.0], [0.0, 4.0]]])
            >>> found = Illusions(
            ...     torch.ones(1, 3, 2, 2), None, torch.ones(1), None, None, (7,), maps=maps
            ... )
            >>> found.remasked(floor=0.0).masks.tolist()
            [[[[0.0, 0.0], [0.0, 1.0]]]]
        """
        if self.maps is None:
            raise RuntimeError(
                "these illusions have no maps: their neurons have no positions in the image, "
                "or they were saved by a version that did not keep them"
            )
        size = tuple(self.images.shape[-2:])
        masks = activation_mask(self.maps, size, threshold, floor, softness, blur)
        return replace(self, masks=masks)

    def save(self, path: str | Path) -> Path:
        """Write everything into one file, whole or not at all, for :meth:`load`.

        Args:
            path: ends in ``.safetensors``.

        Returns:
            ``path``.

        Raises:
            ValueError: for another ending; pictures are written by :meth:`save_pictures`.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise ValueError(
                f"path={str(path)!r} does not end in {SUFFIX}: for a folder of pictures "
                "call save_pictures(folder)"
            )
        return write_file(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Illusions:
        """Read what :meth:`save` wrote into one file: every field, bit by bit.

        Raises:
            OSError: when there is no such file, or it may not be read.
            ValueError: when it is something else, damaged, or comes from a newer version.
        """
        fields = read_fields(Path(path))
        with reading(path, "Illusions"):
            check_kinds(fields, cls)
            return cls(**fields)

    def save_pictures(
        self, folder: str | Path, masked: Masked = False, *, alpha: bool = False
    ) -> list[Path]:
        """Write one PNG per illusion and ``illusions.json`` with every number.

        Files are written whole or not at all. Class names are cut down to plain
        letters and digits in file names and kept as they are in the JSON.

        Args:
            folder: made when it does not exist.
            masked: as in :meth:`to_pil`.
            alpha: likewise.

        Returns:
            The paths of the PNGs, in order, then that of the JSON.
        """
        return write_pictures(self, self.to_pil(masked, alpha=alpha), Path(folder))


def _numbers(values: Tensor | None) -> list[float | None] | None:
    """Floats for JSON, which knows no NaN and no infinity."""
    if values is None:
        return None
    return [value if math.isfinite(value) else None for value in values.tolist()]
