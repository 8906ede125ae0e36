"""What to do about images that a model cannot take: other channels or another size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.conv import _ConvNd

# What torch, and libraries that look at their input first, say of shapes that do not fit.
_OF_SHAPES = re.compile(r"shape|size|channel|dimension|height|width|match", re.IGNORECASE)


# transformers says it with a ValueError, which is the kind of our own errors too.
_OF_SIZE = re.compile(r"image size", re.IGNORECASE)


@contextmanager
def told_what_fits(model: nn.Module, n_channels: int, size: tuple[int, int]) -> Iterator[None]:
    """Say what a model takes instead of what happens inside it, while images go through it.

    Args:
        model: it.
        n_channels: of the images, before they are preprocessed.
        size: their height and width.

    Raises:
        ValueError: in place of an error about shapes.
    """
    try:
        yield
    except (RuntimeError, AssertionError, ValueError) as error:
        pattern = _OF_SIZE if isinstance(error, ValueError) else _OF_SHAPES
        # Out of memory and the like are kinds of their own.
        is_plain = type(error) in (RuntimeError, AssertionError, ValueError)
        if not is_plain or not pattern.search(str(error)):
            raise
        raise ValueError(_reason(model, n_channels, size, error)) from error


def _reason(model: nn.Module, n_channels: int, size: tuple[int, int], error: Exception) -> str:
    name = type(model).__name__
    # In the order in which they are written, which is nearly always that of the pass.
    first = next((m for m in model.modules() if isinstance(m, _ConvNd)), None)
    of_channels = re.search(r"expected input.* to have (\d+) channels, but got (\d+)", str(error))
    if first is not None and of_channels and int(of_channels[1]) == first.in_channels:
        n = first.in_channels
        hint = (
            "preprocess=torchvision.transforms.v2.Grayscale() makes photos of colour so"
            if n == 1
            else f"give a preprocess= that makes {n} of them"
        )
        return (
            f"{name} takes images of {n} channel{'s' * (n != 1)}, but is given {of_channels[2]}: "
            f"{hint}; illusions take channels={n} as well"
        )
    return (
        f"{name} does not take images of {size[1]} x {size[0]} pixels and {n_channels} channels "
        f"({_short(error)}): give image_size= or --image-size the size it was trained at, for "
        "illusions size= or --size"
    )


def _short(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
