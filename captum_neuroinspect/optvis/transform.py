"""Random transforms in Lucent's form, drawn for each image by itself.

Lucent's transforms move a whole batch by one draw from the global generator, on a
device chosen at import. Here every image has its own numbers, so that a batch is
optimised as its images would be one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect._core.checks import check_at_least
from captum_neuroinspect.optvis._random import AFFINE, NOISE, ImageGenerators

Transform = Callable[[Tensor], Tensor]

_GREY = 0.5
_FIRST_NOISE = 0.2


def random_affine(
    degrees: float = 15.0,
    translate: float = 0.15,
    scale: tuple[float, float] = (0.7, 1.2),
    seed: int | Sequence[int] = 0,
) -> Transform:
    """Rotate, move and scale each image by its own random amounts.

    All three happen in one bilinear sampling. What comes from outside the image is
    grey (0.5).

    Args:
        degrees: largest rotation, either way.
        translate: largest shift as a share of the image's height and width.
        scale: smallest and largest magnification.
        seed: an int, then image i uses ``seed + i``; or one int per image.

    Returns:
        A function of images ``(N, C, H, W)``; each call draws anew.

    Raises:
        ValueError: when a range is negative or ``scale`` is not increasing and positive.

    Examples::

        >>> still = random_affine(degrees=0, translate=0, scale=(1, 1))
        >>> images = torch.rand(2, 3, 16, 16)
        >>> torch.allclose(still(images), images, atol=1e-5)
        True
    """
    check_at_least("degrees", degrees, 0)
    check_at_least("translate", translate, 0)
    if not 0 < scale[0] <= scale[1]:
        raise ValueError(f"scale={scale}, expected (smallest, largest) with 0 < smallest")
    generators = ImageGenerators(seed, AFFINE)

    def inner(image_t: Tensor) -> Tensor:
        draws = generators.rand(len(image_t), 4)
        with torch.autocast("cpu", enabled=False):  # places are no matter of low precision
            theta = _affine_matrices(draws, degrees, translate, scale, image_t.shape[-2:])
        theta = theta.to(image_t.device, image_t.dtype)
        with torch.autocast(image_t.device.type, enabled=False):
            grid = F.affine_grid(theta, list(image_t.shape), align_corners=False)
        # Zero padding around the image less its grey gives grey around the image.
        return F.grid_sample(image_t - _GREY, grid, align_corners=False) + _GREY

    return inner


def channel_noise(std: float | Callable[[int], float], seed: int | Sequence[int] = 0) -> Transform:
    """Add one random offset to each channel of each image.

    Args:
        std: standard deviation of the offsets, in units of the 0..1 pixel range; or a
            function of the step (0 at the first call), to let the noise fade.
        seed: an int, then image i uses ``seed + i``; or one int per image.

    Returns:
        A function of images ``(N, C, H, W)``; each call draws anew.

    Raises:
        ValueError: when a constant ``std`` is negative.

    Examples::

        >>> fading = channel_noise(lambda step: 0.2 if step == 0 else 0.0)
        >>> images = torch.full((1, 3, 4, 4), 0.5)
        >>> fading(images).equal(images), fading(images).equal(images)
        (False, True)
    """
    if not callable(std):
        check_at_least("std", std, 0)
    generators = ImageGenerators(seed, NOISE)
    step = -1

    def inner(image_t: Tensor) -> Tensor:
        nonlocal step
        step += 1
        n_images, n_channels = image_t.shape[:2]
        noise = generators.randn(n_images, n_channels, 1, 1).to(image_t.device, image_t.dtype)
        return image_t + (std(step) if callable(std) else std) * noise

    return inner


def illusion_transforms(
    seeds: Sequence[int], n_steps: int, scale: tuple[float, float] = (0.7, 1.2)
) -> list[Transform]:
    """The random transforms of an illusion in each step, as in the paper.

    Rotation up to 15 degrees, shift up to 15 %, magnification 0.7 to 1.2; then an offset of
    each channel, of standard deviation 0.2 at first, which fades along a line until the last
    step.

    Args:
        seeds: one for each image.
        n_steps: steps of the optimisation; each calls each transform once.
        scale: smallest and largest magnification; the authors' code has 0.6 to 1.2.

    Examples::

        >>> images = torch.rand(2, 3, 16, 16)
        >>> for transform in illusion_transforms(seeds=[0, 1], n_steps=450):
        ...     images = transform(images)
        >>> images.shape
        torch.Size([2, 3, 16, 16])
    """
    last = max(n_steps - 1, 1)

    def fading(step: int) -> float:
        return _FIRST_NOISE * max(0.0, 1 - step / last)

    return [random_affine(scale=scale, seed=seeds), channel_noise(fading, seed=seeds)]


def _affine_matrices(
    draws: Tensor,
    degrees: float,
    translate: float,
    scale: tuple[float, float],
    size: Sequence[int],
) -> Tensor:
    """Matrices (N, 2, 3) for ``affine_grid`` from uniform draws (N, 4).

    They lead from a place in the result back to a place in the image, both in -1..1:
    ``p_image = rotation(p_result - shift) / scale``.
    """
    signed = 2 * draws - 1
    angle = torch.deg2rad(degrees * signed[:, 0])
    shift = 2 * translate * signed[:, 1:3]
    inverse = 1 / (scale[0] + (scale[1] - scale[0]) * draws[:, 3])
    cos, sin = angle.cos() * inverse, angle.sin() * inverse
    # -1..1 spans both sides of an oblong image: without the ratio a rotation would shear it.
    ratio = size[0] / size[1]
    linear = torch.stack([cos, sin * ratio, -sin / ratio, cos], dim=1).view(-1, 2, 2)
    offset = -linear @ shift.unsqueeze(-1)
    return torch.cat([linear, offset], dim=2)
