from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from captum_neuroinspect.photos import Resizing, View


def _picture(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    blobs = torch.rand(3, 1 + height // 8, 1 + width // 8, generator=generator)
    return (tv.resize(blobs, [height, width]) * 255).to(torch.uint8)


@pytest.mark.parametrize("shape", [(40, 70), (70, 40), (33, 33), (9, 50)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("resize", "steps"),
    [
        (None, [v2.Resize([24]), v2.CenterCrop(24)]),
        ("crop 30", [v2.Resize([30]), v2.CenterCrop(24)]),
        ("squash", [v2.Resize([24, 24])]),
        ("squash 28", [v2.Resize([28, 28]), v2.CenterCrop(24)]),
    ],
)
def test_a_picture_is_what_torchvision_makes_of_it(
    shape: tuple[int, int], interpolation: Any, resize: str | None, steps: list[Any]
) -> None:
    mode, picture = v2.InterpolationMode(interpolation), _picture(*shape)
    expected = tv.to_pil_image(picture)
    for step in steps:
        if isinstance(step, v2.Resize):
            step = v2.Resize(step.size, interpolation=mode)
        expected = step(expected)
    view = View.of(24, resize, interpolation)
    pixels = view.of_picture(picture)
    assert torch.equal(pixels, tv.to_dtype(tv.pil_to_tensor(expected), torch.float32, scale=True))
    if interpolation in ("bilinear", "bicubic"):
        assert (view.of_tensor(picture) - pixels).abs().max() <= 1 / 255 + 1e-6
    assert 0 <= view.of_tensor(picture / 255).min() <= view.of_tensor(picture / 255).max() <= 1


def test_borders_keep_the_whole_picture() -> None:
    red = torch.zeros(3, 10, 20, dtype=torch.uint8)
    red[0] = 255
    view = View.of(16, "border 16 #0000ff")
    for image in (view.of_picture(red), view.of_tensor(red), view.of_tensor(red / 255)):
        assert torch.equal(image[:, :4], torch.tensor([0.0, 0, 1])[:, None, None].expand(3, 4, 16))
        torch.testing.assert_close(image[0, 4:12], torch.ones(8, 16))
        assert torch.equal(image[:, 12:], image[:, :4])


def test_tensors_of_the_size_stay_and_pictures_are_cropped_as_always() -> None:
    picture, view = _picture(16, 16), View.of(16, 32)
    as_floats = tv.to_dtype(picture, torch.float32, scale=True)
    assert torch.equal(view.of_tensor(picture), as_floats)
    assert not torch.equal(view.of_picture(picture), as_floats)


@pytest.mark.parametrize("resize", [None, "crop 40", "squash", "border"])
@pytest.mark.parametrize("size", [(24, 24), (24, 16), (16, 24)])
def test_every_shape_comes_to_the_size(resize: str | None, size: tuple[int, int]) -> None:
    view = View.of(size, resize)
    for shape in ((1, 1), (1, 300), (300, 1), (24, 16), (17, 31)):
        for image in (view.of_picture(_picture(*shape)), view.of_tensor(_picture(*shape) / 255)):
            assert image.shape == (3, *size)


@pytest.mark.parametrize("shape", [(20, 1001), (1000, 21), (3, 640), (1, 500)])
def test_a_strip_looks_as_if_it_was_resized_whole(shape: tuple[int, int]) -> None:
    waves = torch.linspace(0, 40, max(shape)).sin() / 2 + 0.5
    image = waves.expand(3, min(shape), -1)
    image = image if shape[1] > shape[0] else image.transpose(1, 2)
    whole = tv.center_crop(tv.resize(image, [32], antialias=True), [24])
    torch.testing.assert_close(View.of(24, 32).of_tensor(image), whole, rtol=0, atol=0.02)


def test_a_strip_is_cut_to_its_middle_before_it_is_enlarged(monkeypatch) -> None:
    seen: list[list[int]] = []
    resize = tv.resize

    def watched(image: Any, to: list[int], **options: Any) -> Any:
        seen.append(to)
        return resize(image, to, **options)

    monkeypatch.setattr(tv, "resize", watched)
    strip = torch.zeros(3, 3, 30_000, dtype=torch.uint8)
    strip[..., 15_000:] = 255
    image = View.of(24, 32).of_picture(strip)
    assert max(seen[0]) < 1000
    # Its middle is where the whole strip's is.
    assert torch.equal(image[..., :5], torch.zeros(3, 24, 5))
    assert torch.equal(image[..., -5:], torch.ones(3, 24, 5))
    assert abs(float(image.mean()) - 0.5) < 0.02
    squashed = View.of(24, "squash").of_picture(strip)
    assert torch.equal(squashed[..., :11], torch.zeros(3, 24, 11))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("stretch", ValueError, "resize='stretch', expected 'crop'"),
        ("crop -3", ValueError, "resize='crop -3', expected at least 1 pixel"),
        ("crop 3 4", ValueError, "expected 'crop'"),
        ("squash #ffffff", ValueError, "expected 'crop'"),
        (2.5, TypeError, "resize is float"),
        (True, TypeError, "resize is bool"),
    ],
)
def test_bad_resizings(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Resizing.of(given)


def test_bad_views() -> None:
    for size, resize in ((0, None), (8, 4), ((8, 16), 12), (8, "squash 4")):
        with pytest.raises(ValueError, match="the crop no larger than what it is cut from"):
            View.of(size, resize)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="interpolation='cubic', expected one of nearest"):
        View.of(8, interpolation="cubic")  # type: ignore[arg-type]


def test_another_size_and_words() -> None:
    assert View.of(224, 256).at_size(112) == View.of(112, 128)
    assert View.of(224, "squash").at_size(112) == View.of(112, "squash")
    assert View.of(224, "squash 248").at_size(112) == View.of(112, "squash 124")
    assert View.of(224, 256, "bicubic").with_resize("squash") == View.of(224, "squash", "bicubic")
    for resize, words in {
        256: "shorter side 256, centre 224 x 224 pixels",
        "squash": "squashed to 224 x 224 pixels",
        "squash 248": "squashed to 248 x 248, centre 224 x 224 pixels",
        "border": "whole, with borders, in 224 x 224 pixels",
        "border 224": "whole, with borders, in 224 x 224 pixels",
        "border 20": "longer side 20, with borders around it, in 224 x 224 pixels",
        "border 256": "longer side 256, with borders, centre 224 x 224 pixels",
    }.items():
        view = View.of(224, resize)
        assert view.said == words
        assert View.of(view.image_size, view.resize_size).said == words  # both are enough
    assert View.of((32, 64), "squash").said == "squashed to 64 x 32 pixels"
    assert View.of((32, 64)).image_size == (32, 64)
