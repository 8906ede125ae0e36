"""Random numbers that belong to an image, not to the batch that it is in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Tensor

# The spectrum, the affine and the noise of one image must not repeat each other's numbers.
SPECTRUM, AFFINE, NOISE = range(3)
_N_STREAMS = 3


class ImageGenerators:
    """One CPU generator for each image of a batch.

    An image gets the same numbers alone and in any batch, and on any device: they
    are drawn on the CPU and moved.

    Args:
        seed: an int, then image i uses ``seed + i``; or one int for each image.
        stream: which of an image's independent streams (``SPECTRUM``, ``AFFINE``,
            ``NOISE``).

    Raises:
        TypeError: when a seed is not a whole number.
    """

    def __init__(self, seed: int | Sequence[int], stream: int) -> None:
        seeds = seed if isinstance(seed, Sequence) else [seed]
        if not all(isinstance(s, Integral) for s in seeds):
            raise TypeError(f"seed={seed!r}, expected an int or one int per image")
        self._first = None if isinstance(seed, Sequence) else int(seed)
        self._stream = stream
        self._generators = [self._generator(int(s)) for s in seeds]

    def rand(self, n: int, *shape: int) -> Tensor:
        """Uniform numbers in 0..1 of shape ``(n, *shape)`` for a batch of n images."""
        return self._draw(torch.rand, n, shape)

    def randn(self, n: int, *shape: int) -> Tensor:
        """Normal numbers of shape ``(n, *shape)`` for a batch of n images."""
        return self._draw(torch.randn, n, shape)

    def _draw(self, draw: Callable[..., Tensor], n: int, shape: tuple[int, ...]) -> Tensor:
        generators = self._of_batch(n)
        return torch.stack([draw(shape, generator=g, dtype=torch.float32) for g in generators])

    def _of_batch(self, n: int) -> list[torch.Generator]:
        if self._first is None and len(self._generators) != n:
            raise ValueError(f"seed has {len(self._generators)} values for a batch of {n} images")
        if self._first is not None:
            known = len(self._generators)
            self._generators += [self._generator(self._first + i) for i in range(known, n)]
        return self._generators[:n]

    def _generator(self, seed: int) -> torch.Generator:
        # The CPU generator reads 32 bits; interleaving keeps the streams of all seeds apart.
        return torch.Generator().manual_seed((seed * _N_STREAMS + self._stream) % 2**32)
