"""The image being optimised, as a spectrum: Lucent's ``param_f`` contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_neuroinspect.optvis._checks import as_size, check_at_least
from captum_neuroinspect.optvis._random import SPECTRUM, ImageGenerators

# Divides the image before the sigmoid, so that a step of the optimiser does not saturate
# it. Lucid and Lucent use the same value, which makes step sizes comparable with theirs.
_SOFTNESS = 4.0


def illusion_image(
    size: int | Sequence[int],
    batch: int = 1,
    *,
    channels: int = 3,
    sd: float = 0.01,
    decay_power: float = 1.0,
    seed: int | Sequence[int] = 0,
    device: torch.device | str = "cpu",
) -> tuple[list[Tensor], Callable[[], Tensor]]:
    """Parametrize images by their Fourier spectra, with decorrelated colours.

    Differs from Lucent's ``param.image`` in three ways: each image is drawn by its
    own generator, so that it does not depend on the batch that it is in; the
    device is an argument; odd sizes need no cropping.

    Args:
        size: pixels, one side or ``(height, width)``.
        batch: number of images N.
        channels: 3 for colours in 0..1; any other number is not decorrelated.
        sd: standard deviation of the first spectrum.
        decay_power: how much weaker high frequencies start and learn; 0: not at all.
        seed: an int, then image i uses ``seed + i``; or one int per image.
        device: where the images live.

    Returns:
        ``(params, image_f)``: the list of leaf tensors to optimise, and a function
        that gives the images ``(N, channels, height, width)`` in 0..1.

    Raises:
        ValueError: when a size, ``batch`` or ``channels`` is below 1, or the number
            of seeds is not ``batch``.

    Examples::

        >>> params, image_f = illusion_image((33, 48), batch=2)
        >>> image_f().shape
        torch.Size([2, 3, 33, 48])
        >>> bool(image_f().min() > 0), bool(image_f().max() < 1)
        (True, True)
    """
    height, width = as_size(size)
    check_at_least("batch", batch, 1)
    check_at_least("channels", channels, 1)
    numbers = ImageGenerators(seed, SPECTRUM).randn(batch, channels, height, width // 2 + 1, 2)
    spectrum = (sd * numbers).to(device).requires_grad_(True)
    scale = _frequency_scale(height, width, decay_power).to(device)
    colours = _colour_basis().to(device) if channels == 3 else None

    def image_f() -> Tensor:
        scaled = torch.view_as_complex(spectrum * scale)
        image = torch.fft.irfft2(scaled, s=(height, width), norm="ortho") / _SOFTNESS
        if colours is not None:
            image = torch.einsum("ncij,dc->ndij", image, colours)
        return image.sigmoid()

    return [spectrum], image_f


def _frequency_scale(height: int, width: int, decay_power: float) -> Tensor:
    """Weights (height, width // 2 + 1, 1): one over the frequency, which natural images have."""
    vertical = torch.fft.fftfreq(height).unsqueeze(1)
    frequency = torch.hypot(vertical, torch.fft.rfftfreq(width))
    lowest = 1.0 / max(height, width)
    return frequency.clamp_min(lowest).pow(-decay_power).unsqueeze(-1)


def _colour_basis() -> Tensor:
    """Lucid's square root of the covariance of ImageNet colours, (3, 3), as Lucent scales it."""
    from lucent.optvis.param.color import color_correlation_normalized

    return torch.as_tensor(color_correlation_normalized)
