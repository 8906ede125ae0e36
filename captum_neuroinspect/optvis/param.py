"""The image being optimised, as a spectrum: Lucent's ``param_f`` contract."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_neuroinspect._core.checks import as_size, check_at_least
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.optvis._lucent_words import Start
from captum_neuroinspect.optvis._random import SPECTRUM, ImageGenerators
from captum_neuroinspect.optvis._spectrum import (
    check_images,
    frequency_scale,
    published_scale,
    to_images,
    to_spectrum,
)

_PUBLISHED_SD = 0.001  # of the first noise in the authors' code


@undisturbed()
def illusion_image(
    size: int | Sequence[int],
    batch: int = 1,
    *,
    channels: int = 3,
    sd: float = 0.01,
    decay_power: float = 1.0,
    seed: int | Sequence[int] = 0,
    init: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Start:
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
        init: images to start from instead of random ones, in 0..1: one ``(channels,
            height, width)`` for all, or ``(N, channels, height, width)``. They come back
            to within half a grey level, as black and white are clamped.
        device: where the images live.

    Returns:
        ``(params, image_f)``: the list of leaf tensors to optimise, and a function
        that gives the images ``(N, channels, height, width)`` in 0..1.

    Raises:
        TypeError: when ``init`` is no floating point tensor.
        ValueError: when a size, ``batch`` or ``channels`` is below 1, the number of
            seeds is not ``batch``, or ``init`` has another shape or values outside
            0..1.

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
    scale = frequency_scale(height, width, decay_power)
    return _weighted(scale, (batch, channels, height, width), sd, seed, init, device)


@undisturbed()
def published_image(
    size: int | Sequence[int],
    batch: int = 1,
    *,
    channels: int = 3,
    seed: int | Sequence[int] = 0,
    init: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Start:
    """:func:`illusion_image` with the weights and the first noise of the authors' code."""
    height, width = as_size(size)
    scale = published_scale(height, width)
    return _weighted(scale, (batch, channels, height, width), _PUBLISHED_SD, seed, init, device)


def _weighted(
    scale: Tensor,
    shape: tuple[int, int, int, int],
    sd: float,
    seed: int | Sequence[int],
    init: Tensor | None,
    device: torch.device | str,
) -> Start:
    """Images of this shape whose spectra are weighted by ``scale``, ``(H, W // 2 + 1)``."""
    batch, channels, height, width = shape
    scale = scale.unsqueeze(-1)
    if init is None:
        first = sd * ImageGenerators(seed, SPECTRUM).randn(batch, channels, *scale.shape[:2], 2)
    else:
        first = torch.view_as_real(to_spectrum(as_batch(init, shape).cpu())) / scale
    spectrum = first.to(device).requires_grad_(True)
    scale = scale.to(device)

    def image_f() -> Tensor:
        return to_images(torch.view_as_complex(spectrum * scale), (height, width))

    return [spectrum], image_f


def as_batch(init: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Images to start from, ``(C, H, W)`` or ``(N, C, H, W)``, as a batch of this shape.

    Raises:
        TypeError: when they are no floating point tensor.
        ValueError: for another shape or values outside 0..1.
    """
    is_one = isinstance(init, Tensor) and init.ndim == 3
    images = init.detach().unsqueeze(0) if is_one else init
    check_images("init", images)
    fits = images.shape[1:] == shape[1:] and (is_one or len(images) == shape[0])
    if not fits:
        raise ValueError(
            f"init has shape {tuple(init.shape)}, expected {shape[1:]} or {shape}: "
            "images are not resized"
        )
    return images.detach().expand(shape)
