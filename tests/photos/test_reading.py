from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import Listed

from captum_neuroinspect.photos import Photos


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.tensor([-2.1, 2.6]), r"photo 1: values from -2.1 to 2.6: normalised already\?"),
        (torch.tensor([-1.0, 1.0]), r"photo 1: values from -1 to 1: normalised already\?"),
        (torch.tensor([0.0, 255.0]), r"photo 1: values from 0 to 255, .* divide by 255"),
    ],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_values_of_a_transform_are_no_unreadable_photo(
    image: torch.Tensor, message: str, as_array: bool
) -> None:
    """Left out one by one, hardly any photo of the data would be left, and no one would know."""
    picture: Any = image.expand(3, 2, 2)
    if as_array:
        picture = np.asarray(picture.permute(1, 2, 0))
    data = Listed([(torch.zeros(3, 2, 2), 0), (picture, 0), (torch.zeros(3, 2, 2), 0)])
    with pytest.raises(ValueError, match=message) as said:
        Photos.of(data, image_size=2).image(1)
    assert "skip" not in str(said.value)
    with pytest.raises(ValueError, match=message):
        Photos.of(data, image_size=2, on_error="skip")


@pytest.mark.parametrize(
    ("rest", "error", "message"),
    [
        (("cat",), TypeError, "photo 1: the label is the text 'cat', expected a class number"),
        ((-1,), ValueError, "photo 1: the label is -1, expected 0 or more"),
        ((None,), TypeError, "photo 1: the label is None"),
        ((0, "a/b.jpg"), TypeError, "photo 1: the third entry is the text 'a/b.jpg'"),
        ((0, torch.tensor([1, 2, 3])), TypeError, r"photo 1: the third entry is a Tensor of shap"),
        ((0, [1, 2]), TypeError, r"photo 1: the third entry is \[1, 2\], expected a group's"),
        ((0, 1, 2), TypeError, "photo 1: the item is a tuple of 4"),
        (([[1, 0]],), TypeError, "photo 1: the label is"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_items_that_are_no_photos_with_a_label(
    rest: tuple[Any, ...], error: type[Exception], message: str, on_error: Any
) -> None:
    data = Listed([(torch.zeros(3, 2, 2), 0), (torch.zeros(3, 2, 2), *rest)])
    with pytest.raises(error, match=message):
        Photos.of(data, image_size=2, on_error=on_error).item(1)


def test_labels_in_a_column_are_numbers() -> None:
    data = Listed([(torch.zeros(3, 2, 2), np.array([3])), (torch.zeros(3, 2, 2), torch.tensor(2))])
    assert Photos.of(data).labels.tolist() == [3, 2]
