"""The (neuron, class) pairs that are asked for, checked before work starts."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_neuroinspect._modules import as_indices, check_indices, logits_of
from captum_neuroinspect.encoders.prompts import class_embeddings
from captum_neuroinspect.optvis._reader import Reading
from captum_neuroinspect.optvis.units import n_units

if TYPE_CHECKING:
    from captum_neuroinspect.encoders import ImageTextEncoder

Indices = int | Sequence[int] | Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """One neuron, and possibly one class, for each image.

    Attributes:
        neurons: int64 ``(N,)`` on the CPU.
        classes: int64 ``(N,)`` on the CPU, or ``None``.
        class_names: a name for each class of the model, or ``None``.
    """

    neurons: Tensor
    classes: Tensor | None
    class_names: tuple[str, ...] | None

    @classmethod
    def of(
        cls, neurons: Indices, classes: Indices | None, class_names: Sequence[str] | None
    ) -> Pairs:
        """Pair neurons with classes; an int goes with every other.

        Raises:
            TypeError: for indices that are not whole numbers, or names in one str.
            ValueError: for empty indices or lengths that differ.
        """
        if isinstance(class_names, str):
            raise TypeError(f"class_names={class_names!r} is one str, expected a list of names")
        names = None if class_names is None else tuple(class_names)
        unit_of = _indices("neurons", neurons)
        if classes is None:
            return cls(unit_of, None, names)
        return cls(*_paired(neurons, unit_of, classes, _indices("classes", classes)), names)

    def __len__(self) -> int:
        return len(self.neurons)

    def check(self, reading: Reading, place: str) -> None:
        """Refuse a neuron or class that the model does not have.

        Args:
            reading: what the model gives for any image.
            place: where its units are, in words.

        Raises:
            ValueError: naming the index and the range.
        """
        check_indices("neuron", self.neurons, n_units(reading.units), place)
        if self.classes is None:
            return
        n_classes = logits_of(reading.output).shape[-1]
        check_indices("class", self.classes, n_classes, "classes of the model")
        if self.class_names is not None and len(self.class_names) != n_classes:
            raise ValueError(
                f"class_names has {len(self.class_names)} names, "
                f"expected {n_classes}: one per class of the model"
            )

    def name_of_each(self) -> tuple[str, ...] | None:
        """The class name of each pair."""
        if self.class_names is None or self.classes is None:
            return None
        return tuple(self.class_names[index] for index in self.classes.tolist())

    def text(self, encoder: ImageTextEncoder, templates: Sequence[str]) -> Tensor:
        """Text embedding of each pair's class, ``(N, D)``; each class is embedded once.

        Raises:
            ValueError: when there are no classes or class names.
        """
        if self.classes is None or self.class_names is None:
            missing = "classes" if self.classes is None else "class_names"
            raise ValueError(
                f"{missing}=None, but an encoder compares an image with the name of its class"
            )
        needed, row_of = self.classes.unique(return_inverse=True)
        names = [self.class_names[index] for index in needed.tolist()]
        with torch.no_grad():
            embeddings = class_embeddings(encoder, names, templates)
        return embeddings.float()[row_of.to(embeddings.device)]


def _indices(name: str, value: Indices) -> Tensor:
    if isinstance(value, Sized) and not len(value):
        raise ValueError(f"{name} is empty, expected at least one")
    return as_indices(name, list(value) if isinstance(value, Sequence) else value)


def _paired(
    neurons: Indices, unit_of: Tensor, classes: Indices, class_of: Tensor
) -> tuple[Tensor, Tensor]:
    if isinstance(neurons, int):
        unit_of = unit_of.expand(len(class_of))
    if isinstance(classes, int):
        class_of = class_of.expand(len(unit_of))
    if len(unit_of) != len(class_of):
        raise ValueError(
            f"neurons has {len(unit_of)} values and classes {len(class_of)}, "
            "expected equal lengths (pairs), or an int for one of them"
        )
    return unit_of, class_of
