"""Which samples an edit has seen, by short names of their features."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.same_samples import row_names


def names_of(*sets: FeatureSet | None) -> Tensor:
    """``(N,)`` int64: one name for each different sample of these sets; ``None`` is no set.

    Two samples have the same name if their features are the same.

    Examples::

        >>> z = torch.tensor([[1.0], [2.0], [1.0]])
        >>> data = FeatureSet(z, z, torch.zeros(3, dtype=torch.int64))
        >>> len(names_of(data, None)), is_in(data, names_of(data.subset(torch.tensor([1]))))
        (2, tensor([False,  True, False]))
    """
    return torch.cat([_names(one) for one in sets if one is not None]).unique()


def is_in(features: FeatureSet, seen: Tensor) -> Tensor:
    """``(N,)`` whether a sample has one of these names."""
    return torch.isin(_names(features), seen)


def _names(features: FeatureSet) -> Tensor:
    # 60 bits tell a billion samples apart, and take little room in a file.
    numbers = [int(name[:15], 16) for name in row_names(features.features)]
    return torch.tensor(numbers, dtype=torch.int64)
