"""Products whose rounding does not depend on how many rows there are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def row_by_row(product: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Apply a matrix product to each row by itself on a CPU, elsewhere to all at once.

    On a CPU a product of few rows adds up in another order for another number of rows, and
    an optimised image must not notice with how many others it is seen. On other devices
    this would cost too much, and their convolutions differ anyway.

    Args:
        product: takes ``(N, F)`` or ``(F,)``.
        rows: ``(N, F)``, N >= 1.

    Examples::

        >>> row_by_row(lambda values: values @ torch.eye(2), torch.ones(3, 2)).shape
        torch.Size([3, 2])
    """
    if rows.device.type != "cpu":
        return product(rows)
    return torch.stack([product(row) for row in rows])
