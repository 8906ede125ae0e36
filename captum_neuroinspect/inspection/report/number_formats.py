"""Numbers as a reader wants them."""

from __future__ import annotations

from captum_neuroinspect._core.shares import FEW, share_with_interval

_NONE = "\u2013"
_MINUS = "\u2212"
_SPACE = "\u00a0"  # at which no line ends


def percent(share: float | None, digits: int = 1) -> str:
    r"""A share as a percentage.

    Example:
        >>> percent(0.256)
        '25.6\xa0%'
    """
    return _NONE if share is None else f"{100 * share:.{digits}f}{_SPACE}%"


def share(value: float | None, n: int | None) -> str:
    r"""A share as a percentage, or, of fewer than 20, as a count with its 95 % interval.

    Example:
        >>> share(0.5, 2), share(0.5, 40), share(0.5, None)
        ('1 of 2 (95\xa0%: 0.09 to 0.91)', '50.0\xa0%', '50.0\xa0%')
    """
    if value is None or n is None or not 0 < n < FEW:
        return percent(value)
    return share_with_interval(round(value * n), n).replace(" %", f"{_SPACE}%")


def points(before: float | None, after: float | None, digits: int = 1) -> str:
    """The difference of two shares in percentage points, with its sign.

    Example:
        >>> points(0.25, 0.75)
        '+50.0'
    """
    if before is None or after is None:
        return _NONE
    text = f"{100 * (after - before):+.{digits}f}"
    return f"{0:.{digits}f}" if not float(text) else text.replace("-", _MINUS)


def number(value: float | None, digits: int = 3) -> str:
    """A number with a few significant digits.

    Example:
        >>> number(1234.56), number(0.25)
        ('1,235', '0.25')
    """
    if value is None:
        return _NONE
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return text.replace("-", _MINUS)


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign and fixed decimals, to stand in a column.

    Example:
        >>> signed(0.25)
        '+0.250'
    """
    return f"{value:+.{digits}f}".replace("-", _MINUS)


def count(n: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "photo"), count(1200, "photo")
        ('1 photo', '1,200 photos')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
