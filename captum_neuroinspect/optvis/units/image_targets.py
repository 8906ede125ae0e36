"""What each image of a batch maximises: a unit, or a direction among the units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_neuroinspect.optvis.redirected_rectifiers import RedirectedRectifiers
from captum_neuroinspect.optvis.units.activation import UnitMaps, activation_map, unit_activation


class ImageTargets(Protocol):
    """One target for each of N images."""

    def __len__(self) -> int: ...

    def rows(self, rows: slice) -> ImageTargets:
        """The targets of some images."""
        ...

    def activation(self, units: Tensor) -> Tensor:
        """Activation of each image's target ``(N,)``, float32, from a layer's output."""
        ...

    def maps(self, maps: Tensor | UnitMaps) -> Tensor | None:
        """Where it is active, ``(N, h, w)``, or ``None`` without positions."""
        ...

    def redirect(self, images: Tensor) -> RedirectedRectifiers:
        """A way past closed rectifiers for some images, bool ``(N,)``."""
        ...


@dataclass(frozen=True, eq=False)
class Units:
    """Single units.

    Attributes:
        indices: int64 ``(N,)`` on the model's device.
        n_units: how many units there are.
        read: int64 ``(K, 2)``, where the units are objectives: the channel that each reads, and how
            many channels its layer has; ``(0, 0)`` for one that reads several. ``None``: the
            units are channels themselves.
    """

    indices: Tensor
    n_units: int
    read: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, rows: slice) -> Units:
        return replace(self, indices=self.indices[rows])

    def activation(self, units: Tensor) -> Tensor:
        return unit_activation(units, self.indices).float()

    def maps(self, maps: Tensor | UnitMaps) -> Tensor | None:
        return activation_map(maps, self.indices)

    def redirect(self, images: Tensor) -> RedirectedRectifiers:
        if self.read is None:
            return RedirectedRectifiers(images, self.indices, self.n_units)
        channels, n_channels = self.read[self.indices].T
        return RedirectedRectifiers(images, channels, n_channels)


@dataclass(frozen=True, eq=False)
class Directions:
    """Linear combinations of units.

    For a silent image the unit of the largest weight is redirected: it is the one
    whose opening would raise the activation most.

    Attributes:
        weights: float32 ``(N, F)`` on the model's device.
    """

    weights: Tensor

    def __len__(self) -> int:
        return len(self.weights)

    def rows(self, rows: slice) -> Directions:
        return Directions(self.weights[rows])

    def activation(self, units: Tensor) -> Tensor:
        return unit_activation(self._projected(units), self._first())

    def maps(self, maps: Tensor | UnitMaps) -> Tensor | None:
        if isinstance(maps, Tensor):
            return activation_map(self._projected(maps), self._first())
        return maps(self.weights)

    def redirect(self, images: Tensor) -> RedirectedRectifiers:
        return RedirectedRectifiers(images, self.weights.argmax(1), self.weights.shape[1])

    def _projected(self, units: Tensor) -> Tensor:
        """A layer's output with the direction as its only unit."""
        if units.ndim == 3:
            return torch.einsum("ntd,nd->nt", units.float(), self.weights).unsqueeze(2)
        return torch.einsum("nc...,nc->n...", units.float(), self.weights).unsqueeze(1)

    def _first(self) -> Tensor:
        return torch.zeros(len(self), dtype=torch.int64, device=self.weights.device)


@runtime_checkable
class HasWeights(Protocol):
    """A :class:`Direction`; importing that one imports Captum."""

    @property
    def weights(self) -> Tensor:
        """``(F,)`` of the units."""
        ...


def as_weights(neurons: Any) -> Any:
    """Directions, one or a list of them, as weights; anything else as it is."""
    if isinstance(neurons, HasWeights):
        return neurons.weights
    several = neurons if isinstance(neurons, (list, tuple)) else ()
    if several and all(isinstance(one, HasWeights) for one in several):
        return torch.stack([one.weights for one in several])
    return neurons
