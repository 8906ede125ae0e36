"""Batches that go through the networks in as large portions as memory allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

# PyTorch has one class for accelerators; its CPU and its libraries only say it in words.
_WORDS = ("out of memory", "not enough memory", "DefaultCPUAllocator", "ALLOC_FAILED")


class Portions:
    """Does work for the rows of a batch, fewer at a time when memory runs out.

    What does not fit is tried again at half the size, and nothing that was done is
    done again. The smaller size is kept for what follows.

    Args:
        size: rows that are tried together at first, at least 1.

    Examples::

        >>> Portions(3).run(5, lambda rows: (rows.start, rows.stop))
        [(0, 3), (3, 5)]
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, n: int, work: Callable[[slice], Result]) -> list[Result]:
        """Results of ``work`` for rows ``0..n-1`` in order, one per portion.

        Raises:
            MemoryError: when a single row does not fit; or whatever else said so,
                ``torch.OutOfMemoryError`` or ``RuntimeError``.
        """
        results: list[Result] = []
        start = 0
        while start < n:
            rows = slice(start, min(start + self.size, n))
            done = self._attempt(work, rows)
            # In a tuple, as the result itself may be None.
            if done:
                results += done
                start = rows.stop
            else:
                self.size = (rows.stop - rows.start) // 2
                torch.cuda.empty_cache()
        return results

    def _attempt(self, work: Callable[[slice], Result], rows: slice) -> tuple[Result, ...]:
        """The result, or nothing when memory ran out."""
        try:
            return (work(rows),)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if rows.stop - rows.start == 1:
                raise _with_advice(error) from error
        # Only here is the error gone, which keeps the tensors of its frames alive.
        return ()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on any device."""
    # The alias that PyTorch 2.3 has too.
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def _with_advice(error: Exception) -> Exception:
    """The same kind of error; a subclass may take other arguments than a text."""
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)
    return kind(
        "not enough memory for a single image: try a smaller size, precision='bfloat16', "
        f"a smaller encoder or another device ({error})"
    )
