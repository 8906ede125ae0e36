"""Concept photos that need no download: textures, colours and patterns on packaged photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.optional import optional
from captum_neuroinspect.concepts.concept_features import checked_names
from captum_neuroinspect.concepts.concept_photos import ConceptPhotos

_Chance = np.random.Generator
_Change = Callable[[Tensor, _Chance], Tensor]  # a photo (3, H, W) in 0..1 -> the same

_TEXTURES = ("grass", "brick", "gravel")
_SCENES = ("astronaut", "coffee", "chelsea", "rocket", "camera", "immunohistochemistry", "moon")
_COLOURS = {
    "red": (1.0, 0.35, 0.3),
    "green": (0.4, 1.0, 0.4),
    "blue": (0.35, 0.5, 1.0),
    "yellow": (1.0, 0.95, 0.3),
}
_LETTERS = "abcdefghijklmnoprstuvwABCDEFGHIKLMNOPRSTUVW"
_LOW, _HIGH = 0.4, 1.0  # crops, as shares of the shorter side


def packaged_concepts(
    names: Iterable[str] | None = None, *, n_photos: int = 60, size: int = 224, seed: int = 0
) -> ConceptPhotos:
    """Photos of textures, colours and patterns, made from what the wheel of scikit-image carries.

    A texture is a crop of its photo; its counterparts are crops of scenes, and every other one a
    crop of another texture. A colour or a pattern is laid on a crop of a scene, and its i-th
    counterpart is the same crop without it. The photos are drawn when they are asked for.

    Args:
        names: some of :data:`PACKAGED_CONCEPTS`; ``None``: all.
        n_photos: photos of each concept, and as many counterparts; at least 4.
        size: height and width in pixels; at least 32.
        seed: draws crops and patterns.

    Raises:
        ImportError: when scikit-image is not installed.
        TypeError: for names that are no strings, or numbers that are not whole.
        ValueError: for an unknown name, or a number below its least.

    Examples::

        >>> photos = packaged_concepts(["grass", "text"], n_photos=4, size=64)
        >>> photos, tuple(photos.shown[0][0].shape)
        (ConceptPhotos(grass: 4 + 4, text: 4 + 4), (3, 64, 64))
    """
    for name, value, least in (("n_photos", n_photos, 4), ("size", size, 32), ("seed", seed, 0)):
        check_whole(name, value)
        check_at_least(name, value, least)
    chosen = PACKAGED_CONCEPTS if names is None else checked_names(tuple(names))
    if unknown := [name for name in chosen if name not in PACKAGED_CONCEPTS]:
        raise ValueError(
            f"names has {unknown[0]!r}, expected some of {', '.join(PACKAGED_CONCEPTS)}"
        )
    photo = _photos()
    scenes = [photo[name] for name in _SCENES]

    def scene(i: int) -> Tensor:
        rng = np.random.default_rng([seed, 0, i])
        return _crop(scenes[i % len(scenes)], size, rng)

    def shown(name: str) -> Callable[[int], Tensor]:
        number = 1 + PACKAGED_CONCEPTS.index(name)

        def drawn(i: int) -> Tensor:
            rng = np.random.default_rng([seed, number, i])
            if name in _TEXTURES:
                return _crop(photo[name], size, rng)
            return _CHANGES[name](scene(i), rng).clamp(0, 1)

        return drawn

    def absent(name: str) -> Callable[[int], Tensor]:
        others = [other for other in _TEXTURES if other != name]
        number = len(PACKAGED_CONCEPTS) + 1 + _TEXTURES.index(name)

        def drawn(i: int) -> Tensor:
            if i % 2 == 0:
                return scene(i)
            rng = np.random.default_rng([seed, number, i])
            return _crop(photo[others[i // 2 % len(others)]], size, rng)

        return drawn

    plain = _Drawn(scene, n_photos)
    return ConceptPhotos(
        chosen,
        tuple(_Drawn(shown(name), n_photos) for name in chosen),
        tuple(_Drawn(absent(n), n_photos) if n in _TEXTURES else plain for n in chosen),
    )


class _Drawn(Sequence[Tensor]):
    """Pictures that are drawn when asked for; the same number gives the same pixels."""

    def __init__(self, draw: Callable[[int], Tensor], n: int) -> None:
        self._draw, self._n = draw, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._n:
            raise IndexError(index)
        return self._draw(index)


def _photos() -> dict[str, Tensor]:
    """Photos ``(3, H, W)`` in 0..1, by name."""
    data = optional("skimage.data")
    found = {}
    for name in (*_TEXTURES, *_SCENES):
        values = torch.from_numpy(np.asarray(getattr(data, name)())).float() / 255
        found[name] = values.expand(3, -1, -1) if values.ndim == 2 else values.movedim(2, 0)
    return found


def _crop(photo: Tensor, size: int, rng: _Chance) -> Tensor:
    """A random square, perhaps mirrored, at the size that is asked for."""
    _, height, width = photo.shape
    side = int(min(height, width) * rng.uniform(_LOW, _HIGH))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    cut = photo[:, top : top + side, left : left + side]
    if rng.random() < 0.5:
        cut = cut.flip(-1)
    scaled = F.interpolate(cut[None], (size, size), mode="bilinear", antialias=True)
    return scaled[0].clamp(0, 1)


def _tinted(colour: tuple[float, float, float]) -> _Change:
    def change(photo: Tensor, rng: _Chance) -> Tensor:
        grey = photo.mean(0, keepdim=True) * rng.uniform(0.8, 1.2)
        return grey * torch.tensor(colour)[:, None, None]

    return change


def _text(photo: Tensor, rng: _Chance) -> Tensor:
    size = photo.shape[-1]
    canvas = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(canvas)
    height = int(size * rng.uniform(0.08, 0.2))
    font = ImageFont.load_default(height)
    top = int(rng.integers(0, height + 1))
    while top < size:
        words = " ".join(
            "".join(rng.choice(list(_LETTERS), rng.integers(2, 8))) for _ in range(size // height)
        )
        pen.text((int(rng.integers(0, height)), top), words, fill=255, font=font)
        top += int(height * rng.uniform(1.3, 2.5))
    ink = torch.from_numpy(np.asarray(canvas).copy()).float() / 255 * 0.95
    return ink * float(rng.random() < 0.5) + (1 - ink) * photo


def _chequers(photo: Tensor, rng: _Chance) -> Tensor:
    """A black and white tile in a corner."""
    size = photo.shape[-1]
    n = int(rng.integers(4, 9))
    side = int(size * rng.uniform(0.2, 0.45))
    cells = torch.arange(side) * n // side
    tile = ((cells[:, None] + cells[None]) % 2).float()
    top, left = (int(rng.integers(0, 2)) * (size - side) for _ in range(2))
    changed = photo.clone()
    changed[:, top : top + side, left : left + side] = tile
    return changed


def _stripes(photo: Tensor, rng: _Chance) -> Tensor:
    size = photo.shape[-1]
    angle, period = rng.uniform(0, np.pi), size * rng.uniform(0.03, 0.1)
    down, across = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    wave = across * np.cos(angle) + down * np.sin(angle)
    is_dark = (wave / period % 1) < 0.5
    return torch.where(is_dark, photo * 0.25, photo)


def _dots(photo: Tensor, rng: _Chance) -> Tensor:
    size = photo.shape[-1]
    period = size * rng.uniform(0.07, 0.15)
    shifts = rng.uniform(0, period, 2)
    grid = torch.arange(size)
    down = ((grid + shifts[0]) % period - period / 2)[:, None]
    across = ((grid + shifts[1]) % period - period / 2)[None]
    inside = down.square() + across.square() < (0.3 * period) ** 2
    return torch.where(inside, torch.full_like(photo, float(rng.random() < 0.5)), photo)


def _noise(photo: Tensor, rng: _Chance) -> Tensor:
    drawn = torch.from_numpy(rng.normal(0, rng.uniform(0.15, 0.3), tuple(photo.shape))).float()
    return photo + drawn


def _blur(photo: Tensor, rng: _Chance) -> Tensor:
    sigma = photo.shape[-1] * rng.uniform(0.015, 0.03)
    kernel = 2 * int(2 * sigma) + 1
    return vision.gaussian_blur(photo, [kernel, kernel], [sigma, sigma])


def _fog(photo: Tensor, rng: _Chance) -> Tensor:
    share = rng.uniform(0.5, 0.75)
    return (1 - share) * photo + share * 0.9


def _dark(photo: Tensor, rng: _Chance) -> Tensor:
    return photo * rng.uniform(0.1, 0.25)


_CHANGES: dict[str, _Change] = {
    **{name: _tinted(colour) for name, colour in _COLOURS.items()},
    "text": _text,
    "chequers": _chequers,
    "stripes": _stripes,
    "dots": _dots,
    "noise": _noise,
    "blur": _blur,
    "fog": _fog,
    "dark": _dark,
}

PACKAGED_CONCEPTS: tuple[str, ...] = (*_TEXTURES, *_CHANGES)
"""Names of the packaged concepts."""
