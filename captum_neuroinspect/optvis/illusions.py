"""The images that were rendered, with every number that belongs to them."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from captum_neuroinspect._core.files import write_atomically
from captum_neuroinspect._core.kept_file import reading
from captum_neuroinspect._core.kinds import check_kinds
from captum_neuroinspect.optvis._pictures.animation import Gif, as_gif
from captum_neuroinspect.optvis._pictures.composite import (
    PICTURE_CHANNELS,
    Background,
    as_pictures,
    composite,
)
from captum_neuroinspect.optvis._pictures.illusions_file import (
    as_json,
    read_fields,
    write_fields,
    write_pictures,
)
from captum_neuroinspect.optvis._pictures.rows import Rows, as_positions, chosen
from captum_neuroinspect.optvis._pictures.sheet import contact_sheet, picture_figure
from captum_neuroinspect.optvis.mask import activation_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Whether masks are applied, and what they let through: a bool, or a background.
Masked = bool | Background

_SHOWN = 36  # pictures on the sheet of a notebook
_SHOWN_SIDE = 128  # pixels
# An activation up to this size is a neuron that its image never opened.
_SILENT = 1e-6
# A mask with a larger or a smaller bright share says nothing of places.
_BRIGHT_SHARES = (0.005, 0.95)
_LONGEST_NAME = 40  # letters of an objective in a caption
# Of each mode, for what is not shown.
_BLANK: dict[str, int | tuple[int, ...]] = {
    "L": 235,
    "RGB": (235, 235, 235),
    "RGBA": (235, 235, 235, 255),
}
_PER_IMAGE = (
    *("masks", "maps", "activations", "logits", "similarities"),
    *("neurons", "classes", "class_names"),
)


@dataclass(frozen=True, eq=False)
class Illusions:
    """Images of what neurons respond to in classes: N images and their numbers, on the CPU.

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
        self._check_parts()

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

    @property
    def failed(self) -> Tensor:
        """Where the neuron stayed at 0, bool ``(N,)``: the image shows nothing of it."""
        return ~(self.activations.abs() > _SILENT)

    @property
    def mask_tells(self) -> Tensor:
        """Where a mask tells places apart, and is not nearly all bright or dim, bool ``(N,)``.

        Raises:
            RuntimeError: when there are no masks.
        """
        masks = self._masks().flatten(1)
        low, high = masks.aminmax(dim=1, keepdim=True)
        share = (masks > (low + high) / 2).float().mean(1)
        return (low < high).squeeze(1) & (share >= _BRIGHT_SHARES[0]) & (share <= _BRIGHT_SHARES[1])

    def remarks(self, masked: Masked = False) -> list[str]:
        """Why a picture is no result, for each; ``""`` where it is one.

        Args:
            masked: whether the masked pictures are meant.
        """
        tells = [True] * len(self) if masked is False else self.mask_tells.tolist()
        return [
            "failed: stayed at 0" if failed else "" if one else "no mask: alike all over"
            for failed, one in zip(self.failed.tolist(), tells, strict=True)
        ]

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary an illusion, ready for ``pandas.DataFrame``; NaN becomes ``None``."""
        columns = {
            "neuron": self.neurons,
            "class": self.classes,
            "class_name": self.class_names,
            "activation": _numbers(self.activations),
            "logit": _numbers(self.logits),
            "similarity": _numbers(self.similarities),
            "failed": self.failed.tolist(),
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

    def masked(self) -> Tensor:
        """The images, dimmed where their neurons are less active, ``(N, 3, H, W)``.

        Raises:
            RuntimeError: when there are no masks.
        """
        return self.images * self._masks()

    def to_pil(self, masked: Masked = False) -> list[Image.Image]:
        """One picture per illusion.

        Args:
            masked: ``True`` dims the places where the neurons are less active; ``"grey"``,
                ``"white"``, ``"black"`` (which is ``True``) or a brightness in 0..1 shows
                through there instead.

        Raises:
            RuntimeError: when masks are asked for and there are none.
            TypeError: for a background of another kind.
            ValueError: for an unknown background, or images of other than 1, 3 or 4 channels.
        """
        return self._pictures(self.images, masked)

    def captions(self) -> list[str]:
        """Lines for each picture: neuron, class, activation, or that it failed."""
        numbers = [
            remark or f"activation {a:.2f}"
            for a, remark in zip(self.activations.tolist(), self.remarks(), strict=True)
        ]
        return [f"{name}\n{number}" for name, number in zip(self._names(), numbers, strict=True)]

    def grid(
        self,
        masked: Masked = False,
        columns: int | None = None,
        labels: bool | Sequence[str] = True,
    ) -> Image.Image:
        """All pictures on one sheet, each with its caption.

        What is no result is left blank with a word why: an image whose neuron stayed at 0,
        and a masked one whose mask says nothing.

        Args:
            masked: dim the places where the neurons are less active, or the background that
                shows through there, as in :meth:`to_pil`.
            columns: pictures in a row; by default as square as possible.
            labels: ``True`` for :meth:`captions`, ``False`` for pictures alone, or one
                text per picture.

        Raises:
            TypeError: when ``columns`` is no whole number.
            ValueError: when there is no picture, ``columns`` is below 1, or there are
                more or fewer labels than pictures.
            RuntimeError: when masks are asked for and there are none.
        """
        return contact_sheet(*self._results(masked, labels), columns)

    def show(
        self,
        masked: Masked = False,
        columns: int | None = None,
        labels: bool | Sequence[str] = True,
    ) -> Figure:
        """All pictures in a matplotlib figure; arguments and errors as in :meth:`grid`.

        Returns:
            A figure that belongs to no window: ``.savefig(path)`` it, or let a
            notebook show it.
        """
        return picture_figure(*self._results(masked, labels), columns)

    def animate(
        self,
        path: str | Path | None = None,
        duration: int = 200,
        masked: Masked = False,
        columns: int | None = None,
    ) -> Gif:
        """How the images came about: a GIF with one frame for every snapshot.

        Args:
            path: where to write it as well, whole or not at all.
            duration: milliseconds per frame, at least 20; the last one stays longer.
            masked: dim the places where the neurons are less active in the end, or the
                background that shows through there, as in :meth:`to_pil`.
            columns: pictures in a row; by default as square as possible.

        Returns:
            The content of the file, which plays in a notebook.

        Raises:
            RuntimeError: when there are no snapshots, or masks are asked for and there
                are none.
            ValueError: when ``duration`` or ``columns`` is too small.
        """
        if self.snapshots is None:
            raise RuntimeError(
                "these illusions have no snapshots: keep some with "
                "render_illusions(..., options=IllusionOptions(snapshots=[10, 50, 150]))"
            )
        frames = [
            contact_sheet(self._pictures(images, masked), self._names(), columns, f"step {step}")
            for images, step in zip(self.snapshots, self.snapshot_steps, strict=True)
        ]
        gif = as_gif(frames, duration)
        if path is not None:
            write_atomically(path, lambda temporary: temporary.write_bytes(gif))
        return gif

    def save(self, path: str | Path) -> Path:
        """Write everything into one file, whole or not at all, for :meth:`load`.

        Args:
            path: ends in ``.safetensors``.

        Returns:
            ``path``.

        Raises:
            ValueError: for another ending; pictures are written by :meth:`save_pictures`.
        """
        return write_fields(vars(self), Path(path))

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

    def save_pictures(self, folder: str | Path, masked: Masked = False) -> list[Path]:
        """Write one PNG per illusion and ``illusions.json`` with every number.

        Files are written whole or not at all. Class names are cut down to plain
        letters and digits in file names and kept as they are in the JSON.

        Args:
            folder: made when it does not exist.
            masked: as in :meth:`to_pil`.

        Returns:
            The paths of the PNGs, in order, then that of the JSON.
        """
        return write_pictures(self.to_pil(masked), self.rows(), self.settings, Path(folder))

    def _check_parts(self) -> None:
        """Refuse parts of which some have other lengths or shapes than the images."""
        images, masks = self.images, self.masks
        if images.ndim != 4:
            raise ValueError(f"images have shape {tuple(images.shape)}, expected (N, 3, H, W)")
        for name in _PER_IMAGE:
            part = getattr(self, name)
            if part is not None and len(part) != len(images):
                raise ValueError(
                    f"{name} has {len(part)} entries, expected {len(images)}: one per image"
                )
        shape = (len(images), 1, *images.shape[-2:])
        if masks is not None and masks.shape != shape:
            raise ValueError(f"masks have shape {tuple(masks.shape)}, expected {shape}")
        if self.maps is not None and self.maps.ndim != 3:
            raise ValueError(f"maps have shape {tuple(self.maps.shape)}, expected (N, h, w)")
        self._check_snapshots()

    def _check_snapshots(self) -> None:
        snapshots, steps = self.snapshots, self.snapshot_steps
        n_steps = len(steps)
        shape = (n_steps, *self.images.shape)
        if snapshots is None and n_steps:
            raise ValueError(f"{n_steps} snapshot_steps without snapshots, expected none")
        if snapshots is not None and not n_steps:
            raise ValueError("snapshots without snapshot_steps, expected one step per snapshot")
        if snapshots is not None and snapshots.shape != shape:
            raise ValueError(
                f"snapshots have shape {tuple(snapshots.shape)}, expected {shape}: "
                f"{n_steps} steps, each like images"
            )

    def _repr_png_(self) -> bytes | None:
        """The sheet in a notebook; of many illusions the first."""
        n = len(self.images)
        # Where there is nothing to see a notebook shows the text.
        if n == 0 or self.images.shape[1] not in PICTURE_CHANNELS:
            return None
        title = f"the first {_SHOWN} of {n}" if n > _SHOWN else ""
        pictures, captions = self[:_SHOWN]._results(False, True)
        for picture in pictures:
            picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        buffer = io.BytesIO()
        contact_sheet(pictures, captions, title=title).save(buffer, "PNG")
        return buffer.getvalue()

    def _masks(self) -> Tensor:
        if self.masks is None:
            raise RuntimeError(
                "these illusions have no masks: their neurons have no positions in the image"
            )
        return self.masks

    def _pictures(self, images: Tensor, masked: Masked) -> list[Image.Image]:
        if masked is False:
            return as_pictures(images)
        background = "black" if masked is True else masked
        return as_pictures(composite(images, self._masks(), background))

    def _results(
        self, masked: Masked, labels: bool | Sequence[str]
    ) -> tuple[list[Image.Image], list[str] | None]:
        """Pictures and captions; blank ones for what is no result."""
        remarks = self.remarks(masked)
        pictures = [
            Image.new(picture.mode, picture.size, _BLANK[picture.mode]) if remark else picture
            for picture, remark in zip(self.to_pil(masked), remarks, strict=True)
        ]
        if labels is False:
            return pictures, None
        given = self.captions() if labels is True else list(labels)
        if len(given) != len(remarks):
            return pictures, given  # refused by what draws
        texts = [
            text if not remark or text.endswith(remark) else f"{text}\n{remark}"
            for text, remark in zip(given, remarks, strict=True)
        ]
        return pictures, texts

    def _names(self) -> list[str]:
        """Neuron and class of each picture."""
        kind = str(self.settings.get("neurons_are", "")).split(" ")[0]
        word = {"objectives": "objective", "directions": "direction"}.get(kind, "neuron")
        said = self.settings.get("objectives")
        said = said if kind == "objectives" and isinstance(said, list) else []
        neurons = [
            _name_of_objective(str(said[neuron]), neuron)
            if neuron < len(said)
            else f"{word} {neuron}"
            for neuron in self.neurons
        ]
        classes = self.class_names
        if classes is None and self.classes is not None:
            classes = tuple(f"class {number}" for number in self.classes)
        if classes is None:
            return neurons
        return [f"{neuron}\n{name}" for neuron, name in zip(neurons, classes, strict=True)]


def _name_of_objective(description: str, number: int) -> str:
    """What a caption calls an objective: what describes it, or else its number.

    Examples::

        >>> _name_of_objective("Channel [layer3_1_conv2, 3, None]", 0)
        'Channel [layer3_1_conv2, 3]'
        >>> _name_of_objective("<lambda>", 1)
        'objective 1'
    """
    words = " ".join(description.replace(", None", "").split())
    # Python's and Lucent's own names of functions say nothing of them.
    if not words or "<lambda>" in words or words in ("function", "inner", "objective"):
        return f"objective {number}"
    return words if len(words) <= _LONGEST_NAME else f"{words[: _LONGEST_NAME - 1]}…"


def _numbers(values: Tensor | None) -> list[float | None] | None:
    """Floats for JSON, which knows no NaN and no infinity."""
    if values is None:
        return None
    return [value if math.isfinite(value) else None for value in values.tolist()]
