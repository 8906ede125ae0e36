"""What an image-text encoder is, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

# Resampling and low-precision arithmetic leave an image a little outside 0..1.
_SLACK = 1e-3


@runtime_checkable
class ImageTextEncoder(Protocol):
    """Images and texts as vectors of one space, so that a cosine compares them.

    Any object with these members serves; it need not inherit from this class.
    An encoder resizes and normalises images by itself, and gives no gradient to
    its own weights.
    """

    @property
    def network(self) -> nn.Module:
        """The network that reads images; it may be shared with the caller."""
        ...

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed images (N, 3, H, W) in 0..1, of any size, as (N, D) of length 1.

        Differentiable with respect to ``images``.
        """
        ...

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed N texts as (N, D) of length 1, without gradient."""
        ...


def check_images(images: Tensor) -> None:
    """Refuse what is not a batch of images in 0..1.

    Args:
        images: (N, 3, H, W), N >= 1, floating point, each value in 0..1 (0.001
            beyond is let pass).

    Raises:
        TypeError: for something else than a floating-point tensor.
        ValueError: for another shape, for NaN, and for values outside 0..1.

    Example:
        >>> import torch
        >>> check_images(torch.rand(2, 3, 8, 8))
        >>> check_images(255 * torch.ones(2, 3, 8, 8))
        Traceback (most recent call last):
        ...
        ValueError: images has values in 255..255, expected 0..1 (not yet normalised)
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"images is a {type(images).__name__}, expected a tensor (N, 3, H, W)")
    if not images.is_floating_point():
        raise TypeError(f"images has dtype {images.dtype}, expected floating point in 0..1")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images has shape {tuple(images.shape)}, expected (N, 3, H, W), N >= 1")
    low, high = (bound.item() for bound in images.detach().aminmax())
    if low != low:
        raise ValueError("images contains NaN, expected values in 0..1")
    if low < -_SLACK or high > 1 + _SLACK:
        raise ValueError(
            f"images has values in {low:.4g}..{high:.4g}, expected 0..1 (not yet normalised)"
        )
