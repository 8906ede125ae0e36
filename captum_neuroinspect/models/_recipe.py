"""How a model wants its photos: geometry and colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from captum_neuroinspect.photos.view import Interpolation, Resizing, View

Preprocess = Callable[[Tensor], Tensor]
SizedBy = Literal["nobody", "library", "user"]
# Pillow's numbers, which Hugging Face writes into its files.
_PILLOW: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Wanted:
    """What the user asks for instead of what the library does; ``None``: as it does.

    Attributes:
        image_size: height and width in pixels.
        resize: another resizing.
    """

    image_size: int | None = None
    resize: int | str | Resizing | None = None

    def applied_to(self, view: View) -> View:
        """A view at the size and with the resizing that are wanted."""
        if self.image_size is not None and view.size != (self.image_size, self.image_size):
            view = view.at_size(self.image_size)
        return view if self.resize is None else view.with_resize(self.resize)


@dataclass(frozen=True)
class Recipe:
    """How photos become a model's input.

    Attributes:
        preprocess: images ``(N, 3, H, W)`` in 0..1 -> the model's input.
        view: a photo -> such an image.
        sized_by: who says at which size the model looks at photos.
    """

    preprocess: Preprocess = field(default_factory=nn.Identity)
    view: View = field(default_factory=lambda: View.of(224))
    sized_by: SizedBy = "library"


@dataclass(frozen=True, eq=False)
class Built:
    """A model as its library made it.

    Attributes:
        model: on the CPU.
        recipe: how it wants its photos, given what the user wants.
        weights: where its values come from, in words.
        n_classes: as its library says, or ``None`` when unknown.
        class_names: in the order of the logits, or ``None``.
    """

    model: nn.Module
    recipe: Callable[[Wanted], Recipe]
    weights: str
    n_classes: int | None = None
    class_names: tuple[str, ...] | None = None


class ChannelOrder(nn.Module):
    """Channels ``(N, C, H, W)`` in another order, such as BGR."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = list(order)

    def forward(self, images: Tensor) -> Tensor:
        return images[..., self.order, :, :]

    def extra_repr(self) -> str:
        return str(self.order)


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
