"""A share with what its number of samples says about it: count and interval."""

from __future__ import annotations

FEW = 20  # samples; a share of fewer carries its count and interval


def share_interval(n_right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, from 0 to 1; without samples all of it.

    Args:
        n_right: how many of the samples count, 0..n.
        n: how many samples there are.
        confidence: how often such an interval holds the true share.

    Raises:
        ValueError: when ``n_right`` is not in 0..n.

    Examples::

        >>> low, high = share_interval(3, 7)
        >>> round(low, 2), round(high, 2)
        (0.16, 0.75)
    """
    _check(n_right, n)
    if not n:
        return 0.0, 1.0
    # Imported here: it takes longer than all of this package.
    from scipy.stats import binomtest

    found = binomtest(n_right, n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def share_with_interval(n_right: int, n: int) -> str:
    """A share as text: of fewer than 20 samples its count and 95 % interval, else per cent.

    Args:
        n_right: how many of the samples count, 0..n.
        n: how many samples there are.

    Raises:
        ValueError: when ``n_right`` is not in 0..n.

    Examples::

        >>> share_with_interval(3, 7)
        '3 of 7 (95 %: 0.16 to 0.75)'
        >>> share_with_interval(30, 40), share_with_interval(0, 0)
        ('75.0 %', 'none')
    """
    _check(n_right, n)
    if not n:
        return "none"
    if n >= FEW:
        return f"{100 * n_right / n:.1f} %"
    low, high = share_interval(n_right, n)
    return f"{n_right} of {n} (95 %: {low:.2f} to {high:.2f})"


def _check(n_right: int, n: int) -> None:
    if not 0 <= n_right <= n:
        raise ValueError(f"n_right={n_right} of n={n}, expected a count from 0 to n")
