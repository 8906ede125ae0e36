"""Large arrays a block of rows at a time, so that no step makes a second one of their size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_N_NUMBERS = 2**23  # in a block: 32 MB of float32


def blocks(rows: Tensor) -> Iterator[Tensor]:
    """Views of some rows each, of a size that may be copied.

    Examples::

        >>> [len(block) for block in blocks(torch.empty(5, 2**22))]
        [2, 2, 1]
    """
    yield from rows.split(max(1, _N_NUMBERS // max(1, rows[:1].numel())))


def by_blocks(function: Callable[..., Tensor], rows: Tensor, *others: Tensor) -> Tensor:
    """A function of each row by itself, such as ``(N, C)`` to ``(N,)``.

    Args:
        function: of a block of ``rows``, and the same rows of each of ``others``.
        rows: ``(N, ...)``, whose size counts.
        others: ``(N, ...)``, smaller ones.
    """
    sizes = [len(block) for block in blocks(rows)]
    parts = zip(*(one.split(sizes) for one in (rows, *others)), strict=True)
    return torch.cat([function(*part) for part in parts])


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(block.isfinite().all()) for block in blocks(values))
