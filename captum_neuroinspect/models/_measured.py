"""A library's preprocessing in two steps, found by what it makes of known photos.

No key of any configuration is read: photos of one colour tell what happens to colours, ramps
show which part of a photo the model sees; what cannot be determined this way is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from captum_neuroinspect._core.fingerprint import tensor_fingerprint
from captum_neuroinspect.models._recipe import ChannelOrder, Recipe, Wanted, normalise
from captum_neuroinspect.models._transforms import LibraryTransform
from captum_neuroinspect.photos.view import Resizing, View

_HEIGHT, _WIDTH = 300, 450  # of the photos that are tried
_STEP = 1 / 255
# How far a share of the photo may be off: a ramp of 256 levels tells no more.
_SLACK = 0.02
# Resized as a tensor, a photo is not quite what Pillow makes of it: on average less than this.
_TENSORS = 0.02
_INSTEAD = (
    "give the model as FILE.py:FUNCTION, which returns (model, preprocess), after you have brought "
    "the photos to its size"
)


@dataclass(frozen=True)
class Colours:
    """Each channel of the result is a channel of the photo, shifted and scaled."""

    order: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def module(self) -> nn.Module:
        """From images ``(N, 3, H, W)`` in 0..1 to the result."""
        last = normalise(self.mean, self.std)
        if self.order == (0, 1, 2):
            return last
        return nn.Sequential(ChannelOrder(self.order), last)

    def undone(self, made: Tensor) -> Tensor:
        """``(3, H, W)`` back to 0..1."""
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        pixels = made.to(torch.float32) * std + mean
        return pixels[[self.order.index(channel) for channel in range(3)]].clamp(0, 1)


@dataclass(frozen=True)
class LibraryView(View):
    """A view whose pictures go through the library's own preprocessing.

    Attributes:
        transform: of the library; ``size`` and ``resizing`` say what it was seen to do.
        colours: taken back from what it makes.
        name: of the model.
        fingerprint: of what it makes of one photo.
    """

    transform: LibraryTransform = field(kw_only=True, compare=False, repr=False)
    colours: Colours = field(kw_only=True, repr=False)
    name: str = field(kw_only=True, repr=False)
    fingerprint: str = field(kw_only=True)

    def of_picture(self, picture: Tensor) -> Tensor:
        return self.colours.undone(self.transform(tv.to_pil_image(self._cut(picture))))

    def at_size(self, image_size: int) -> View:
        return recipe_of(self.transform, self.name, Wanted(image_size)).view


def recipe_of(transform: LibraryTransform, name: str, wanted: Wanted) -> Recipe:
    """A view and a preprocessing that together do what the library does.

    Args:
        transform: the library's.
        name: of the model, for messages.
        wanted: another size or resizing.

    Raises:
        ValueError: when the library's result depends on more than size, crop and a factor
            and offset for each channel; says which step cannot be followed.
    """
    if wanted.image_size is not None and wanted.resize is None:
        transform = transform.at_size(wanted.image_size)
    run = _Checked(transform, name)
    colours = _colours_of(run)
    if wanted.resize is not None:
        size = wanted.image_size or run.size()
        own = View.of(size, wanted.resize, transform.interpolation)
        return Recipe(colours.module(), own)
    size = run.size()
    if wanted.image_size is not None and size != (wanted.image_size, wanted.image_size):
        raise run.refused(f"asked for {wanted.image_size} pixels it makes images of {_by(size)}")
    plain = View(size, _resizing_of(run, colours, size), transform.interpolation)
    made = tensor_fingerprint(colours.undone(run(_scene())))
    view = LibraryView(
        plain.size,
        plain.resizing,
        plain.interpolation,
        transform=transform,
        colours=colours,
        name=name,
        fingerprint=made,
    )
    _check(run, view, plain)
    return Recipe(colours.module(), view)


@dataclass(frozen=True)
class _Checked:
    """A library's preprocessing whose results are looked at."""

    transform: LibraryTransform
    name: str

    def __call__(self, photo: Image.Image) -> Tensor:
        try:
            made: Any = self.transform(photo)
        except Exception as error:  # whatever a processor says of a plain photo
            raise self.refused(f"it fails on a photo ({type(error).__name__}: {error})") from error
        if not isinstance(made, Tensor) or made.ndim != 3 or made.shape[0] != 3:
            shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise self.refused(f"it makes {shape} of a photo, expected one image (3, H, W)")
        return made

    def refused(self, reason: str) -> ValueError:
        return ValueError(f"the preprocessing of {self.name} is not followed: {reason}; {_INSTEAD}")

    def size(self) -> tuple[int, int]:
        wide = self(Image.new("RGB", (_WIDTH, _HEIGHT))).shape
        high = self(Image.new("RGB", (_HEIGHT, _WIDTH))).shape
        if wide != high:
            raise self.refused(
                f"photos of {_WIDTH} x {_HEIGHT} pixels become images of {_by(wide)}, photos of "
                f"{_HEIGHT} x {_WIDTH} of {_by(high)}, so there is no one size; give --resize and "
                "--image-size (resize= and image_size=)"
            )
        return int(wide[-2]), int(wide[-1])


