"""The libraries' own preprocessing, run as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from captum_neuroinspect.models._recipe import interpolation_of
from captum_neuroinspect.photos.view import Interpolation

_SIZES = ("size", "crop_size")  # in the files of image processors
_SIDES = ("height", "width", "shortest_edge", "longest_edge", "max_height", "max_width")


class LibraryTransform(Protocol):
    """From a Pillow photo of three channels to what the model takes, ``(C, H, W)``."""

    @property
    def interpolation(self) -> Interpolation: ...
    def __call__(self, photo: Image.Image) -> Tensor: ...
    def at_size(self, image_size: int) -> LibraryTransform:
        """The same for another size; the same share of the photo is cropped away."""


@dataclass(frozen=True, eq=False)
class TorchvisionTransform:
    """What ``weights.transforms`` makes."""

    make: Callable[..., Any]
    options: Mapping[str, int]

    @classmethod
    def of(cls, weights: Any) -> TorchvisionTransform:
        return cls(weights.transforms, {})

    @property
    def interpolation(self) -> Interpolation:
        return interpolation_of(self.make().interpolation)

    def __call__(self, photo: Image.Image) -> Tensor:
        transformed: Tensor = self.make(**self.options)(photo)
        return transformed

    def at_size(self, image_size: int) -> TorchvisionTransform:
        own = self.make()
        resize = round(own.resize_size[0] * image_size / own.crop_size[0])
        options = {"crop_size": image_size, "resize_size": max(resize, image_size)}
        return TorchvisionTransform(self.make, options)


@dataclass(frozen=True, eq=False)
class TimmTransform:
    """What ``timm.data.create_transform`` makes of a data configuration."""

    config: Mapping[str, Any]
    run: Callable[[Image.Image], Tensor]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> TimmTransform:
        from timm.data.transforms_factory import create_transform

        run: Any = create_transform(**config, is_training=False)
        return cls(config, run)

    @property
    def interpolation(self) -> Interpolation:
        return interpolation_of(self.config["interpolation"])

    def __call__(self, photo: Image.Image) -> Tensor:
        return self.run(photo)

    def at_size(self, image_size: int) -> TimmTransform:
        channels = self.config["input_size"][0]
        return TimmTransform.of({**self.config, "input_size": (channels, image_size, image_size)})


@dataclass(frozen=True, eq=False)
class HuggingFaceTransform:
    """An image processor of transformers."""

    processor: Any

    @property
    def interpolation(self) -> Interpolation:
        return interpolation_of(getattr(self.processor, "resample", None) or 2)

    def __call__(self, photo: Image.Image) -> Tensor:
        made = self.processor(images=photo, return_tensors="pt")["pixel_values"]
        first: Tensor = made[0]
        return first

    def at_size(self, image_size: int) -> HuggingFaceTransform:
        now = self(Image.new("RGB", (64, 64))).shape[-1]
        processor = copy.deepcopy(self.processor)
        for name in _SIZES:
            size = getattr(processor, name, None)
            if isinstance(size, int):
                setattr(processor, name, round(size * image_size / now))
            elif size is not None:
                setattr(processor, name, _scaled(size, image_size / now))
        return HuggingFaceTransform(processor)


def _scaled(size: Any, factor: float) -> Any:
    """A dictionary of sides, or transformers' own class for them."""
    sides = {key: size[key] for key in _SIDES if size.get(key)}
    return type(size)(**{key: round(side * factor) for key, side in sides.items()})
