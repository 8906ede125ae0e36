"""How the images move from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect.optvis.transform import Transform, illusion_transforms

# Transforms for every batch, or a function `(seeds, n_steps)` that makes them for one.
Movement = Sequence[Transform] | Callable[[Sequence[int], int], Sequence[Transform]]


class Transforms:
    """Makes the transforms of any batch, checked before work starts.

    Args:
        movement: ``None``: :func:`illusion_transforms`; or as ``Movement`` says.
        size: height and width that the networks are shown. Lucent's transforms pad, crop and
            scale; its renderer brings images back to one size, and so does this.

    Raises:
        TypeError: when it is neither a list of functions nor a function.
    """

    def __init__(self, movement: Movement | None, size: tuple[int, int]) -> None:
        movement = illusion_transforms if movement is None else movement
        is_list = isinstance(movement, Sequence)
        if not callable(movement) and not (is_list and all(map(callable, movement))):
            raise TypeError(
                f"transforms={movement!r}, expected functions of images, or one function "
                "(seeds, n_steps) that gives them"
            )
        self._movement, self._size = movement, size
        self.names = "made" if callable(movement) else ", ".join(map(_name, movement))
        if movement is illusion_transforms:
            self.names = "illusion_transforms"

    def of(self, seeds: Sequence[int], n_steps: int) -> list[Transform]:
        """Transforms of the images with these seeds."""
        made = self._movement(seeds, n_steps) if callable(self._movement) else self._movement
        return [*made, partial(_resized, size=self._size)]


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def _name(transform: Any) -> str:
    function = transform.func if isinstance(transform, partial) else transform
    return str(getattr(function, "__qualname__", type(function).__name__)).split(".")[0]
