"""Concepts that need no encoder: colours, light, sharpness, patterns, measured on the pixels.

An image-text encoder made of a classifier is blind to what its classes do not name. These scorers
are plain formulas; what each means stands beside it. A score has no unit that two attributes share:
only its order over photos counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.describe.concept_scores import ConceptScores
from captum_neuroinspect.encoders.protocol import check_images

_SIDE = 128  # pixels; patterns are measured at one size
_LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
_NOTHING = 1e-9  # power of a spectrum that is none: a plain photo is not blurred
_GREY = 0.15  # largest saturation of black, grey and white
_HUES = {  # degrees, first and last
    "red": (345, 15),
    "orange": (15, 45),
    "yellow": (45, 70),
    "green": (70, 165),
    "blue": (165, 260),
    "purple": (260, 300),
    "pink": (300, 345),
}


@undisturbed()
def attribute_scores(
    images: Iterable[Tensor], *, batch_size: int = 64, progress: bool = False
) -> ConceptScores:
    """Score photos for colours, light, sharpness and patterns.

    Args:
        images: N photos ``(3, H, W)`` in 0..1, of any sizes.
        batch_size: photos that are measured at a time.
        progress: show a bar.

    Returns:
        Scores of the P attributes :data:`ATTRIBUTES`. Photos are measured at 128 pixels a side.

    Raises:
        TypeError: for photos that are no floating-point tensors.
        ValueError: for no photos, another shape, values outside 0..1, or a batch below 1.

    Examples::

        >>> meadow = torch.tensor([0.2, 0.7, 0.1])[:, None, None].expand(3, 32, 32)
        >>> attribute_scores([meadow]).of("green").tolist()
        [1.0]
    """
    check_whole("batch_size", batch_size)
    check_at_least("batch_size", batch_size, 1)
    parts: list[Tensor] = []
    batch: list[Tensor] = []
    with tqdm(desc="attributes", disable=not progress, unit="photo") as bar:
        for image in images:
            check_images(image[None] if isinstance(image, Tensor) else image)
            batch.append(_at_one_size(image))
            bar.update()
            if len(batch) == batch_size:
                parts.append(_scored(torch.stack(batch)))
                batch = []
    if batch:
        parts.append(_scored(torch.stack(batch)))
    if not parts:
        raise ValueError("images has no photos")
    return ConceptScores(torch.cat(parts), ATTRIBUTES, "pixels")


def _at_one_size(image: Tensor) -> Tensor:
    image = image.detach().cpu().float()
    scaled = F.interpolate(image[None], (_SIDE, _SIDE), mode="bilinear", antialias=True)
    return scaled[0].clamp(0, 1)


def _scored(photos: Tensor) -> Tensor:
    grey = (photos * _LUMA[:, None, None]).sum(1)
    colours = _colours(photos)
    columns = [colours[name] for name in colours]
    columns += [scorer(photos, grey) for scorer in _SCORERS.values()]
    return torch.stack(columns, 1)


def _colours(photos: Tensor) -> dict[str, Tensor]:
    """``(N,)`` for each colour: the share of pixels that have it."""
    hue, saturation, value = _hsv(photos)
    is_coloured = (saturation > _GREY) & (value > _GREY)
    has = {name: is_coloured & _between(hue, *ends) for name, ends in _HUES.items()}
    # Dark orange is called brown.
    has["brown"] = (has["orange"] | has["red"]) & (value < 0.55) & (saturation < 0.8)
    has["orange"] = has["orange"] & ~has["brown"]
    has["black"] = value <= _GREY
    has["white"] = (saturation <= _GREY) & (value > 0.85)
    has["grey"] = (saturation <= _GREY) & (value > _GREY) & (value <= 0.85)
    return {name: mask.float().mean((1, 2)) for name, mask in has.items()}


def _hsv(photos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in degrees, saturation and value in 0..1, each ``(N, H, W)``."""
    value, low = photos.amax(1), photos.amin(1)
    spread = (value - low).clamp_min(1e-6)
    red, green, blue = photos.unbind(1)
    hue = torch.where(
        value == red,
        (green - blue) / spread % 6,
        torch.where(value == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    return 60 * hue, (value - low) / value.clamp_min(1e-6), value


def _between(hue: Tensor, first: float, last: float) -> Tensor:
    if first < last:
        return (hue >= first) & (hue < last)
    return (hue >= first) | (hue < last)


def _bright(_: Tensor, grey: Tensor) -> Tensor:
    """Mean luminance."""
    return grey.mean((1, 2))


def _dark(_: Tensor, grey: Tensor) -> Tensor:
    return -grey.mean((1, 2))


def _pale(_: Tensor, grey: Tensor) -> Tensor:
    """Little between the darkest and the brightest twentieth, as in fog."""
    flat = grey.flatten(1)
    return flat.quantile(0.05, 1) - flat.quantile(0.95, 1)


def _blurred(_: Tensor, grey: Tensor) -> Tensor:
    """Little of the spectrum is fine detail: blur lowers it, whatever the contrast is."""
    everything, fine = _band(grey, 0.02, 0.5), _band(grey, 0.25, 0.5)
    return ((everything + _NOTHING) / (fine + _NOTHING)).log10()


def _grainy(_: Tensor, grey: Tensor) -> Tensor:
    """Median difference from a small mean: the median does not see edges."""
    means = F.avg_pool2d(F.pad(grey[:, None], (1, 1, 1, 1), mode="reflect"), 3, 1)
    return (grey - means[:, 0]).abs().flatten(1).median(1).values


def _fine_texture(_: Tensor, grey: Tensor) -> Tensor:
    """Energy of the spectrum above a tenth of the sampling rate."""
    return _band(grey, 0.1, 0.5)


def _coarse_texture(_: Tensor, grey: Tensor) -> Tensor:
    return _band(grey, 0.03, 0.1)


def _striped(_: Tensor, grey: Tensor) -> Tensor:
    """The share of the strongest wave: one direction and one period."""
    return _strongest_wave(grey)


def _dotted(_: Tensor, grey: Tensor) -> Tensor:
    """Round spots against edges: determinant of the Hessian at three sizes, where positive."""
    contrast = grey.flatten(1).var(1).clamp_min(1e-4)
    found = []
    for sigma in (1.5, 2.5, 4.0):
        smooth = _gaussian(grey, sigma)
        across, down, mixed = _second_derivatives(smooth)
        determinant = across * down - mixed.square()
        found.append(sigma**4 * determinant.clamp_min(0).mean((1, 2)) / contrast)
    return torch.stack(found).amax(0)


def _lettered(_: Tensor, grey: Tensor) -> Tensor:
    """The share of windows of two tones that change several times a row and a column."""
    windows = grey.unfold(1, 16, 8).unfold(2, 16, 8).flatten(1, 2)  # (N, windows, 16, 16)
    mean, spread = windows.mean((2, 3)), windows.flatten(2).std(2)
    above = windows > mean[..., None, None]
    share = above.float().mean((2, 3))
    high = (windows * above).sum((2, 3)) / above.sum((2, 3)).clamp_min(1)
    low = (windows * ~above).sum((2, 3)) / (~above).sum((2, 3)).clamp_min(1)
    two_tones = share * (1 - share) * (high - low).square() / spread.square().clamp_min(1e-6)
    changes = [(above.diff(dim=axis) != 0).float().sum(axis).mean(2) for axis in (2, 3)]
    several = (changes[0] > 1.2) & (changes[1] > 1.2) & (changes[0] < 7) & (changes[1] < 7)
    return (several & (spread > 0.08) & (two_tones > 0.7)).float().mean(1)


def _framed(photos: Tensor, _: Tensor) -> Tensor:
    """How even the outer pixels are, against the whole photo."""
    width = _SIDE // 16
    inside = torch.zeros(_SIDE, _SIDE, dtype=torch.bool)
    inside[width:-width, width:-width] = True
    rim = photos[:, :, ~inside]
    return photos.flatten(2).std(2).mean(1) - rim.std(2).mean(1)


def _spectrum(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Power ``(N, H, W)`` without the edges' part, and the frequency of each place."""
    window = torch.hann_window(_SIDE, periodic=False)
    centred = (grey - grey.mean((1, 2), keepdim=True)) * window * window[:, None]
    axis = torch.fft.fftfreq(_SIDE)
    return torch.fft.fft2(centred).abs().square(), torch.hypot(axis[:, None], axis)


def _band(grey: Tensor, low: float, high: float) -> Tensor:
    power, frequency = _spectrum(grey)
    return power[:, (frequency >= low) & (frequency < high)].sum(1) / _SIDE**4


def _strongest_wave(grey: Tensor) -> Tensor:
    power, frequency = _spectrum(grey)
    power = torch.where(frequency < 0.03, 0, power)
    peak = F.avg_pool2d(power[:, None], 3, 1, padding=1)[:, 0].flatten(1).amax(1)
    # What rounding leaves of a plain photo is no wave.
    return 18 * peak / (power.sum((1, 2)) + _NOTHING * _SIDE**4)


def _gaussian(grey: Tensor, sigma: float) -> Tensor:
    # As products of matrices: a convolution of one channel takes several times as long.
    smoother = _smoother(sigma)
    return smoother @ grey @ smoother.T


@cache
def _smoother(sigma: float) -> Tensor:
    """``(H, H)`` a Gaussian along one axis; what is beyond an edge is mirrored at it."""
    reach = int(3 * sigma + 0.5)
    axis = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-axis.square() / (2 * sigma**2))
    rows = torch.arange(_SIDE)[:, None].expand(-1, len(axis))
    places = (rows + axis).abs()
    places = torch.where(places >= _SIDE, 2 * (_SIDE - 1) - places, places)
    return torch.zeros(_SIDE, _SIDE).index_put_(
        (rows, places), (kernel / kernel.sum()).expand(_SIDE, -1), accumulate=True
    )


def _second_derivatives(grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    down, across = torch.gradient(grey, dim=(1, 2))
    down_down, down_across = torch.gradient(down, dim=(1, 2))
    (across_across,) = torch.gradient(across, dim=2)
    return across_across, down_down, down_across


_SCORERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bright": _bright,
    "dark": _dark,
    "pale": _pale,
    "blurred": _blurred,
    "grainy": _grainy,
    "fine texture": _fine_texture,
    "coarse texture": _coarse_texture,
    "stripes": _striped,
    "dots": _dotted,
    "text": _lettered,
    "frame": _framed,
}
# The names of all attributes, in the order of the scores.
ATTRIBUTES: tuple[str, ...] = (*_HUES, "brown", "black", "white", "grey", *_SCORERS)
