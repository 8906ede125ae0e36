"""Samples that are the same, by what the decision layer sees of them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def row_names(features: Tensor, labels: Tensor | None = None) -> list[str]:
    """One name a sample; equal features, bit by bit, and equal labels have the same.

    Args:
        features: ``(N, F)``.
        labels: ``(N,)`` or ``(N, C)``; ``None``: only features count.

    Examples::

        >>> import torch
        >>> z = torch.tensor([[0.0, 1.0], [2.0, 1.0], [-0.0, 1.0]])
        >>> names = row_names(z)
        >>> names[0] == names[2], names[0] == names[1]
        (True, False)
    """
    # Adding 0 makes a 0 of -0, which is the same number.
    parts = [features + 0.0] if labels is None else [features + 0.0, labels]
    arrays = [part.detach().cpu().contiguous().numpy() for part in parts]
    return [
        hashlib.blake2b(b"".join(row.tobytes() for row in rows), digest_size=16).hexdigest()
        for rows in zip(*arrays, strict=True)
    ]


def row_numbers(features: Tensor) -> Tensor:
    """``(N,)`` int64, the names of samples as numbers: they take little room in a file."""
    # 60 bits tell a billion samples apart.
    numbers = [int(name[:15], 16) for name in row_names(features)]
    return torch.tensor(numbers, dtype=torch.int64)
