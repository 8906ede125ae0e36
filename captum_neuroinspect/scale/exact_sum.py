"""Sums without rounding: the same bits whatever the order and whatever the parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_BITS = 32  # of a limb; int64 leaves room for 2**31 numbers before a carry
_MASK = (1 << _BITS) - 1
_MANTISSA = 53  # bits of a float64: integers of so many are added and multiplied exactly
_SMALLEST = -1074  # the smallest float64 is 2**_SMALLEST; sums are integers in units of it
_N_NUMBERS = 2**16  # that are cut at once: they stay in the processor's cache
_MOST_ROWS = 2**13  # of sums: leaves 40 bits of the mantissa to each number
_N_ROWS = 2**11  # of products: leaves 21 bits to each factor
_MOST_PRODUCTS = 2**9  # of 53 bits that int64 adds up
_STEP = 8  # units are multiples of it, so that those of different blocks are often equal
_LARGEST_POWER = 1000  # 2**k of larger k may be infinite


@dataclass(frozen=True, eq=False)
class ExactSum:
    """The exact sum of any number of float64 values, for each entry of an array.

    A sum is one integer, in units of the smallest float64, in limbs of 32 bits (Kulisch's
    accumulator). Integers add up to the same in any order; only :meth:`value` rounds, once.
    ``math.fsum`` gives the same values, but cannot join two partial sums. Only the limbs that
    some entry uses are kept: four or five for numbers of like sizes.

    Attributes:
        limbs: ``(L, *shape)`` int64, lowest first; all but the last in ``0..2**32 - 1``, and as
            few as hold all entries, so that equal sums have equal limbs.
        lowest: the first of them counts ``2**(32 * lowest)`` units.

    Examples::

        >>> values = torch.tensor([[1e16], [1.0], [-1e16]], dtype=torch.float64)
        >>> float(values.sum()), float(ExactSum.of(values).value())
        (0.0, 1.0)
    """

    limbs: np.ndarray
    lowest: int = 0

    @classmethod
    def zeros(cls, shape: Sequence[int]) -> ExactSum:
        """The sum of nothing."""
        return cls(np.zeros((1, *shape), dtype=np.int64))

    @classmethod
    def of(cls, values: Tensor) -> ExactSum:
        """Add up the rows of ``(N, *shape)`` floating point numbers.

        Raises:
            TypeError: when they are no floating point numbers.
            ValueError: for NaN or infinity.
        """
        return cls._summed(_rows("values", values))._shaped(values.shape[1:])

    @classmethod
    def of_groups(cls, values: Tensor, group: Tensor, n_groups: int) -> ExactSum:
        """Add up rows by the group that each is in.

        Args:
            values: ``(N, F)`` floating point numbers.
            group: ``(N,)`` numbers from 0.
            n_groups: G.

        Returns:
            Sums over ``(G, F)``.

        Raises:
            TypeError: as :meth:`of`.
            ValueError: as :meth:`of`.

        Examples::

            >>> ExactSum.of_groups(torch.ones(3, 1), torch.tensor([1, 1, 0]), 2).value().tolist()
            [[1.0], [2.0]]
        """
        return cls._summed(_rows("values", values), group, n_groups)

    @classmethod
    def of_products(cls, left: Tensor, right: Tensor) -> ExactSum:
        """Add up the products of the columns of two matrices: ``left.T @ right`` without rounding.

        Both are cut into pieces of so few bits that matrix products of the pieces are exact in
        float64 (Ozaki's scheme), and these are added up.

        Args:
            left: ``(N, U)`` floating point numbers,
            right: ``(N, V)``, whose sizes are moderate: products of the smallest bits of both are
                at least ``2**-1074``, as those of float32 are.

        Returns:
            Sums over ``(U, V)``.

        Raises:
            TypeError: as :meth:`of`.
            ValueError: as :meth:`of`; when numbers of rows differ, or products are beyond float64.

        Examples::

            >>> a = torch.tensor([[1e8], [1.0], [-1e8]])
            >>> float(ExactSum.of_products(a, torch.tensor([[1e8], [1.0], [1e8]])).value())
            1.0
        """
        left, right = _rows("left", left), _rows("right", right)
        if len(left) != len(right):
            raise ValueError(f"left has {len(left)} rows and right {len(right)}, expected the same")
        total = cls.zeros((left.shape[1], right.shape[1]))
        sums: dict[int, tuple[Tensor, int]] = {}  # by their unit, with how many were added
        for one, other in zip(left.split(_N_ROWS), right.split(_N_ROWS), strict=True):
            bits = (_MANTISSA - _n_bits(len(one))) // 2
            others = list(_pieces(other, bits))
            for piece, exponent in _pieces(one, bits):
                for factor, second in others:
                    product, unit = (piece.T @ factor).to(torch.int64), exponent + second
                    before, n = sums.pop(unit, (None, 0))
                    sums[unit] = (product if before is None else before.add_(product), n + 1)
                    if n + 1 == _MOST_PRODUCTS:
                        total = total.merged(_integers(sums.pop(unit)[0], unit))
        for unit, (integers, _) in sums.items():
            total = total.merged(_integers(integers, unit))
        return total

    def merged(self, other: ExactSum) -> ExactSum:
        """The sum of both.

        Raises:
            ValueError: when they are of other shapes.
        """
        if self.shape != other.shape:
            raise ValueError(f"a sum of shape {self.shape} does not fit one of shape {other.shape}")
        for one, second in ((self, other), (other, self)):
            if not second.limbs.any():  # also: where nothing is, no limb says where it would be
                return one
        low = min(self.lowest, other.lowest)
        high = max(one.lowest + len(one.limbs) for one in (self, other))
        limbs = np.zeros((high - low + 1, *self.shape), dtype=np.int64)  # one for the carry
        for one in (self, other):
            limbs[one.lowest - low :][: len(one.limbs)] += one.limbs
        return _carried(limbs, low)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is summed."""
        return self.limbs.shape[1:]

    def value(self) -> Tensor:
        """``shape`` float64: each sum, rounded once to the nearest; infinite beyond float64."""
        columns = self.limbs.reshape(len(self.limbs), -1).T
        unit = _BITS * self.lowest + _SMALLEST
        found = [_rounded(column.tolist(), unit) for column in columns]
        return torch.tensor(found, dtype=torch.float64).reshape(self.shape)

    @classmethod
    def _summed(cls, rows: Tensor, group: Tensor | None = None, n_groups: int = 1) -> ExactSum:
        """Sums over ``(G, F)``."""
        total = cls.zeros((n_groups, rows.shape[1]))
        size = max(1, _N_NUMBERS // max(1, rows.shape[1]))
        names = torch.zeros(len(rows), dtype=torch.int64) if group is None else group
        for chunk, places in zip(rows.split(_MOST_ROWS), names.split(_MOST_ROWS), strict=True):
            sums: dict[int, Tensor] = {}  # by their unit
            for block, place in zip(chunk.split(size), places.split(size), strict=True):
                for piece, unit in _pieces(block, _MANTISSA - _n_bits(len(chunk))):
                    if unit not in sums:
                        sums[unit] = piece.new_zeros(total.shape)
                    if group is None:
                        sums[unit] += piece.sum(0)
                    else:
                        sums[unit].index_add_(0, place, piece)
            for unit, integers in sums.items():
                total = total.merged(_integers(integers, unit))
        return total

    def _shaped(self, shape: Sequence[int]) -> ExactSum:
        return ExactSum(self.limbs.reshape(len(self.limbs), *shape), self.lowest)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ExactSum)
            and self.lowest == other.lowest
            and np.array_equal(self.limbs, other.limbs)
        )

    __hash__ = None  # type: ignore[assignment]


