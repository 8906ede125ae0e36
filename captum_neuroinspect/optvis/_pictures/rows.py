"""Rows chosen from parts that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Rows = int | slice | Sequence[int] | Sequence[bool] | Tensor


def as_positions(which: Rows, n: int) -> Tensor:
    """The positions, 0 to ``n - 1``, that an index means; a single one gives one.

    Raises:
        TypeError: when ``which`` is no row, slice, list of rows or of booleans.
        IndexError: when a row does not exist.
        ValueError: when there are not ``n`` booleans.

    Examples::

        >>> as_positions(slice(None, None, -2), 5), as_positions(-1, 5)
        (tensor([4, 2, 0]), tensor([4]))
    """
    if isinstance(which, slice):
        return torch.tensor(range(n)[which], dtype=torch.int64)
    rows = _as_tensor(which)
    if rows.dtype == torch.bool:
        if len(rows) != n:
            raise ValueError(f"{len(rows)} booleans, expected {n}: one per row")
        return rows.nonzero()[:, 0]
    missing = rows[(rows < -n) | (rows >= n)]
    if len(missing):
        raise IndexError(f"row {int(missing[0])} does not exist, there are {n}")
    return rows % max(n, 1)


def chosen(part: Any, positions: Tensor) -> Any:
    """These rows of a tensor or a tuple; ``None`` stays ``None``."""
    if part is None or isinstance(part, Tensor):
        return None if part is None else part[positions]
    return tuple(part[position] for position in positions.tolist())


def _as_tensor(which: Any) -> Tensor:
    try:
        rows = torch.as_tensor(which, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        rows = torch.tensor(torch.nan)
    # An empty list has no type of its own.
    rows = rows.long() if rows.shape == (0,) and rows.dtype != torch.bool else rows
    is_single_bool = rows.dtype == torch.bool and rows.ndim == 0
    if rows.is_floating_point() or rows.is_complex() or rows.ndim > 1 or is_single_bool:
        raise TypeError(f"rows={which!r}, expected a row, a slice, or a list of rows or booleans")
    return rows if rows.dtype == torch.bool else rows.reshape(-1).long()
