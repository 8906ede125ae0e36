"""Pictures become small data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from captum_neuroinspect.inspection.report.pictures import thumbnail


def _decoded(uri: str) -> Image.Image:
    head, code = uri.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(code)))


@pytest.mark.parametrize(
    ("height", "width", "shown", "stored"),
    [
        (600, 600, (100, 100), (200, 200)),
        (300, 600, (100, 50), (200, 100)),
        (40, 20, (50, 100), (20, 40)),  # small ones are not blown up in the file
        (1, 5000, (100, 1), (200, 1)),
    ],
)
def test_shown_size_keeps_the_shape_and_the_file_is_at_most_twice_that(
    height: int, width: int, shown: tuple[int, int], stored: tuple[int, int]
) -> None:
    result = thumbnail(torch.rand(3, height, width), 100)
    assert (result.width, result.height) == shown
    assert _decoded(result.uri).size == stored


def test_tensor_and_image_give_the_same() -> None:
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5)
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    assert thumbnail(image, 8) == thumbnail(values, 8)


def test_grey_and_out_of_range_values_are_taken() -> None:
    values = torch.tensor([[[-3.0, 9.0], [float("nan"), 0.5]]])
    plain = torch.tensor([[0.0, 1.0], [0.0, 0.5]]).expand(3, 2, 2)
    assert thumbnail(values, 8) == thumbnail(plain, 8)


def test_transparent_is_white_and_the_image_stays_as_it_was() -> None:
    image = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    assert _decoded(thumbnail(image, 10).uri).getpixel((5, 5)) == (255, 255, 255)
    assert image.size == (300, 300)
    photo = Image.new("RGB", (300, 300), "red")
    thumbnail(photo, 10)
    assert photo.size == (300, 300)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(4, 4),
        torch.rand(2, 4, 4),
        torch.rand(3, 0, 4),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
    ],
)
def test_other_tensors_are_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected \(1 or 3, H, W\) in 0..1"):
        thumbnail(tensor, 10)


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match="expected a PIL image or a tensor"):
        thumbnail(np.zeros((3, 4, 4)), 10)  # type: ignore[arg-type]
