"""Pictures inside the page: small, with their size known before they are decoded."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from captum_neuroinspect.inspection.report.data import Picture

_QUALITY = 80
_DENSITY = 2  # pixels a CSS pixel: what a sharp screen shows


@dataclass(frozen=True)
class Thumbnail:
    """A data URI and the size it is shown at, in CSS pixels."""

    uri: str
    width: int
    height: int


def thumbnail(picture: Picture, size: int) -> Thumbnail:
    """Fit a picture into a square that is shown ``size`` CSS pixels wide.

    Raises:
        TypeError: when it is neither a PIL image nor a tensor.
        ValueError: when a tensor is no ``(1 or 3, H, W)`` of real numbers, or empty.
    """
    image = _as_image(picture)
    longest = max(image.size)
    width, height = (max(1, round(side * size / longest)) for side in image.size)
    # Never enlarged: the browser does that for free.
    image.thumbnail((size * _DENSITY, size * _DENSITY), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail("data:image/jpeg;base64," + code, width, height)


def _as_image(picture: Picture) -> Image.Image:
    """An RGB image that nobody else holds."""
    if isinstance(picture, Tensor):
        return _from_tensor(picture)
    if not isinstance(picture, Image.Image):
        raise TypeError(f"{picture!r} is no picture, expected a PIL image or a tensor")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB") if picture.mode != "RGB" else picture.copy()


def _from_tensor(picture: Tensor) -> Image.Image:
    shape = tuple(picture.shape)
    if len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape or not picture.is_floating_point():
        raise ValueError(
            f"a picture of shape {shape} and {picture.dtype}, expected (1 or 3, H, W) in 0..1"
        )
    values = picture.detach().cpu().float().nan_to_num().clamp(0, 1)
    image: Image.Image = to_pil_image(values.expand(3, -1, -1))
    return image
