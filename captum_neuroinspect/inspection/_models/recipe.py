"""How a model wants its photos: size, crop and normalisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

Preprocess = Callable[[Tensor], Tensor]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
# Pillow's numbers, which Hugging Face writes into its files.
_PILLOW: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Recipe:
    """How photos become a model's input.

    Attributes:
        preprocess: images ``(N, 3, H, W)`` in 0..1 -> the model's input.
        image_size: height and width, in pixels, that the model was evaluated at.
        resize_size: the photo's shorter side before the centre is cropped.
        interpolation: of that resize.
    """

    preprocess: Preprocess = field(default_factory=nn.Identity)
    image_size: int = 224
    resize_size: int = 224
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True, eq=False)
class Built:
    """A model as its library made it.

    Attributes:
        model: on the CPU.
        recipe: how it wants its photos.
        weights: where its values come from, in words.
        n_classes: as its library says, or ``None`` when nobody says.
        class_names: in the order of the logits, or ``None``.
    """

    model: nn.Module
    recipe: Recipe
    weights: str
    n_classes: int | None = None
    class_names: tuple[str, ...] | None = None


def normalise(mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """``(x - mean) / std`` of each channel; nothing to do for mean 0 and std 1.

    Examples::

        >>> normalise([0.5] * 3, [0.25] * 3)
        Normalize(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25], inplace=False)
        >>> normalise([0, 0, 0], [1, 1, 1])
        Identity()
    """
    mean, std = [float(m) for m in mean], [float(s) for s in std]
    is_plain = not any(mean) and all(s == 1 for s in std)
    return nn.Identity() if is_plain else Normalize(mean, std)


def interpolation_of(value: Any) -> Interpolation:
    """The name of what a library calls ``"bicubic"``, ``InterpolationMode.BICUBIC`` or 3."""
    if isinstance(value, int):
        return _PILLOW.get(int(value), "bilinear")
    name = str(getattr(value, "value", value))
    return next((known for known in get_args(Interpolation) if known == name), "bilinear")


def timm_recipe(config: Mapping[str, Any]) -> Recipe:
    """From timm's ``resolve_model_data_config``."""
    size = square({"height": config["input_size"][1], "width": config["input_size"][2]})
    resize = int(size / (config.get("crop_pct") or 1.0))
    preprocess = normalise(config["mean"], config["std"])
    return Recipe(preprocess, size, resize, interpolation_of(config["interpolation"]))


def hugging_face_recipe(config: Mapping[str, Any]) -> Recipe:
    """From an image processor's configuration.

    Photos are brought to the processor's size by their shorter side and a crop of the
    centre, also where the processor squashes them.

    Examples::

        >>> hugging_face_recipe({"size": {"height": 64, "width": 64}}).image_size
        64

    Raises:
        ValueError: when its size is no square.
    """
    resize = square(config.get("size") or 224)
    size = square(config["crop_size"]) if _crops(config) else resize
    if "crop_pct" in config and size < 384:  # ConvNeXt's rule, and its number
        resize = int(size / (config["crop_pct"] or 1.0))
    resample = interpolation_of(config.get("resample", 2))
    return Recipe(_hugging_face_normalise(config), size, resize, resample)


def square(size: Any) -> int:
    """The side of a square, from a number or Hugging Face's dictionary.

    Raises:
        ValueError: for another shape.
    """
    if isinstance(size, int):
        return size
    sides = {size.get(key) for key in ("height", "width", "shortest_edge")} - {None}
    if len(sides) != 1:
        raise ValueError(f"the model wants photos of size {dict(size)}, expected a square")
    return int(sides.pop())


def _crops(config: Mapping[str, Any]) -> bool:
    return bool(config.get("do_center_crop")) and bool(config.get("crop_size"))


def _hugging_face_normalise(config: Mapping[str, Any]) -> nn.Module:
    """Its processors start at pixels of 0..255 and multiply first."""
    scale = 255.0 * (config.get("rescale_factor") or 1 / 255 if _rescales(config) else 1.0)
    offset = 1.0 if _rescales(config) and config.get("rescale_offset") else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if config.get("do_normalize", True):
        mean, std = config.get("image_mean") or mean, config.get("image_std") or std
    # Rounded, because 255 * (1/255) is not quite 1.
    return normalise(
        [round((m + offset) / scale, 9) for m in mean], [round(s / scale, 9) for s in std]
    )


def _rescales(config: Mapping[str, Any]) -> bool:
    return bool(config.get("do_rescale", True))