def _colours_of(run: _Checked) -> Colours:
    """From photos of one colour; the middle, as a border may have another."""

    def middle(*colour: int) -> Tensor:
        made = run(Image.new("RGB", (_WIDTH, _HEIGHT), colour))
        return made[:, made.shape[1] // 2, made.shape[2] // 2].double()

    black = middle(0, 0, 0)
    factors = torch.stack([middle(*[255 * (i == j) for j in range(3)]) - black for i in range(3)])
    scale = float(factors.abs().max())
    order = factors.abs().argmax(0)
    chosen = factors[order, torch.arange(3)]
    rest = factors.clone()
    rest[order, torch.arange(3)] = 0
    # The smallest difference that a float32 beside an offset can hold.
    precision = 1e-5 * max(scale, float(black.abs().max()))
    is_clean = sorted(order.tolist()) == [0, 1, 2] and float(rest.abs().max()) <= precision
    if not is_clean or float(chosen.abs().min()) <= precision:
        raise run.refused("it mixes or drops colours")
    for colour in ((128, 128, 128), (1, 77, 254), (200, 30, 90), (17, 240, 3)):
        expected = black + torch.tensor(colour)[order] / 255 * chosen
        if not torch.allclose(middle(*colour), expected, rtol=0, atol=4 * precision):
            raise run.refused("its colours are no factor and offset of the photo's")
    mean = [_short(-b / c) for b, c in zip(black.tolist(), chosen.tolist(), strict=True)]
    std = [_short(1 / c) for c in chosen.tolist()]
    return Colours(tuple(order.tolist()), tuple(mean), tuple(std))


def _short(value: float) -> float:
    """As many digits as a float32 tells; a zero without sign."""
    return float(f"{value:.7g}") + 0.0 if abs(value) > 1e-7 else 0.0


def _resizing_of(run: _Checked, colours: Colours, size: tuple[int, int]) -> Resizing:
    """Which part of a photo is seen, from two ramps."""
    # In images of the photo's own shape, squashing looks like cropping: then it is upright.
    is_alike = abs(size[1] / size[0] * _HEIGHT / _WIDTH - 1) <= _SLACK
    width, height = (_HEIGHT, _WIDTH) if is_alike else (_WIDTH, _HEIGHT)
    made = colours.undone(run(_ramps(width, height)))
    across = _line(made[0].unfold(0, size[0] // 3, size[0] // 3)[1].mean(-1))
    down = _line(made[1].unfold(1, size[1] // 3, size[1] // 3)[:, 1].mean(-1))
    if min(across.slope, down.slope) <= 0:
        raise run.refused("it mirrors or turns a photo")
    centres = torch.tensor([across.centre, down.centre])
    if not torch.allclose(centres, torch.full((2,), 0.5), rtol=0, atol=_SLACK):
        raise run.refused("it cuts another part than the middle out of a photo")
    seen_w, seen_h = across.slope * size[1], down.slope * size[0]  # shares of the photo
    ratio = seen_w * width / size[1] / (seen_h * height / size[0])
    if abs(ratio - 1) <= _SLACK:
        return _kept_shape(seen_w, seen_h, size, made)
    if abs(seen_w / seen_h - 1) <= _SLACK and seen_h <= 1 + _SLACK:
        return Resizing("squash", max(max(size), round(max(size) / seen_h)))
    raise run.refused(f"it stretches a photo by {ratio:.2f}, neither to a crop nor to its size")


def _kept_shape(seen_w: float, seen_h: float, size: tuple[int, int], made: Tensor) -> Resizing:
    if seen_h > 1 + _SLACK:  # more than the whole: there are borders
        corner = (made[:, 0, size[1] // 2] * 255).round().int().tolist()
        return Resizing("border", round(size[1] / seen_w), (corner[0], corner[1], corner[2]))
    return Resizing("crop", max(max(size), round(size[0] / seen_h)))


@dataclass(frozen=True)
class _Line:
    """A straight line: its rise a pixel, and its value in the middle."""

    slope: float
    centre: float


def _line(values: Tensor) -> _Line:
    """Fitted to the middle third, which no border reaches, then to nearly all of the photo."""
    n = len(values)
    x = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    line, reach = _Line(0.0, 0.0), n / 6
    for _ in range(2):
        part = x.abs() <= max(reach, 1)
        x_part, y = x[part], values.double()[part]
        slope = float((x_part * y).sum() / (x_part * x_part).sum())
        line, reach = _Line(slope, float(y.mean())), 0.45 * min(n, 1 / max(slope, 1 / (9 * n)))
    return line


def _ramps(width: int, height: int) -> Image.Image:
    """Red rises to the right and green downwards, with the rounding spread over lines."""
    x, y = (torch.arange(n, dtype=torch.float64) for n in (width, height))
    spread_x, spread_y = (x * 0.618034 % 1), (y * 0.618034 % 1)
    red = ((x + 0.5) / width * 255)[None] + spread_y[:, None]
    green = ((y + 0.5) / height * 255)[:, None] + spread_x[None]
    ramps = torch.stack([red, green, torch.zeros_like(red)]).floor().clamp(0, 255)
    return _as_picture(ramps)


def _scene() -> Image.Image:
    """A photo of blobs with some noise, the same each time."""
    generator = torch.Generator().manual_seed(0)
    blobs = torch.rand(3, 6, 9, generator=generator)
    smooth = tv.resize(blobs, [_HEIGHT - 99, _WIDTH - 120], antialias=True)
    noise = 0.1 * torch.rand(smooth.shape, generator=generator)
    return _as_picture(((smooth + noise) * 255).clamp(0, 255))


def _as_picture(values: Tensor) -> Image.Image:
    picture: Image.Image = tv.to_pil_image(values.to(torch.uint8))
    return picture


def _check(run: _Checked, view: View, plain: View) -> None:
    """Both steps together give what the library gives, and tensors nearly so."""
    assert isinstance(view, LibraryView)
    preprocess: Callable[[Tensor], Tensor] = view.colours.module()
    std = torch.tensor(view.colours.std).abs()[:, None, None]
    for picture in (_scene(), _scene().transpose(Image.Transpose.TRANSPOSE)):
        image = tv.pil_to_tensor(picture)
        theirs = view.of_picture(image)
        off = float(((preprocess(theirs[None])[0] - run(picture)).abs() * std).max())
        if off > _STEP:
            raise run.refused(
                f"pixels differ by up to {off * 255:.0f} of 255 (padding or clipping)"
            )
        off = _apart(theirs, plain.of_tensor(image))
        if off > _TENSORS:
            raise run.refused(f"as {plain.said}, pixels differ by {off * 255:.0f} of 255")


def _apart(one: Tensor, other: Tensor) -> float:
    """How far pixels differ on average, wherever half a pixel of the crop was rounded to."""
    shifts = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    inner = (one - other.roll(shift, (1, 2)) for shift in shifts)
    return min(float(part[:, 1:-1, 1:-1].abs().mean()) for part in inner)


def _by(shape: Any) -> str:
    return f"{shape[-1]} x {shape[-2]} pixels"
