"""How the images move from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from captum_neuroinspect.optvis.transform import Transform, illusion_transforms

# Transforms for every batch, or a function `(seeds, n_steps)` that makes them for one.
Movement = Sequence[Transform] | Callable[[Sequence[int], int], Sequence[Transform]]


class Transforms:
    """Makes the transforms of any batch, checked before work starts.

    Args:
        movement: ``None``: :func:`illusion_transforms`; or as ``Movement`` says.

    Raises:
        TypeError: when it is neither a list of functions nor a function.
    """

    def __init__(self, movement: Movement | None) -> None:
        movement = illusion_transforms if movement is None else movement
        is_list = isinstance(movement, Sequence)
        if not callable(movement) and not (is_list and all(map(callable, movement))):
            raise TypeError(
                f"transforms={movement!r}, expected functions of images, or one function "
                "(seeds, n_steps) that gives them"
            )
        self._movement = movement
        self.names = "made" if callable(movement) else ", ".join(map(_name, movement))
        if movement is illusion_transforms:
            self.names = "illusion_transforms"

    def of(self, seeds: Sequence[int], n_steps: int) -> list[Transform]:
        """Transforms of the images with these seeds."""
        if callable(self._movement):
            return list(self._movement(seeds, n_steps))
        return list(self._movement)


def _name(transform: Any) -> str:
    function = transform.func if isinstance(transform, partial) else transform
    return str(getattr(function, "__qualname__", type(function).__name__)).split(".")[0]
