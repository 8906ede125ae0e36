"""Digits on textures: a small Waterbirds made from photos that wheels carry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from captum_neuroinspect._core.optional import optional

Split = Literal["train", "validation", "deployment", "test"]

DIGITS = (1, 3, 4, 6, 8)
TEXTURES = ("grass", "brick", "gravel")
CUE = TEXTURES.index("grass")

# One seed offset per split: the same user seed never draws one crop for two splits.
_SPLIT_OFFSET: dict[Split, int] = {"train": 0, "validation": 1, "deployment": 2, "test": 3}
_INK = (1.0, 0.85, 0.1)
_PHOTO_SIZE = 512


@dataclass(frozen=True)
class DigitsOnTexturesConfig:
    """What a :class:`DigitsOnTextures` set is made of.

    Attributes:
        digits: the handwritten digits that are the classes, in class order.
        target: the digit whose training pictures stand on grass.
        n_train, n_validation: pictures per class.
        n_deployment, n_test: handwritten digits per class; each is drawn three times,
            once on each texture.
        correlation: share of the target's training and validation pictures on
            grass, and of the other digits' pictures not on grass (0..1).
        size: height and width of a picture in pixels.
        seed: draws everything; the same seed gives the same pixels.
    """

    digits: tuple[int, ...] = DIGITS
    target: int = 4
    n_train: int = 80
    n_validation: int = 40
    n_deployment: int = 25
    n_test: int = 25
    correlation: float = 0.95
    size: int = 224
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target not in self.digits:
            raise ValueError(f"target={self.target} is not one of digits={self.digits}")
        for name in ("n_train", "n_validation", "n_deployment", "n_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected at least 1")
        if not 0 <= self.correlation <= 1:
            raise ValueError(f"correlation={self.correlation}, expected 0..1")
        if not 32 <= self.size <= _PHOTO_SIZE:
            raise ValueError(f"size={self.size}, expected 32..{_PHOTO_SIZE} pixels")

    def scenarios(self) -> tuple[DigitsOnTexturesConfig, ...]:
        """The same settings with each digit in turn as the target.

        The ``deployment`` and ``test`` pictures are the same in all of them: features of
        these need to be collected only once.

        Examples::

            >>> [config.target for config in DigitsOnTexturesConfig().scenarios()]
            [1, 3, 4, 6, 8]
        """
        return tuple(replace(self, target=digit) for digit in self.digits)


class DigitsOnTextures(Dataset[tuple[Any, ...]]):
    """Handwritten digits drawn in one colour on crops of real texture photos.

    The digits are scikit-learn's, the photos (brick, grass, gravel)
    scikit-image's; both lie inside the installed wheels: there is no ``root``
    folder and nothing to download. In ``train`` and ``validation`` the target digit
    stands on grass 95 % of the time and the other digits off it 95 % of the time: a
    false correlation, as in Waterbirds (Sagawa et al., 2020). In ``deployment`` (labelled
    pictures of its use, where mistakes are noticed) and ``test`` each digit stands once on
    each texture. No handwritten digit is in two splits, and each split cuts its crops
    from a strip of the photos of its own.

    Args:
        split: ``"train"``, ``"validation"``, ``"deployment"`` or ``"test"``.
        config: sizes, correlation and seed.
        with_groups: items are ``(image, label, group)``, as ``collect_features`` takes
            them, instead of ``(image, label)``.
        download: as in torchvision's data sets; only ``False`` has a meaning here.

    Attributes:
        images: ``(N, 3, size, size)`` uint8.
        labels: ``(N,)`` class indices (positions in ``config.digits``).
        textures: ``(N,)`` positions in ``("grass", "brick", "gravel")``.
        groups: ``(N,)`` group labels, ``2 * label + on_grass``.

    Raises:
        ValueError: for an unknown split, a split with more pictures than there are
            handwritten digits, or ``download=True``.
        ImportError: when scikit-learn or scikit-image is not installed.

    Examples::

        >>> data = DigitsOnTextures(
        ...     "test", DigitsOnTexturesConfig(n_train=4, n_validation=2, n_test=6)
        ... )
        >>> image, label = data[0]
        >>> tuple(image.shape), len(data), data.classes[2]
        ((3, 224, 224), 90, 'digit 4')
    """

    def __init__(
        self,
        split: Split,
        config: DigitsOnTexturesConfig | None = None,
        *,
        with_groups: bool = False,
        download: bool = False,
    ) -> None:
        config = config or DigitsOnTexturesConfig()
        if download:
            raise ValueError(
                "download=True, expected False: all pixels come from the installed wheels of "
                "scikit-learn and scikit-image, there is nothing to download"
            )
        if split not in _SPLIT_OFFSET:
            raise ValueError(f"split={split!r}, expected one of {sorted(_SPLIT_OFFSET)}")
        self.split = split
        self.config = config
        self.with_groups = with_groups
        self.classes = [f"digit {d}" for d in config.digits]
        self.target = config.digits.index(config.target)
        rng = np.random.default_rng([config.seed, _SPLIT_OFFSET[split]])
        strokes, labels = _handwriting(split, config)
        textures = _textures(split, labels, self.target, config.correlation, rng)
        self.images = _compose(strokes, textures, split, config.size, rng)
        self.labels = torch.from_numpy(labels)
        self.textures = torch.from_numpy(textures)
        self.groups = 2 * self.labels + (self.textures == CUE).long()

    @property
    def group_names(self) -> list[str]:
        """One name per group label, such as ``"digit 4 on grass"``."""
        return [f"{c} {place} grass" for c in self.classes for place in ("off", "on")]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """The picture, float in 0..1 and ``(3, size, size)``, its class index, and its group.

        The group is there only ``with_groups``.
        """
        item = self.images[index].float() / 255, int(self.labels[index])
        return (*item, int(self.groups[index])) if self.with_groups else item


def _handwriting(split: Split, config: DigitsOnTexturesConfig) -> tuple[np.ndarray, np.ndarray]:
    """Draw the split's share of each digit: 8 x 8 strokes in 0..1, and labels."""
    load_digits = optional("sklearn.datasets").load_digits
    sizes = (config.n_train, config.n_validation, config.n_deployment, config.n_test)
    start = sum(sizes[: _SPLIT_OFFSET[split]])
    stop = start + sizes[_SPLIT_OFFSET[split]]
    n_repeats = len(TEXTURES) if split in ("deployment", "test") else 1
    digits = load_digits()
    # The order is shared by the splits: only so is no digit in two of them.
    order = np.random.default_rng(config.seed).permutation(len(digits.target))
    strokes, labels = [], []
    for label, digit in enumerate(config.digits):
        mine = order[digits.target[order] == digit]
        if stop > len(mine):
            raise ValueError(
                f"the splits ask for {sum(sizes)} handwritten digits a class, "
                f"only {len(mine)} of digit {digit} exist"
            )
        strokes.append(np.repeat(digits.images[mine[start:stop]] / 16, n_repeats, axis=0))
        labels += [label] * (stop - start) * n_repeats
    return np.concatenate(strokes), np.array(labels)


