"""How a picture is brought to the size of the model: squashed, cropped, or with borders."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Mode = Literal["crop", "squash", "border"]
ImageSize: TypeAlias = int | tuple[int, int]
# A strip that is longer than so many times its width is cut to its middle before it is enlarged.
_LONGEST = 20
_EXPECTED = (
    "expected 'crop' (the shorter side, then the centre), 'squash' (both sides, whatever the "
    "shape) or 'border' (the longer side, then borders), each with or without a number of "
    "pixels, such as 'crop 256'"
)


@dataclass(frozen=True)
class Resizing:
    """What happens to the shape of a picture.

    Attributes:
        mode: what fits ``pixels``: the shorter side (``"crop"``), both sides
            (``"squash"``) or the longer side (``"border"``).
        pixels: before the centre is cropped or borders are added; ``None``: as many as
            the result has.
        fill: red, green and blue of the borders, 0..255.
    """

    mode: Mode = "crop"
    pixels: int | None = None
    fill: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def of(cls, given: int | str | Resizing | None) -> Resizing:
        """Read a number (the shorter side) or a text.

        Raises:
            TypeError: for something else.
            ValueError: for another text, or less than one pixel.

        Examples::

            >>> Resizing.of("crop 256") == Resizing.of(256) == Resizing("crop", 256)
            True
            >>> str(Resizing.of("border 64 #ff0000"))
            'border 64 #ff0000'
        """
        if isinstance(given, Resizing):
            return given
        if given is None:
            return cls()
        if isinstance(given, bool) or not isinstance(given, (int, str)):
            raise TypeError(f"resize is {type(given).__name__}, {_EXPECTED}")
        text = f"crop {given}" if isinstance(given, int) else given
        parts = re.fullmatch(r"(\w+)(?: (-?\d+))?(?: #([0-9a-f]{6}))?", text.strip())
        if parts is None or parts[1] not in get_args(Mode) or (parts[3] and parts[1] != "border"):
            raise ValueError(f"resize={given!r}, {_EXPECTED}")
        if parts[2] and int(parts[2]) < 1:
            raise ValueError(f"resize={given!r}, expected at least 1 pixel")
        red, green, blue = bytes.fromhex(parts[3] or "000000")
        mode: Any = parts[1]
        return cls(mode, int(parts[2]) if parts[2] else None, (red, green, blue))

    def __str__(self) -> str:
        pixels = "" if self.pixels is None else f" {self.pixels}"
        fill = f" #{bytes(self.fill).hex()}" if self.mode == "border" and any(self.fill) else ""
        return f"{self.mode}{pixels}{fill}"


@dataclass(frozen=True)
class View:
    """How pictures are brought to the size of the model, as pixels in 0..1.

    Pictures are resized by Pillow, as most training code does. Tensors are resized as
    tensors, with antialiasing; those that have the size already stay as they are.

    Attributes:
        size: height and width of the result in pixels.
        resizing: of the picture before its centre is cropped.
        interpolation: of the resize.

    Examples::

        >>> wide = torch.zeros(3, 20, 40, dtype=torch.uint8)
        >>> View.of(8, "squash").of_picture(wide).shape, View.of(8, "squash").said
        (torch.Size([3, 8, 8]), 'squashed to 8 x 8 pixels')
    """

    size: tuple[int, int]
    resizing: Resizing
    interpolation: Interpolation = "bilinear"

    @classmethod
    def of(
        cls,
        image_size: ImageSize,
        resize: int | str | Resizing | None = None,
        interpolation: Interpolation = "bilinear",
    ) -> View:
        """From a side or height and width, and what :meth:`Resizing.of` reads.

        Raises:
            TypeError: for a ``resize`` of another kind.
            ValueError: for a size below 1, an unknown ``resize``, or a crop that is larger
                than what it is cut from.
        """
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        resizing = Resizing.of(resize)
        pixels = max(size) if resizing.pixels is None else resizing.pixels
        if min(size) < 1 or (resizing.mode != "border" and pixels < max(size)):
            raise ValueError(
                f"image_size={image_size} and resize={resize!r}, expected at least 1 pixel, "
                "and the crop no larger than what it is cut from"
            )
        if interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            raise ValueError(f"interpolation={interpolation!r}, expected one of {known}")
        return cls((size[0], size[1]), resizing, interpolation)

    @property
    def image_size(self) -> ImageSize:
        """The side of a square, else height and width."""
        height, width = self.size
        return height if height == width else self.size

    @property
    def resize_size(self) -> int | str:
        """The shorter side before the crop, or another resizing as a text."""
        if self.resizing.mode != "crop":
            return str(self.resizing)
        return self.resizing.pixels or max(self.size)

    @property
    def said(self) -> str:
        """What happens to a picture, in words."""
        height, width = self.size
        end = f"{width} x {height} pixels"
        cropped = self._scaled(self.size)
        if self.resizing.mode == "border":
            return f"{self._said_of_borders()} {end}"
        if self.resizing.mode == "crop":
            return f"shorter side {self.resize_size}, centre {end}"
        if cropped == self.size:
            return f"squashed to {end}"
        return f"squashed to {cropped[1]} x {cropped[0]}, centre {end}"

    def _said_of_borders(self) -> str:
        pixels, side = self.resizing.pixels, max(self.size)
        if pixels in (None, side):
            return "whole, with borders, in"
        if pixels < side:
            return f"longer side {pixels}, with borders around it, in"
        return f"longer side {pixels}, with borders, centre"

    def at_size(self, image_size: int) -> View:
        """The same for another size: the same share of the picture is cropped away."""
        if self.resizing.pixels is None:
            return View.of(image_size, self.resizing, self.interpolation)
        pixels = round(self.resizing.pixels * image_size / max(self.size))
        if self.resizing.mode != "border":
            pixels = max(pixels, image_size)
        return View.of(image_size, replace(self.resizing, pixels=pixels), self.interpolation)

    def with_resize(self, resize: int | str | Resizing) -> View:
        """Another resizing at the same size, done here and not by a library."""
        return View.of(self.image_size, resize, self.interpolation)

    def of_picture(self, picture: Tensor) -> Tensor:
        """``(3, H, W)`` uint8 -> ``(3, height, width)`` float in 0..1."""
        image = tv.to_pil_image(self._cut(picture))
        resized: Image.Image = self._resized(image, self.interpolation)
        return tv.to_dtype(tv.pil_to_tensor(resized), torch.float32, scale=True)

    def of_tensor(self, image: Tensor) -> Tensor:
        """``(3, H, W)`` uint8 or float in 0..1 -> ``(3, height, width)`` float in 0..1."""
        if image.shape[-2:] != self.size:
            # Tensors have no Lanczos everywhere; bicubic is its nearest relative.
            mode = "bicubic" if self.interpolation == "lanczos" else self.interpolation
            image = self._resized(self._cut(image), mode)
        return tv.to_dtype(image, torch.float32, scale=True).clamp(0, 1)

    def _resized(self, image: Any, interpolation: str) -> Any:
        width, height = image.size if isinstance(image, Image.Image) else image.shape[:-3:-1]
        to = list(self._scaled((height, width)))
        mode = v2.InterpolationMode(interpolation)
        image = tv.resize(image, to, interpolation=mode, antialias=True)
        if self.resizing.mode == "border":
            image = self._with_borders(image, *to)
        return tv.center_crop(image, list(self.size))

    def _scaled(self, of: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a picture after the resize."""
        height, width = of
        pixels = self.resizing.pixels or max(self.size)
        if self.resizing.mode == "squash":
            share = pixels / max(self.size)
            return round(self.size[0] * share), round(self.size[1] * share)
        side = min(of) if self.resizing.mode == "crop" else max(of)
        # Cut off, as torchvision does.
        return max(1, int(pixels * height / side)), max(1, int(pixels * width / side))

    def _with_borders(self, image: Any, height: int, width: int) -> Any:
        down, across = max(0, self.size[0] - height), max(0, self.size[1] - width)
        padding = [across // 2, down // 2, across - across // 2, down - down // 2]
        fill: Any = list(self.resizing.fill)
        if isinstance(image, Tensor) and image.is_floating_point():
            fill = [value / 255 for value in fill]
        return tv.pad(image, padding, fill=fill)

    def _cut(self, image: Tensor) -> Tensor:
        """The middle of a strip: enlarged to its shorter side it would fill the memory."""
        side = _LONGEST * min(image.shape[-2:])
        if self.resizing.mode != "crop" or max(image.shape[-2:]) <= side:
            return image
        # An even number of pixels goes away, so that the middle stays where it is.
        cut = [n if n <= side else side + (n - side) % 2 for n in image.shape[-2:]]
        return tv.center_crop(image, cut)
