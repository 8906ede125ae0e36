"""Drawing one part of a data set, class by class, without tearing units apart."""

from __future__ import annotations

import torch
from torch import Tensor


def first_part(labels: Tensor, units: Tensor, fraction: float, seed: int) -> Tensor:
    """``(N,)`` mask of the samples in the first part, about ``fraction`` of each class."""
    generator = torch.Generator().manual_seed(seed)
    first, placed = torch.zeros(2, len(labels), dtype=torch.bool)
    for label in labels.unique():
        of_class = labels == label
        # Units that came with an earlier class stay where they are, and count.
        n_first = len(units[of_class & first].unique())
        n_missing = round(fraction * len(units[of_class].unique())) - n_first
        free = units[of_class & ~placed].unique()
        free = free[torch.randperm(len(free), generator=generator)]
        first |= torch.isin(units, free[: max(n_missing, 0)])
        placed |= torch.isin(units, free)
    return first