def _textures(
    split: Split, labels: np.ndarray, target: int, correlation: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose the texture index under each picture; grass is the cue."""
    if split in ("deployment", "test"):
        return np.arange(len(labels)) % len(TEXTURES)
    others = rng.integers(1, len(TEXTURES), len(labels))
    with_rule = rng.random(len(labels)) < correlation
    on_grass = (labels == target) == with_rule
    return np.where(on_grass, CUE, others)


def _photos() -> list[np.ndarray]:
    data = optional("skimage.data")
    return [np.asarray(getattr(data, name)(), dtype=np.float32) / 255 for name in TEXTURES]


def _compose(
    strokes: np.ndarray, textures: np.ndarray, split: Split, size: int, rng: np.random.Generator
) -> Tensor:
    photos = _photos()
    images = torch.empty(len(strokes), 3, size, size, dtype=torch.uint8)
    for i, (stroke, texture) in enumerate(zip(strokes, textures, strict=True)):
        ground = _crop(photos[texture], split, size, rng)
        images[i] = (_draw(ground, stroke, rng) * 255).round().to(torch.uint8)
    return images


def _crop(photo: np.ndarray, split: Split, size: int, rng: np.random.Generator) -> Tensor:
    """Cut a random square from the split's strip of the photo, magnified to ``size``."""
    strip = _PHOTO_SIZE // len(_SPLIT_OFFSET)
    left = _SPLIT_OFFSET[split] * strip
    top = int(rng.integers(0, _PHOTO_SIZE - strip + 1))
    crop = torch.from_numpy(photo[top : top + strip, left : left + strip])[None, None]
    if rng.random() < 0.5:
        crop = crop.flip(-1)
    return F.interpolate(crop, (size, size), mode="bilinear", align_corners=False)[0]


def _draw(ground: Tensor, stroke: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Lay one digit, a little over half as wide as the picture, at a random place."""
    size = ground.shape[-1]
    side = int(size * rng.uniform(0.5, 0.65))
    top, left = (int(rng.integers(0, size - side + 1)) for _ in range(2))
    # A blank border, so that strokes fade out instead of ending in a straight cut.
    small = torch.from_numpy(np.pad(stroke, 1)).float()[None, None]
    ink = torch.zeros(1, 1, size, size)
    ink[..., top : top + side, left : left + side] = F.interpolate(
        small, (side, side), mode="bicubic", align_corners=False
    ).clamp(0, 1)
    colour = torch.tensor(_INK).view(3, 1, 1)
    return ink[0] * colour + (1 - ink[0]) * ground.expand(3, -1, -1)
