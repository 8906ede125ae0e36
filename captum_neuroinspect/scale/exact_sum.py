"""Sums without rounding: the same bits whatever the order and whatever the parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_BITS = 32  # of a limb; int64 leaves room for 2**29 numbers before a carry
_MASK = (1 << _BITS) - 1
_LOWEST = 1127  # frexp's 53-bit integer of the smallest float64 is a multiple of 2**-1127
# Exponents up to 1024 + 1127, 53 bits, and 64 bits for carries and the sign.
_N_LIMBS = (1024 + _LOWEST + 53) // _BITS + 3
_N_NUMBERS = 2**20  # of a block: its copies take some 40 MB


@dataclass(frozen=True, eq=False)
class ExactSum:
    """The exact sum of any number of float64 values, for each entry of an array.

    A sum is one integer of some 2,200 bits, in units of the smallest float64, in limbs of 32
    bits (Kulisch's accumulator). Integers add up to the same in any order; only :meth:`value`
    rounds, once. ``math.fsum`` gives the same values, but cannot join two partial sums.

    Attributes:
        limbs: ``(L, *shape)`` int64, lowest first; all but the last in ``0..2**32 - 1``, so that
            equal sums have equal limbs.

    Examples::

        >>> values = torch.tensor([[1e16], [1.0], [-1e16]], dtype=torch.float64)
        >>> float(values.sum()), float(ExactSum.of(values).value())
        (0.0, 1.0)
    """

    limbs: np.ndarray

    @classmethod
    def zeros(cls, shape: Sequence[int]) -> ExactSum:
        """The sum of nothing."""
        return cls(np.zeros((_N_LIMBS, *shape), dtype=np.int64))

    @classmethod
    def of(cls, values: Tensor) -> ExactSum:
        """Add up the rows of ``(N, *shape)`` floating point numbers.

        Raises:
            TypeError: when they are no floating point numbers.
            ValueError: for NaN or infinity.
        """
        if not values.is_floating_point():
            raise TypeError(f"values have dtype {values.dtype}, expected floating point numbers")
        shape = values.shape[1:]
        rows = values.detach().cpu().flatten(1) if values.ndim > 1 else values.detach()[:, None]
        limbs = np.zeros((_N_LIMBS, rows.shape[1]), dtype=np.int64)
        for block in rows.split(max(1, _N_NUMBERS // max(1, rows.shape[1]))):
            _add(limbs, block.double().numpy())
        return cls(limbs.reshape(_N_LIMBS, *shape))

    def merged(self, other: ExactSum) -> ExactSum:
        """The sum of both.

        Raises:
            ValueError: when they are of other shapes.
        """
        if self.limbs.shape != other.limbs.shape:
            raise ValueError(f"a sum of shape {self.shape} does not fit one of shape {other.shape}")
        limbs = self.limbs + other.limbs
        _carry(limbs)
        return ExactSum(limbs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is summed."""
        return self.limbs.shape[1:]

    def value(self) -> Tensor:
        """``shape`` float64: each sum, rounded once to the nearest; infinite beyond float64."""
        flat = self.limbs.reshape(_N_LIMBS, -1)
        used = np.flatnonzero((flat != 0).any(1))
        top = int(used[-1]) + 1 if len(used) else 0
        found = [_rounded(column[:top].tolist()) for column in flat.T]
        return torch.tensor(found, dtype=torch.float64).reshape(self.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExactSum) and np.array_equal(self.limbs, other.limbs)

    __hash__ = None  # type: ignore[assignment]


def _add(limbs: np.ndarray, block: np.ndarray) -> None:
    """Add the rows of a block ``(n, F)`` to ``(L, F)``."""
    if not np.isfinite(block).all():
        raise ValueError("values have NaN or infinity, which no sum holds")
    fraction, exponent = np.frexp(block)
    integers = np.ldexp(fraction, 53).astype(np.int64)
    place = exponent.astype(np.int64) + (_LOWEST - 53)
    limb, shift = place // _BITS, place % _BITS
    # Shifted by up to 31 bits, 54 bits with a sign do not fit in 64: the halves by themselves.
    low, high = (integers & _MASK) << shift, (integers >> _BITS) << shift
    parts = (low & _MASK, (low >> _BITS) + (high & _MASK), high >> _BITS)
    is_used = integers != 0
    if not is_used.any():
        return
    for index in range(int(limb[is_used].min()), int(limb[is_used].max()) + 1):
        is_here = limb == index
        for i, part in enumerate(parts):
            limbs[index + i] += np.where(is_here, part, 0).sum(0)
    _carry(limbs)


def _carry(limbs: np.ndarray) -> None:
    """Bring all limbs but the last to 0..2**32 - 1, in place."""
    for index in range(len(limbs) - 1):
        limbs[index + 1] += limbs[index] >> _BITS
        limbs[index] &= _MASK


def _rounded(limbs: list[int]) -> float:
    total = 0
    for limb in reversed(limbs):
        total = (total << _BITS) + limb
    try:
        return total / (1 << _LOWEST)  # of integers: rounded once, to the nearest even
    except OverflowError:
        return -math.inf if total < 0 else math.inf
