from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from captum_neuroinspect.describe import ATTRIBUTES, attribute_scores

SIDE = 128


def plain(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue])[:, None, None].expand(3, SIDE, SIDE).clone()


def scores(image: Tensor) -> dict[str, float]:
    found = attribute_scores([image])
    return dict(zip(found.phrases, found.scores[0].tolist(), strict=True))


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """Smooth structure at all sizes, as photos have it."""
    rng = torch.Generator().manual_seed(0)
    parts = [
        F.interpolate(torch.rand(1, 3, n, n, generator=rng), SIDE, mode="bilinear") / n**0.5
        for n in (2, 4, 8, 16, 32, 64)
    ]
    image = torch.stack(parts).sum(0)[0]
    return (image - image.min()) / (image.max() - image.min())


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((0.9, 0.1, 0.1), "red"),
        ((0.95, 0.5, 0.1), "orange"),
        ((0.9, 0.9, 0.1), "yellow"),
        ((0.1, 0.7, 0.1), "green"),
        ((0.1, 0.2, 0.9), "blue"),
        ((0.5, 0.1, 0.8), "purple"),
        ((0.9, 0.2, 0.6), "pink"),
        ((0.4, 0.25, 0.12), "brown"),
        ((0.02, 0.02, 0.02), "black"),
        ((0.97, 0.97, 0.97), "white"),
        ((0.5, 0.5, 0.5), "grey"),
    ],
)
def test_a_plain_colour_is_that_colour_alone(colour, name) -> None:
    found = scores(plain(*colour))
    shares = {key: found[key] for key in ATTRIBUTES[: ATTRIBUTES.index("bright")]}
    assert shares.pop(name) == 1
    assert set(shares.values()) == {0}


def test_shares_of_colours_are_shares_of_pixels() -> None:
    image = plain(0.9, 0.1, 0.1)
    image[:, :, : SIDE // 4] = plain(0.1, 0.7, 0.1)[:, :, : SIDE // 4]
    found = scores(image)
    assert found["red"] == pytest.approx(0.75, abs=0.02)
    assert found["green"] == pytest.approx(0.25, abs=0.02)


def _stripes(photo: Tensor) -> Tensor:
    wave = (torch.arange(SIDE) % 8 < 4).float() * 0.6 - 0.3
    return (photo + wave).clamp(0, 1)


def _dots(photo: Tensor) -> Tensor:
    axis = torch.arange(SIDE) % 16 - 7.5
    is_dot = axis[:, None].square() + axis.square() < 16
    return torch.where(is_dot, 0.05, photo)


def _letters(photo: Tensor) -> Tensor:
    from PIL import Image, ImageDraw, ImageFont
    from torchvision.transforms.v2.functional import pil_to_tensor

    page = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(page)
    for line in range(8):
        draw.text((2, 16 * line), "lorem ipsum dolor", 255, ImageFont.load_default(14))
    return photo.maximum(pil_to_tensor(page).float() / 255)


def _frame(photo: Tensor) -> Tensor:
    framed = torch.zeros_like(photo)
    framed[:, 12:-12, 12:-12] = photo[:, 12:-12, 12:-12]
    return framed


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda photo: 0.5 * photo, "dark"),
        (lambda photo: 0.5 + 0.5 * photo, "bright"),
        (lambda photo: 0.7 + 0.3 * (photo - 0.5), "pale"),
        (lambda photo: gaussian_blur(photo, [13, 13], [3.0, 3.0]), "blurred"),
        (lambda photo: (photo + 0.1 * torch.randn(photo.shape)).clamp(0, 1), "grainy"),
        (_stripes, "stripes"),
        (_stripes, "fine texture"),
        (_dots, "dots"),
        (_letters, "text"),
        (_frame, "frame"),
    ],
)
def test_what_is_put_into_a_photo_raises_its_score(photo: Tensor, change, name: str) -> None:
    torch.manual_seed(0)
    before, after = scores(photo), scores(change(photo))
    assert after[name] > before[name] + 0.01


def test_a_batch_gives_the_same_as_single_photos(photo: Tensor) -> None:
    photos = [photo, _stripes(photo), _dots(photo)[:, :100, :80]]
    together = attribute_scores(photos, batch_size=2).scores
    singles = torch.cat([attribute_scores([one]).scores for one in photos])
    torch.testing.assert_close(together, singles)


def test_a_plain_photo_has_finite_scores() -> None:
    assert attribute_scores([plain(0.0, 0.0, 0.0), plain(1.0, 1.0, 1.0)]).scores.isfinite().all()


def test_bad_images_are_told() -> None:
    with pytest.raises(ValueError, match=r"1, 8, 8"):
        attribute_scores([torch.rand(1, 8, 8)])
    with pytest.raises(ValueError, match="images has no photos"):
        attribute_scores([])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        attribute_scores([255 * plain(1.0, 0.0, 0.0)])
    with pytest.raises(ValueError, match="batch_size=0, expected at least 1"):
        attribute_scores([plain(1.0, 0.0, 0.0)], batch_size=0)


def test_rounding_in_a_plain_photo_is_no_stripe() -> None:
    grey = attribute_scores([plain(v, v, v) for v in (0.3, 0.5, 0.77)])
    assert grey.of("stripes").max() < 1e-3


def test_scores_are_the_same_with_gradients_and_another_dtype(photo: Tensor) -> None:
    usual = attribute_scores([photo]).scores
    torch.set_default_dtype(torch.float64)
    try:
        found = attribute_scores([photo.clone().requires_grad_()]).scores
    finally:
        torch.set_default_dtype(torch.float32)
    assert not found.requires_grad
    torch.testing.assert_close(found, usual)
