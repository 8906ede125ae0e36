"""Ways to look at illusions: pictures, sheets, figures, animations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from captum_neuroinspect._core.files import write_atomically
from captum_neuroinspect.optvis._pictures.animation import Gif, as_gif
from captum_neuroinspect.optvis._pictures.composite import (
    PICTURE_CHANNELS,
    Background,
    as_pictures,
    composite,
)
from captum_neuroinspect.optvis._pictures.figure import picture_figure
from captum_neuroinspect.optvis._pictures.sheet import contact_sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Whether masks are applied, and what they let through: a bool, or a background.
Masked = bool | Background

_SHOWN = 36


class Views:
    """Everything about :class:`Illusions` that is meant for eyes."""

    if TYPE_CHECKING:
        # Properties, because the fields of a frozen dataclass cannot be assigned.
        @property
        def images(self) -> Tensor: ...
        @property
        def masks(self) -> Tensor | None: ...
        @property
        def activations(self) -> Tensor: ...
        @property
        def neurons(self) -> tuple[int, ...]: ...
        @property
        def classes(self) -> tuple[int, ...] | None: ...
        @property
        def class_names(self) -> tuple[str, ...] | None: ...
        @property
        def snapshots(self) -> Tensor | None: ...
        @property
        def snapshot_steps(self) -> tuple[int, ...]: ...

    def masked(self) -> Tensor:
        """The images, dimmed where their neurons are less active, ``(N, 3, H, W)``.

        Raises:
            RuntimeError: when there are no masks.
        """
        return self.images * self._masks()

    def composited(self, background: Background = "grey") -> Tensor:
        """The images over a background that shows where their neurons are less active.

        Args:
            background: ``"grey"``, ``"white"``, ``"black"`` (which is :meth:`masked`),
                ``"checker"``, a brightness, or a tensor in 0..1: a colour ``(3,)``, a
                picture ``(3, H, W)`` or one for each image, ``(N, 3, H, W)``.

        Returns:
            ``(N, 3, H, W)``.

        Raises:
            RuntimeError: when there are no masks.
            TypeError: for a background of another kind.
            ValueError: for an unknown name, a value outside 0..1, or a shape that
                does not fit.
        """
        return composite(self.images, self._masks(), background)

    def rgba(self) -> Tensor:
        """The images with their masks as opacity, ``(N, 4, H, W)``.

        Raises:
            RuntimeError: when there are no masks.
            ValueError: when the images have other than 1 or 3 channels.
        """
        if self.images.shape[1] not in (1, 3):
            raise ValueError(
                f"images have {self.images.shape[1]} channels, expected 1 or 3 beside opacity"
            )
        return torch.cat([self.images.expand(-1, 3, -1, -1), self._masks()], dim=1)

    def to_pil(self, masked: Masked = False, *, alpha: bool = False) -> list[Image.Image]:
        """One picture per illusion.

        Args:
            masked: ``True`` dims the places where the neurons are less active; a background
                as in :meth:`composited`, such as ``"grey"``, shows through there instead.
            alpha: make them transparent there instead.

        Raises:
            RuntimeError: when masks are asked for and there are none.
            TypeError: for a background of another kind.
            ValueError: when both are asked for, for a background that does not fit, or
                images of other than 1, 3 or 4 channels (with ``alpha`` 1 or 3).
        """
        if masked is not False and alpha:
            raise ValueError("masked=True and alpha=True, expected one: both apply the mask")
        return as_pictures(self.rgba()) if alpha else self._pictures(self.images, masked)

    def captions(self) -> list[str]:
        """Lines for each picture: neuron, class, activation."""
        numbers = [f"activation {a:.2f}" for a in self.activations.tolist()]
        return [f"{name}\n{number}" for name, number in zip(self._names(), numbers, strict=True)]

    def grid(
        self,
        masked: Masked = False,
        columns: int | None = None,
        labels: bool | Sequence[str] = True,
    ) -> Image.Image:
        """All pictures on one sheet, each with its caption.

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
        return contact_sheet(self.to_pil(masked), self._labels(labels), columns)

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
        return picture_figure(self.to_pil(masked), self._labels(labels), columns)

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
                "render_illusions(..., snapshots=[10, 100, 450])"
            )
        frames = [
            contact_sheet(self._pictures(images, masked), self._names(), columns, f"step {step}")
            for images, step in zip(self.snapshots, self.snapshot_steps, strict=True)
        ]
        gif = as_gif(frames, duration)
        if path is not None:
            write_atomically(path, lambda temporary: temporary.write_bytes(gif))
        return gif

    def _repr_png_(self) -> bytes | None:
        """The sheet in a notebook; of many illusions the first."""
        n = len(self.images)
        # Where there is nothing to see a notebook shows the text.
        if n == 0 or self.images.shape[1] not in PICTURE_CHANNELS:
            return None
        title = f"the first {_SHOWN} of {n}" if n > _SHOWN else ""
        pictures, captions = as_pictures(self.images[:_SHOWN]), self.captions()[:_SHOWN]
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

    def _labels(self, labels: bool | Sequence[str]) -> Sequence[str] | None:
        if isinstance(labels, bool):
            return self.captions() if labels else None
        return labels

    def _names(self) -> list[str]:
        """Neuron and class of each picture."""
        neurons = [f"neuron {neuron}" for neuron in self.neurons]
        classes = self.class_names
        if classes is None and self.classes is not None:
            classes = tuple(f"class {number}" for number in self.classes)
        if classes is None:
            return neurons
        return [f"{neuron}\n{name}" for neuron, name in zip(neurons, classes, strict=True)]
