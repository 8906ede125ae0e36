import pytest
import torch

from captum_neuroinspect.optvis._pictures.composite import as_pictures, checkerboard, composite

IMAGES = torch.rand(2, 3, 20, 24)
MASKS = torch.rand(2, 1, 20, 24)


@pytest.mark.parametrize(
    ("background", "value"), [("grey", 0.5), ("white", 1.0), ("black", 0.0), (0.25, 0.25), (1, 1.0)]
)
def test_shades(background, value):
    expected = IMAGES * MASKS + value * (1 - MASKS)
    torch.testing.assert_close(composite(IMAGES, MASKS, background), expected)


@pytest.mark.parametrize("background", ["grey", "checker", 0.3, torch.rand(2, 3, 20, 24)])
def test_opaque_and_transparent(background):
    opaque, clear = torch.ones_like(MASKS), torch.zeros_like(MASKS)
    assert composite(IMAGES, opaque, background).equal(IMAGES)
    nothing = composite(IMAGES, clear, background)
    assert nothing.equal(composite(torch.rand_like(IMAGES), clear, background))
    assert nothing.shape == IMAGES.shape


@pytest.mark.parametrize("shape", [(), (3,), (3, 20, 24), (1, 20, 24), (2, 3, 20, 24), (20, 24)])
def test_tensors_of_any_shape_that_fits(shape):
    background = torch.rand(shape)
    seen = composite(IMAGES, torch.zeros_like(MASKS), background.double())
    colour = background[:, None, None] if len(shape) == 1 else background
    assert seen.equal(colour.expand_as(IMAGES))
    assert seen.dtype == torch.float32


def test_checkerboard():
    board = checkerboard((17, 20))
    assert board.shape == (17, 20)
    assert board[:8, :8].eq(board[0, 0]).all()
    assert board[0, 0] == board[8, 8] == board[16, 16]
    assert board[0, 0] - board[0, 8] > 0.2


def test_pictures_are_rounded_and_cut_off():
    image = torch.tensor([-1.0, 0.5, 2.0]).view(1, 3, 1, 1)
    assert as_pictures(image)[0].getpixel((0, 0)) == (0, 128, 255)
    assert as_pictures(image[:, :1].bfloat16())[0].mode == "L"


@pytest.mark.parametrize(
    ("background", "error", "message"),
    [
        ("pink", ValueError, "background='pink', expected one of grey, white, black, checker"),
        (1.5, ValueError, r"background reaches from 1\.5 to 1\.5, expected 0\.\.1"),
        (torch.tensor([0.0, torch.nan, 1.0]), ValueError, "background reaches from nan"),
        (torch.rand(2), ValueError, r"background has shape \(2, 1, 1\)"),
        (torch.rand(3, 3, 20, 24), ValueError, r"background has shape \(3, 3, 20, 24\)"),
        (torch.rand(1, 2, 3, 20, 24), ValueError, "background has shape"),
        (None, TypeError, "background is NoneType, expected a name, a number or a tensor"),
    ],
)
def test_bad_backgrounds(background, error, message):
    with pytest.raises(error, match=message):
        composite(IMAGES, MASKS, background)
