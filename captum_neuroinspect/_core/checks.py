"""Checks of arguments that several modules of this folder share."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral


def as_size(size: int | Sequence[int]) -> tuple[int, int]:
    """Turn ``224`` or ``(height, width)`` into ``(height, width)`` in pixels.

    Raises:
        TypeError: when ``size`` is neither an int nor two ints.
        ValueError: when a side is smaller than 1 pixel.
    """
    sides = (size, size) if isinstance(size, Integral) else size
    if isinstance(sides, str) or not isinstance(sides, Sequence):
        raise TypeError(f"size={size!r}, expected an int or (height, width)")
    if len(sides) != 2 or not all(isinstance(side, Integral) for side in sides):
        raise TypeError(f"size={size!r}, expected an int or two ints (height, width)")
    if min(sides) < 1:
        raise ValueError(f"size={size!r}, expected sides of at least 1 pixel")
    return int(sides[0]), int(sides[1])


def check_whole(name: str, value: object) -> None:
    """Refuse what is not an int, such as the 4.5 that ``9 / 2`` gives."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r}, expected a whole number")


def check_at_least(name: str, value: float, minimum: float) -> None:
    """Refuse a number below ``minimum`` (or NaN)."""
    if not value >= minimum:
        raise ValueError(f"{name}={value}, expected at least {minimum}")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside ``low..high`` (or NaN)."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value}, expected {low}..{high}")


def check_seed(name: str, value: object) -> None:
    """Refuse what no generator takes: seeds are whole numbers of 64 bits."""
    check_whole(name, value)
    assert isinstance(value, Integral)
    if not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"{name}={value}, expected a number of at most 64 bits, such as 0")