def _rows(name: str, values: Tensor) -> Tensor:
    """``(N, F)`` on the CPU."""
    if not values.is_floating_point():
        raise TypeError(f"{name} have dtype {values.dtype}, expected floating point numbers")
    rows = values.detach().cpu()
    return rows.flatten(1) if rows.ndim > 1 else rows[:, None]


def _n_bits(n: int) -> int:
    """By how many bits a sum of n numbers may be larger than the largest."""
    return max(0, n - 1).bit_length()


def _pieces(block: Tensor, bits: int) -> Iterator[tuple[Tensor, int]]:
    """Cut numbers into float64 integers below ``2**bits``, each in units of ``2**exponent``.

    The pieces times their units add up to the numbers, exactly; the largest bits come first.
    """
    rest = block.double()
    largest = float(rest.abs().max()) if rest.numel() else 0.0
    if not math.isfinite(largest):
        raise ValueError("values have NaN or infinity, which no sum holds")
    while largest > 0:
        exponent = max(-(-(math.frexp(largest)[1] - bits) // _STEP) * _STEP, _SMALLEST)
        piece = _times(rest, -exponent).trunc_()
        yield piece, exponent
        rest = rest - piece * 2.0**exponent
        largest = float(rest.abs().max())


def _times(values: Tensor, power: int) -> Tensor:
    """Values times ``2**power``, also where that is beyond float64 and the result is not."""
    first = min(power, _LARGEST_POWER)
    found = values * 2.0**first
    return found * 2.0 ** (power - first) if power > first else found


def _integers(values: Tensor, exponent: int) -> ExactSum:
    """Integers of at most 62 bits, and a sign, in units of ``2**exponent``."""
    place = exponent - _SMALLEST
    if place < 0:
        raise ValueError(
            "products have bits below the smallest float64: give numbers of moderate sizes"
        )
    lowest, shift = divmod(place, _BITS)
    integers = values.to(torch.int64).numpy()
    # Shifted by up to 31 bits they do not fit in 64: the halves by themselves.
    low, high = (integers & _MASK) << shift, (integers >> _BITS) << shift
    limbs = np.stack([low & _MASK, (low >> _BITS) + (high & _MASK), high >> _BITS])
    return _carried(limbs, lowest)


def _carried(limbs: np.ndarray, lowest: int) -> ExactSum:
    """Brings all limbs but the last to 0..2**32 - 1, in place, and drops those that say nothing."""
    for index in range(len(limbs) - 1):
        limbs[index + 1] += limbs[index] >> _BITS
        limbs[index] &= _MASK
    # A last limb of 0 or -1 is but the sign of the limb below.
    while len(limbs) > 1 and _is_sign(limbs[-1]):
        limbs[-2] += limbs[-1] << _BITS
        limbs = limbs[:-1]
    first = 0
    while first < len(limbs) - 1 and not limbs[first].any():
        first += 1
    if len(limbs) - first == 1 and not limbs[-1].any():
        return ExactSum(limbs[-1:] * 0, 0)
    return ExactSum(np.ascontiguousarray(limbs[first:]), lowest + first)


def _is_sign(limb: np.ndarray) -> bool:
    return bool(((limb == 0) | (limb == -1)).all())


def _rounded(limbs: list[int], unit: int) -> float:
    total = 0
    for limb in reversed(limbs):
        total = (total << _BITS) + limb
    try:
        # Of integers: rounded once, to the nearest even.
        return float(total << unit) if unit >= 0 else total / (1 << -unit)
    except OverflowError:
        return -math.inf if total < 0 else math.inf
