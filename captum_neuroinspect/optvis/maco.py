"""Images of which only the phases are optimised: the magnitudes stay natural."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_neuroinspect._core.checks import as_size, check_at_least
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.optvis._random import SPECTRUM, ImageGenerators
from captum_neuroinspect.optvis._spectrum import (
    SOFTNESS,
    check_images,
    frequency_scale,
    to_images,
    to_spectrum,
)

# Standard deviation of the logits of four photos' pixels, 0.7 to 2.6, about their mean.
_NATURAL_STD = 1.5


@undisturbed()
def maco_image(
    size: int | Sequence[int],
    batch: int = 1,
    *,
    magnitude: Tensor | None = None,
    channels: int = 3,
    seed: int | Sequence[int] = 0,
    device: torch.device | str = "cpu",
) -> tuple[list[Tensor], Callable[[], Tensor]]:
    """Parametrize images by the phases of their spectra; the magnitudes are fixed.

    After MACO (Fel et al. 2023, https://arxiv.org/abs/2306.06805): no frequency can
    grow at the cost of the others, so that the optimiser has to place what natural
    images are made of instead of adding patterns they never have. Differs from the
    authors' in that magnitudes belong to the decorrelated image before the sigmoid,
    where they really stay what they are, and in that the augmentations are left to
    the caller.

    Args:
        size: pixels, one side or ``(height, width)``.
        batch: number of images N.
        magnitude: magnitudes to keep, ``(height, width // 2 + 1)`` for all channels or
            ``(channels, height, width // 2 + 1)``, as :func:`spectrum_magnitude` gives
            them; ``None``: one over the frequency.
        channels: 3 for colours in 0..1; any other number is not decorrelated.
        seed: an int, then image i uses ``seed + i``; or one int per image.
        device: where the images live.

    Returns:
        ``(params, image_f)``: a list with the phases in radians, ``(N, channels,
        height, width // 2 + 1)``, and a function that gives the images ``(N, channels,
        height, width)`` in 0..1.

    Raises:
        ValueError: when a size, ``batch`` or ``channels`` is below 1, the number of
            seeds is not ``batch``, or ``magnitude`` has another shape, negative or
            non-finite values.

    Examples::

        >>> params, image_f = maco_image((33, 48), batch=2)
        >>> params[0].shape, image_f().shape
        (torch.Size([2, 3, 33, 25]), torch.Size([2, 3, 33, 48]))
    """
    height, width = as_size(size)
    check_at_least("batch", batch, 1)
    check_at_least("channels", channels, 1)
    shape = (channels, height, width // 2 + 1)
    kept = _natural(height, width) if magnitude is None else _checked(magnitude, shape)
    kept = kept.detach().float().to(device)
    turns = ImageGenerators(seed, SPECTRUM).rand(batch, *shape)
    phase = (2 * math.pi * turns).to(device).requires_grad_(True)

    def image_f() -> Tensor:
        return to_images(torch.polar(kept.expand_as(phase), phase), (height, width))

    return [phase], image_f


@undisturbed()
def spectrum_magnitude(photos: Tensor) -> Tensor:
    """Mean magnitude of the spectra of photos, for :func:`maco_image`.

    Taken of the photos' logits with decorrelated colours. A photo's own magnitude
    together with its own phases gives back the photo.

    Args:
        photos: photos ``(N, C, H, W)`` in 0..1, of the size of the images to make.

    Returns:
        Magnitudes ``(C, H, W // 2 + 1)``, not negative.

    Raises:
        TypeError: when ``photos`` is no floating point tensor.
        ValueError: for another shape, or values outside 0..1.

    Examples::

        >>> magnitude = spectrum_magnitude(torch.rand(5, 3, 32, 48))
        >>> magnitude.shape
        torch.Size([3, 32, 25])
        >>> params, image_f = maco_image((32, 48), magnitude=magnitude)
    """
    check_images("photos", photos)
    return to_spectrum(photos.detach()).abs().mean(0)


def _natural(height: int, width: int) -> Tensor:
    """One over the frequency, as strong as in photos, (height, width // 2 + 1)."""
    half = frequency_scale(height, width, 1.0)
    # The other half of the spectrum repeats all columns but the first and, if even, the last.
    power = half.square().sum() + half[:, 1 : (width + 1) // 2].square().sum()
    # Parseval: the mean square of the image is the mean square of its whole spectrum.
    return half * (SOFTNESS * _NATURAL_STD) / (power / (height * width)).sqrt()


def _checked(magnitude: Tensor, shape: tuple[int, int, int]) -> Tensor:
    if magnitude.shape not in (shape, shape[1:]):
        raise ValueError(
            f"magnitude has shape {tuple(magnitude.shape)}, expected {shape} or {shape[1:]}"
        )
    if not (magnitude.isfinite().all() and magnitude.min() >= 0):
        raise ValueError("magnitude has negative or non-finite values, expected none")
    return magnitude
