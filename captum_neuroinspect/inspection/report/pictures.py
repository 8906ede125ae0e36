"""Pictures of a page: small, with their size known before they are decoded."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass, field
from functools import cached_property
from os import fsencode
from urllib.parse import quote

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from captum_neuroinspect.inspection.report.report_data import Picture
from captum_neuroinspect.photos._on_white import on_white

_QUALITY = 80
_DENSITY = 2  # pixels a CSS pixel: what a sharp screen shows


@dataclass(frozen=True)
class Small:
    """A small picture.

    Attributes:
        jpeg: the bytes of a file.
        width: that it is shown at, in CSS pixels.
        height: the same.
    """

    jpeg: bytes = field(repr=False)
    width: int
    height: int

    @cached_property
    def file(self) -> str:
        """A name for its contents: equal pictures share a file."""
        return f"{hashlib.sha256(self.jpeg).hexdigest()[:32]}.jpg"

    @property
    def data_uri(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


@dataclass(frozen=True)
class Thumbnail:
    """Where a page finds a picture, and the size it is shown at, in CSS pixels."""

    uri: str
    width: int
    height: int


def thumbnail(picture: Picture, size: int) -> Thumbnail:
    """Fit a picture into a square that is shown ``size`` CSS pixels wide, inside the page.

    Raises:
        TypeError: when it is neither a PIL image nor a tensor.
        ValueError: when a tensor is no ``(1 or 3, H, W)`` of real numbers, or empty.
    """
    made = small(picture, size)
    return Thumbnail(made.data_uri, made.width, made.height)


class PagePictures:
    """The thumbnails of one page, inside it or in a folder beside it; each is made once.

    Attributes:
        folder: name of the folder; empty: they are inside the page.
    """

    def __init__(self) -> None:
        self.folder = ""
        self._made: dict[tuple[int, int], Small] = {}
        self._known: list[Picture] = []  # as long as it lives, nothing else has its `id`

    def __call__(self, picture: Picture, size: int) -> Thumbnail:
        """:func:`thumbnail`, for the page's templates."""
        place = (id(picture), size)
        if place not in self._made:
            self._made[place] = small(picture, size)
            self._known.append(picture)
        made = self._made[place]
        uri = (
            f"{quote(fsencode(self.folder), safe='')}/{made.file}" if self.folder else made.data_uri
        )
        return Thumbnail(uri, made.width, made.height)

    @property
    def n_pictures(self) -> int:
        """How many different ones there are."""
        return len({made.file for made in self._made.values()})

    @property
    def files(self) -> dict[str, bytes]:
        """What is in the folder, by name; nothing for pictures inside the page."""
        return {made.file: made.jpeg for made in self._made.values()} if self.folder else {}


def small(picture: Picture, size: int) -> Small:
    """Fit a picture into a square as :func:`thumbnail` does."""
    image = as_image(picture)
    longest = max(image.size)
    width, height = (max(1, round(side * size / longest)) for side in image.size)
    # Never enlarged: the browser does that for free.
    image.thumbnail((size * _DENSITY, size * _DENSITY), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return Small(buffer.getvalue(), width, height)


def as_image(picture: Picture) -> Image.Image:
    """An RGB image that nobody else holds: a quarter of a tensor's bytes.

    Raises:
        TypeError, ValueError: as :func:`thumbnail`.
    """
    if isinstance(picture, Tensor):
        return _from_tensor(picture)
    if not isinstance(picture, Image.Image):
        raise TypeError(f"{picture!r} is no picture, expected a PIL image or a tensor")
    return on_white(picture)


def _from_tensor(picture: Tensor) -> Image.Image:
    shape = tuple(picture.shape)
    if len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape or not picture.is_floating_point():
        raise ValueError(
            f"a picture of shape {shape} and {picture.dtype}, expected (1 or 3, H, W) in 0..1"
        )
    values = picture.detach().cpu().float().nan_to_num().clamp(0, 1)
    image: Image.Image = to_pil_image(values.expand(3, -1, -1))
    return image
