"""What the items of a user's data set mean: class labels and groups, or why they cannot be used."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_label(value: Any) -> int | Tensor:
    """A label as a class index, or as a row of zeros and ones.

    Raises:
        TypeError: for text, nothing, or a number that is not whole.
        ValueError: for a negative number.
    """
    if isinstance(value, (str, bytes)):
        raise TypeError(
            f"the label is the text {value!r}, expected a class number: give the Dataset a "
            "target_transform such as names.index (Hugging Face: "
            "data.class_encode_column('label'))"
        )
    tensor = _tensor(value)
    if tensor is None or tensor.ndim > 1:
        raise TypeError(f"the label is {_shown(value)}, expected a class number or multi-hot row")
    is_whole = not (tensor.is_floating_point() or tensor.is_complex())
    if tensor.ndim == 1 and not (is_whole and len(tensor) == 1):
        return tensor
    if not is_whole:
        raise TypeError(f"the label is {_shown(value)}, expected a class number: a whole one")
    if tensor.item() < 0:
        raise ValueError(
            f"the label is {int(tensor.item())}, expected 0 or more: is this an item without a "
            "label, as in an unlabelled test set? Leave it out"
        )
    return int(tensor.item())


def as_group(value: Any) -> int:
    """The third entry of an item as a group's number.

    Raises:
        TypeError: for text, a vector such as WILDS's metadata, or no whole number.
        ValueError: for a negative number.
    """
    if isinstance(value, (str, bytes)):
        raise TypeError(
            f"the third entry is the text {value!r}, expected a group's number: give a Dataset "
            "of (image, label) or (image, label, group)"
        )
    tensor = _tensor(value)
    if tensor is None or tensor.numel() != 1:
        raise TypeError(
            f"the third entry is {_shown(value)}, expected a group's number: of metadata with "
            "several columns, as WILDS has them, give the one that is the group"
        )
    if tensor.is_floating_point() or tensor.is_complex():
        raise TypeError(f"the group is {_shown(value)}, expected a whole number")
    if tensor.item() < 0:
        raise ValueError(f"the group is {int(tensor.item())}, expected 0 or more")
    return int(tensor.item())


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, (list, tuple)) and not all(np.isscalar(one) for one in value):
        return None
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):  # None, texts in a list, a dictionary
        return None


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None and len(shape):
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    return repr(value) if len(repr(value)) < 80 else f"a {type(value).__name__}"
