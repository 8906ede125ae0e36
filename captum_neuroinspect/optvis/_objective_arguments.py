"""Which unit or class of each image an objective reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect.optvis.units.activation import (
    Token,
    check_token,
    n_units,
    one_token,
    unit_activation,
)
from captum_neuroinspect.optvis.units.image_targets import Directions, HasWeights, as_weights

Index = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class OutputSelector:
    """Which outputs of a layer an objective reads: units, directions or classes, one an image.

    Attributes:
        name: of the argument, for errors.
        rows: int64 ``(N,)``, or directions, float32 ``(N, F)``; a single row serves all.
        batch: only this image, or ``None``.
        token: which token of an output ``(N, T, D)``.
    """

    name: str
    rows: Tensor
    batch: int | None
    token: Token = "mean"

    @classmethod
    def units(
        cls, n_channel: Index | Tensor | HasWeights, batch: int | None, token: Token
    ) -> OutputSelector:
        """Channels, or directions, also as a floating point tensor ``(F,)`` or ``(N, F)``."""
        check_token(token)
        n_channel = as_weights(n_channel)
        given = torch.as_tensor(n_channel)
        is_direction = isinstance(n_channel, Tensor) and given.ndim in (1, 2)
        if is_direction and given.is_floating_point():
            rows = torch.atleast_2d(given.detach().float())
        else:
            rows = as_indices("n_channel", given)
        return cls("n_channel", rows, _checked(batch), token)

    @classmethod
    def classes(cls, class_index: Index, batch: int | None) -> OutputSelector:
        """Classes by their numbers."""
        rows = as_indices("class_index", class_index)
        return cls("class_index", rows, _checked(batch))

    def of(self, output: Tensor) -> Tensor:
        """Activations ``(N,)`` from the output of a layer for the chosen images."""
        output = one_token(output, self.token)
        rows = one_per_image(self.name, self.rows, len(output), self.batch)
        if not rows.is_floating_point():
            check_indices(self.name, rows, n_units(output), "units of the layer")
            return unit_activation(output, rows.to(output.device))
        if rows.shape[1] != n_units(output):
            raise ValueError(
                f"{self.name} has {rows.shape[1]} weights, expected {n_units(output)}: "
                "one per unit of the layer"
            )
        return Directions(rows.to(output.device)).activation(output)


def one_per_image(name: str, values: Tensor, n_images: int, batch: int | None) -> Tensor:
    """Rows ``(N, ...)`` of the chosen images; a single row serves all."""
    if n_images == 0:
        raise ValueError(f"batch={batch}, expected the index of an image: there are fewer")
    if len(values) == 1:
        return values.expand(n_images, *values.shape[1:])
    found = values if batch is None else values[batch : batch + 1]
    if len(found) != n_images:
        raise ValueError(f"{name} has {len(values)} values, expected one, or one for each image")
    return found


def _checked(batch: int | None) -> int | None:
    if batch is None:
        return None
    check_whole("batch", batch)
    check_at_least("batch", batch, 0)
    # Lucent takes a NumPy integer for "all images".
    return int(batch)
