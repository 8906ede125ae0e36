"""Finished pictures at the contrast of photographs."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_neuroinspect._core.checks import check_between
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.optvis._spectrum import DARKEST, check_images

# Standard deviation of the pixels of 253 photos of clothes: .217 on average; of 360 crops of
# eight other photos: .246. See docs/measurements/looks.md.
NATURAL_CONTRAST = 0.2
# Half of all pixels black and half white have 0.5.
LARGEST_CONTRAST = 0.3
# Grey noise, which no neuron shaped, must not become a picture of anything.
_LARGEST_GAIN = 4.0
# Three of four of the photos of clothes have at most 1.25 times as much (.257).
_RANGE = 1.25
_HALVINGS = 24


@undisturbed()
def with_contrast(images: Tensor, contrast: float = NATURAL_CONTRAST) -> Tensor:
    """Bring images that are pale or harsh to the contrast of photos.

    Those of less than ``contrast`` are lifted to it, those of more than 1.25 times as much
    are lowered to that; others come back bit by bit. The logits of an image are multiplied
    by one number, 1/4 to 4, around their mean: all frequencies and colours alike. So no pixel
    becomes black or white, and what was darker than another pixel still is.

    Args:
        images: ``(N, C, H, W)`` in 0..1.
        contrast: standard deviation of an image's values over pixels and channels, 0 to 0.3;
            0 changes nothing.

    Returns:
        Images like ``images``, each by itself, without a gradient.

    Raises:
        TypeError: when ``images`` is no floating point tensor.
        ValueError: for another shape, values outside 0..1, or a ``contrast`` outside 0..0.3.

    Examples::

        >>> pale = 0.5 + 0.1 * torch.randn(2, 3, 32, 32).clamp(-3, 3)
        >>> with_contrast(pale).flatten(1).std(1, unbiased=False)
        tensor([0.2000, 0.2000])
    """
    check_images("images", images)
    check_between("contrast", contrast, 0, LARGEST_CONTRAST)
    # One by one and in one order of memory: sums of an image must not depend on its batch.
    return torch.stack([_adjusted(image, contrast) for image in images.detach().contiguous()])


def _adjusted(image: Tensor, contrast: float) -> Tensor:
    """One image ``(C, H, W)``; the gain is found by halving, as contrast grows with it."""
    wanted = _std(image).clamp(contrast, _RANGE * contrast)
    if not contrast or wanted == _std(image):
        return image
    logits = image.float().clamp(DARKEST, 1 - DARKEST).logit()
    mean = logits.mean()
    lowest, highest = (torch.full_like(mean, gain) for gain in (1 / _LARGEST_GAIN, _LARGEST_GAIN))
    for _ in range(_HALVINGS):
        gain = (lowest + highest) / 2
        is_low = _std(torch.sigmoid(mean + gain * (logits - mean))) < wanted
        lowest, highest = torch.where(is_low, gain, lowest), torch.where(is_low, highest, gain)
    return torch.sigmoid(mean + highest * (logits - mean)).to(image.dtype)


def _std(image: Tensor) -> Tensor:
    return image.float().std(unbiased=False)
