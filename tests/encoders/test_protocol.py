from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from captum_neuroinspect.encoders import ImageTextEncoder
from captum_neuroinspect.encoders.protocol import check_images


def _images(value: float = 0.5, **options: torch.dtype) -> Tensor:
    return torch.full((2, 3, 4, 4), value, **options)


def _with_one(value: float) -> Tensor:
    images = _images()
    images[1, 2, 3, 3] = value
    return images


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_images_in_range_pass(dtype):
    check_images(torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)]).to(dtype))


@pytest.mark.parametrize("value", [-0.0009, 1.0009])
def test_rounding_beyond_the_range_passes(value):
    check_images(_with_one(value))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.002, "values in -0.002..0.5, expected 0..1"),
        (1.002, r"values in 0.5..1.002, expected 0..1"),
        (255.0, r"values in 0.5..255, expected 0..1"),
        (-math.inf, r"values in -inf..0.5, expected 0..1"),
        (math.nan, "NaN"),
    ],
)
def test_one_bad_pixel_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        check_images(_with_one(value))


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 1, 4, 4), (2, 4, 4, 3), (0, 3, 4, 4), (2, 12)])
def test_other_shapes_are_refused_and_named(shape):
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        check_images(torch.zeros(shape))


@pytest.mark.parametrize("images", [_images().byte(), _images().long(), [[0.5]]])
def test_other_kinds_are_refused(images):
    with pytest.raises(TypeError, match=r"images (has dtype|is a list)"):
        check_images(images)


def test_protocol_tells_encoders_from_functions():
    class Encoder:
        network = nn.Identity()

        def encode_image(self, images: Tensor) -> Tensor:
            return images

        def encode_text(self, texts: list[str]) -> Tensor:
            return torch.zeros(len(texts), 1)

    assert isinstance(Encoder(), ImageTextEncoder)
    assert not isinstance(Encoder().encode_text, ImageTextEncoder)


def test_importing_encoders_is_lazy():
    code = (
        "import sys, captum_neuroinspect.encoders, captum_neuroinspect.models.weights\n"
        "heavy = {'open_clip', 'transformers', 'matplotlib', 'timm', 'efficientnet_lite_pytorch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=900
    )
    assert done.stdout.strip() == "[]"
