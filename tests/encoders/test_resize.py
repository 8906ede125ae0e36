from __future__ import annotations

import pytest
import torch

from captum_neuroinspect.encoders._resize import fit


def _ramp(height: int, width: int) -> torch.Tensor:
    """An image whose two channels are the row and the column of each pixel."""
    rows = torch.arange(height).view(-1, 1).expand(height, width)
    columns = torch.arange(width).expand(height, width)
    return torch.stack([rows, columns]).float().unsqueeze(0)


def test_same_size_is_left_alone():
    images = torch.rand(1, 3, 5, 7)
    assert fit(images, (5, 7), bicubic=True) is images


def test_shortest_crops_the_centre():
    images = _ramp(4, 8)
    assert torch.equal(fit(images, (4, 4), "shortest"), images[..., 2:6])
    assert torch.equal(fit(images.mT, (4, 4), "shortest"), images.mT[..., 2:6, :])


def test_longest_pads_with_black():
    images = 1 + _ramp(2, 4)
    fitted = fit(images, (4, 4), "longest")
    assert torch.equal(fitted[..., 1:3, :], images)
    assert fitted[..., [0, 3], :].eq(0).all()


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (31, 17), (5, 64), (64, 5)])
@pytest.mark.parametrize("size", [(8, 8), (12, 6)])
def test_any_size_becomes_the_wanted_one(mode, bicubic, shape, size):
    assert fit(torch.rand(2, 3, *shape), size, mode, bicubic=bicubic).shape == (2, 3, *size)


def test_reduction_is_antialiased():
    chessboard = ((torch.arange(32).view(-1, 1) + torch.arange(32)) % 2).float()
    fitted = fit(chessboard.expand(1, 3, 32, 32), (8, 8))
    torch.testing.assert_close(fitted, torch.full_like(fitted, 0.5), atol=0.02, rtol=0)


def test_gradient_reaches_every_pixel():
    images = torch.rand(1, 3, 20, 20, requires_grad=True)
    fit(images, (8, 8), bicubic=True).square().sum().backward()
    assert images.grad.ne(0).all()
