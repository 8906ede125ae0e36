"""From spectra to images in 0..1 and back: what the parameterizations share."""

from __future__ import annotations

import torch
from torch import Tensor

# Divides the image before the sigmoid, so that a step of the optimiser does not saturate
# it. Lucid and Lucent use the same value, which makes step sizes comparable with theirs.
SOFTNESS = 4.0
# From Lucid (https://github.com/tensorflow/lucid, lucid/optvis/param/color.py), Apache License 2.0.
_COLOUR_BASIS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
# Less than half a grey level: black and white have no logit, but survive as 8-bit values.
DARKEST = 0.4 / 255


def to_images(spectrum: Tensor, size: tuple[int, int]) -> Tensor:
    """Images ``(N, C, H, W)`` in 0..1 of complex spectra ``(N, C, H, W // 2 + 1)``.

    Three channels are colours, mixed by Lucid's basis; other numbers are taken as
    they are.
    """
    image = torch.fft.irfft2(spectrum, s=size, norm="ortho") / SOFTNESS
    if image.shape[1] == 3:
        # Where a caller's autocast is on, for networks, pixels would be rounded to grey levels.
        with torch.autocast(image.device.type, enabled=False):
            image = torch.einsum("ncij,dc->ndij", image, _colour_basis().to(image))
    return image.sigmoid()


def to_spectrum(images: Tensor) -> Tensor:
    """The inverse of :func:`to_images`, with images clamped to ``0.4 .. 254.6`` grey levels."""
    logits = images.float().clamp(DARKEST, 1 - DARKEST).logit()
    if images.shape[1] == 3:
        inverse = torch.linalg.inv(_colour_basis().double()).to(logits)
        logits = torch.einsum("ncij,dc->ndij", logits, inverse)
    return torch.fft.rfft2(logits * SOFTNESS, norm="ortho")


def frequency_scale(height: int, width: int, decay_power: float) -> Tensor:
    """Weights ``(height, width // 2 + 1)``: one over the frequency, as in natural images."""
    vertical = torch.fft.fftfreq(height).unsqueeze(1)
    frequency = torch.hypot(vertical, torch.fft.rfftfreq(width))
    lowest = 1.0 / max(height, width)
    return frequency.clamp_min(lowest).pow(-decay_power)


def published_scale(height: int, width: int) -> Tensor:
    """The weights of the authors' code, ``(height, width // 2 + 1)``.

    With f in waves a pixel its weights are ``(2 f^2)^-0.75``, and at most ``side / sqrt(2)``, which
    is all below some five waves a side. It does not divide by :data:`SOFTNESS`.
    """
    vertical = torch.fft.fftfreq(height).unsqueeze(1)
    squared = 2 * (vertical.square() + torch.fft.rfftfreq(width).square())
    return SOFTNESS / squared.pow(0.75).clamp_min(2**0.5 / max(height, width))


def check_images(name: str, images: Tensor) -> None:
    """Refuse what is not a batch ``(N, C, H, W)`` of pictures in 0..1.

    Raises:
        TypeError: when it is no floating point tensor.
        ValueError: for another shape, or values outside 0..1.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name} is {kind}, expected a floating point tensor of images in 0..1")
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"{name} has shape {tuple(images.shape)}, expected (N, C, H, W)")
    # Not `min() < 0 or max() > 1`, which NaN would pass.
    if not (images.min() >= 0 and images.max() <= 1):
        low, high = images.min().item(), images.max().item()
        raise ValueError(f"{name} has values {low:.3g}..{high:.3g}, expected 0..1")


def _colour_basis() -> Tensor:
    """Lucid's square root of the covariance of ImageNet colours, (3, 3), as Lucent scales it."""
    basis = torch.tensor(_COLOUR_BASIS, dtype=torch.float32)
    return basis / basis.norm(dim=0).max()
