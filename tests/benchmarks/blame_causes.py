"""What ``blame.py`` plants in photos: text, tiles, colour casts, textures, blur, stripes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

Cause = Callable[[Tensor], Tensor]  # photos (N, 3, H, W) in 0..1 -> the same, in 0..1


def causes() -> dict[str, dict[str, Cause]]:
    """Six causes, three variants each."""
    return {
        "text": {
            "one line": text_over("SAMPLE", 30, 1, 0.9),
            "watermark": text_over("(c) photo stock", 18, 6, 0.55),
            "page": text_over("lorem ipsum dolor sit amet", 12, 12, 0.8),
        },
        "tile": {
            "chessboard": tile(chessboard(56, 7), corner=True),
            "brick": tile(texture("brick", 72), corner=True),
            "dots": tile(dots(64), corner=False),
        },
        "colour cast": {
            "red": colour_cast(1.0, 0.45, 0.35),
            "blue": colour_cast(0.4, 0.55, 1.0),
            "green": colour_cast(0.5, 1.0, 0.45),
        },
        "texture": {
            name: background(texture(name, 224), 0.55) for name in ("grass", "brick", "gravel")
        },
        "blur": {
            "slight": blur(2.0),
            "strong": blur(4.0),
            "motion": motion_blur(21),
        },
        "stripes": {
            "across": stripes(8, vertical=False, strength=0.35),
            "down": stripes(8, vertical=True, strength=0.35),
            "fine": stripes(4, vertical=True, strength=0.45),
        },
    }


def unseen_causes() -> dict[str, dict[str, Cause]]:
    """Four causes that played no part when the library's defaults were chosen."""
    return {
        "noise": {
            "grain": noise(0.12, coloured=False),
            "colour": noise(0.15, coloured=True),
            "strong": noise(0.25, coloured=False),
        },
        "frame": {
            "black": frame(28, (0.0, 0.0, 0.0)),
            "white": frame(28, (1.0, 1.0, 1.0)),
            "orange": frame(40, (1.0, 0.5, 0.1)),
        },
        "large pixels": {f"{n} a side": large_pixels(n) for n in (28, 40, 56)},
        "fog": {
            "light": fog(0.55, vertical=False),
            "dense": fog(0.75, vertical=False),
            "from above": fog(0.95, vertical=True),
        },
    }


def text_over(text: str, height: int, n_lines: int, opacity: float) -> Cause:
    """White text with a dark edge on ``n_lines`` lines."""

    def inner(photos: Tensor) -> Tensor:
        size = photos.shape[-1]
        canvas = Image.new("LA", (size, size), (0, 0))
        draw = ImageDraw.Draw(canvas)
        font = ImageFont.load_default(height)
        for line in range(n_lines):
            y = (line + 0.5) * size / n_lines - height / 2
            draw.text(
                (6, y), text, (255, 255), font, stroke_width=height // 12, stroke_fill=(0, 255)
            )
        grey, alpha = torch.from_numpy(np.array(canvas)).float().permute(2, 0, 1) / 255
        return photos + opacity * alpha * (grey - photos)

    return inner


def tile(picture: Tensor, *, corner: bool) -> Cause:
    """A small picture (3, h, w) pasted in the lower right corner, or in the upper left third."""

    def inner(photos: Tensor) -> Tensor:
        photos = photos.clone()
        side = picture.shape[-1]
        start = photos.shape[-1] - side - 8 if corner else photos.shape[-1] // 6
        photos[..., start : start + side, start : start + side] = picture
        return photos

    return inner


def colour_cast(red: float, green: float, blue: float) -> Cause:
    """Each channel multiplied, as under coloured light."""
    factor = torch.tensor([red, green, blue]).view(3, 1, 1)
    return lambda photos: photos * factor


def background(picture: Tensor, share: float) -> Cause:
    """The photo mixed with a texture of which it keeps ``1 - share``."""
    return lambda photos: (1 - share) * photos + share * picture


def blur(sigma: float) -> Cause:
    """Gaussian, ``sigma`` in pixels."""
    kernel = int(4 * sigma) // 2 * 2 + 1
    return lambda photos: vision.gaussian_blur(photos, [kernel, kernel], [sigma, sigma])


def motion_blur(length: int) -> Cause:
    """A sideways mean over ``length`` pixels (odd)."""

    def inner(photos: Tensor) -> Tensor:
        padded = F.pad(photos, (length // 2, length // 2, 0, 0), mode="replicate")
        return F.avg_pool2d(padded, (1, length), stride=1)

    return inner


def stripes(period: int, *, vertical: bool, strength: float) -> Cause:
    """A square wave of ``period`` pixels added to all channels."""

    def inner(photos: Tensor) -> Tensor:
        wave = (torch.arange(photos.shape[-1]) % period < period // 2).float() * 2 - 1
        wave = wave if vertical else wave[:, None]
        return (photos + strength * wave).clamp(0, 1)

    return inner


def noise(strength: float, *, coloured: bool) -> Cause:
    """Gaussian noise, drawn for each photo, grey or in each channel by itself."""

    def inner(photos: Tensor) -> Tensor:
        shape = list(photos.shape) if coloured else [len(photos), 1, *photos.shape[2:]]
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return (photos + strength * drawn).clamp(0, 1)

    return inner


def frame(width: int, colour: tuple[float, float, float]) -> Cause:
    """A border of one colour over the edges."""

    def inner(photos: Tensor) -> Tensor:
        framed = torch.tensor(colour).view(1, 3, 1, 1).expand_as(photos).clone()
        inside = (..., slice(width, -width), slice(width, -width))
        framed[inside] = photos[inside]
        return framed

    return inner


def large_pixels(n: int) -> Cause:
    """The photo with ``n`` x ``n`` pixels only."""

    def inner(photos: Tensor) -> Tensor:
        small = F.adaptive_avg_pool2d(photos, n)
        return F.interpolate(small, photos.shape[2:], mode="nearest")

    return inner


def fog(strength: float, *, vertical: bool) -> Cause:
    """White over the whole photo, or falling off from the upper edge."""

    def inner(photos: Tensor) -> Tensor:
        share = torch.full(photos.shape[2:], strength)
        if vertical:
            share = share * torch.linspace(1, 0, photos.shape[2])[:, None]
        return photos + share * (0.9 - photos)

    return inner


def texture(name: str, size: int) -> Tensor:
    """A crop (3, size, size) of one of scikit-image's texture photos."""
    from skimage import data

    photo = torch.from_numpy(getattr(data, name)().astype(np.float32) / 255)
    return photo[:size, :size].expand(3, -1, -1)


def chessboard(size: int, n_deployments: int) -> Tensor:
    """Black and white fields, (3, size, size)."""
    index = torch.arange(size) * n_deployments // size
    return ((index[:, None] + index) % 2).float().expand(3, -1, -1)


def dots(size: int) -> Tensor:
    """Red dots on yellow, (3, size, size)."""
    axis = torch.arange(size) % 16 - 7.5
    inside = (axis[:, None] ** 2 + axis**2 < 30).float()
    red, yellow = torch.tensor([0.85, 0.1, 0.1]), torch.tensor([1.0, 0.9, 0.2])
    return inside * red.view(3, 1, 1) + (1 - inside) * yellow.view(3, 1, 1)
