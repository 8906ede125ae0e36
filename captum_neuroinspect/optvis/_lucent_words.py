"""What Lucent's users write, in the terms of the renderer; without importing Lucent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import getclosurevars, signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_neuroinspect._core.exclusive import generators_forked
from captum_neuroinspect.optvis.units.reader import Preprocess

if TYPE_CHECKING:
    from collections.abc import Mapping

Start = tuple[list[Tensor], Callable[[], Tensor]]
# Lucent hands an objective a function that gives a layer's output by the layer's name.
Objective = Callable[[Callable[[str], Tensor]], Any]
# What Lucent answers by itself, whatever layers there are.
LUCENT_NAMES = ("input", "labels")
# Lucent brings smaller images to this size.
_LEAST_SHOWN = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def named_channel(text: str) -> tuple[str, int]:
    """Layer and channel of ``"layer:3"``.

    Raises:
        ValueError: for another text.

    Examples::

        >>> named_channel("mixed4a:476")
        ('mixed4a', 476)
    """
    layer, _, channel = text.rpartition(":")
    if not layer.strip() or not channel.strip().isdecimal():
        raise ValueError(f"neurons={text!r}, expected 'layer:channel', such as 'layer4:3'")
    return layer.strip(), int(channel)


def as_objectives(neurons: Any) -> tuple[Objective, ...] | None:
    """Objectives, one for each of ``neurons``; ``None`` where these are numbers or directions.

    Raises:
        TypeError: when numbers and objectives are mixed.
        ValueError: for a text other than ``"layer:3"``.
    """
    if isinstance(neurons, Tensor):
        return None
    several = list(neurons) if isinstance(neurons, (list, tuple)) else [neurons]
    are_objectives = [isinstance(one, str) or _is_function(one) for one in several]
    if not any(are_objectives):
        return None
    if not all(are_objectives):
        odd = several[are_objectives.index(False)]
        raise TypeError(
            f"neurons mixes objectives and {odd!r}, expected only objectives and 'layer:channel'"
        )
    return tuple(_channel(one) if isinstance(one, str) else one for one in several)


def one_layer(neurons: Any) -> tuple[str, int | list[int]] | None:
    """Layer and numbers of texts ``"layer:3"`` that speak of one layer, else ``None``.

    Examples::

        >>> one_layer(["mixed4a:4", "mixed4a:7"])
        ('mixed4a', [4, 7])
    """
    texts = [neurons] if isinstance(neurons, str) else neurons
    if not isinstance(texts, (list, tuple)) or not texts:
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    layers, channels = zip(*map(named_channel, texts), strict=True)
    if len(set(layers)) > 1 or layers[0] in LUCENT_NAMES:
        return None
    return layers[0], channels[0] if isinstance(neurons, str) else list(channels)


def description(objective: Objective) -> str:
    """What an objective is, in words."""
    words = getattr(objective, "description", "") or getattr(objective, "__name__", "")
    return str(words) or type(objective).__name__


@dataclass(frozen=True, eq=False)
class LucentParam:
    """Lucent's ``param_f``.

    Attributes:
        function: of no arguments, gives parameters and a function of images.
        n_images: that one call gives.
        size: height and width of the images.
    """

    function: Callable[[], Any]
    n_images: int
    size: tuple[int, int]

    @property
    def shown_size(self) -> tuple[int, int]:
        """What the networks are shown by default: small images are enlarged, as in Lucent."""
        return self.size if min(self.size) >= _LEAST_SHOWN else (_LEAST_SHOWN, _LEAST_SHOWN)

    @classmethod
    def of(cls, param: Any, size: Any, channels: int) -> LucentParam | None:
        """``None`` where ``param`` is something else.

        Args:
            param: a function of nothing, or Lucent's ``image``, ``cppn``, ``fft_image`` or
                ``pixel_image`` itself, which gets the size.
            size: one side, ``(height, width)``, or ``None`` for 224.
            channels: of the images.
        """
        function = _of_nothing(param, size, channels) if callable(param) else None
        if function is None:
            return None
        with generators_forked(), torch.no_grad():
            shape = tuple(function()[1]().shape)
        if len(shape) != 4:
            raise ValueError(f"param gave images of shape {shape}, expected (N, C, H, W)")
        return cls(function, shape[0], (shape[2], shape[3]))

    def start(self, size: Any, batch: int, *, seed: int, device: Any) -> Start:
        """Parameters and images; one call for each image where a call gives one.

        Lucent draws from the global generator, which is lent and put back.
        """
        n_calls = batch if self.n_images == 1 else 1
        starts = []
        for number in range(n_calls):
            with generators_forked():
                torch.default_generator.manual_seed(seed + number)
                params, image_f = self.function()
                starts.append((list(params), image_f))
        if n_calls == 1:
            return starts[0]
        every = [param for params, _ in starts for param in params]
        return every, lambda: torch.cat([image_f() for _, image_f in starts])


def as_movement(transforms: Any, preprocess: Any) -> tuple[Any, Preprocess | None]:
    """Transforms as a list or a function that makes them, and what comes after them.

    Lucent has normalisation at the end of the transforms; here it is ``preprocess``, as an
    encoder sees the images too. So what normalises, and all behind it, goes there.

    Args:
        transforms: ``None``, a list, Lucent's ``compose([...])``, another function of images,
            or one of ``(seeds, n_steps)``.
        preprocess: a function, ``None`` or ``False`` for nothing; ``True`` for what Lucent does.

    Raises:
        ValueError: when both normalise.
    """
    if not (isinstance(transforms, Sequence) and not isinstance(transforms, str)):
        if not callable(transforms) or is_maker(transforms):
            return transforms, preprocess
        transforms = [transforms]
    if not all(map(callable, transforms)):
        return transforms, preprocess
    moves = [inner for transform in transforms for inner in _taken_apart(transform)]
    first = next((i for i, move in enumerate(moves) if _normalises(move)), len(moves))
    if first == len(moves):
        return moves, preprocess
    if preprocess:
        raise ValueError("transforms normalise and preprocess is given, expected one of them")
    return moves[:first], partial(_in_turn, moves[first:])


def as_preprocess(preprocess: Any, model: torch.nn.Module) -> Preprocess | None:
    """A function, or nothing; ``True`` is what Lucent's renderer does.

    Raises:
        TypeError: for something else.
    """
    if preprocess is True:
        return _as_inception if type(model).__name__ == "InceptionV1" else _normalised
    if not (preprocess is None or preprocess is False or callable(preprocess)):
        raise TypeError(
            f"preprocess={preprocess!r}, expected a function of images in 0..1, True or None"
        )
    return None if preprocess is False else preprocess


def is_maker(function: Callable[..., Any]) -> bool:
    """Whether a function is called with seeds and the number of steps, and not with images."""
    parameters = _parameters(function)
    if _takes(function, (1,)):
        return len(parameters) > 1 and list(parameters)[1] == "n_steps"
    return _takes(function, (1, 2))


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (Tensor, type))


def _channel(text: str) -> Objective:
    """Lucent's ``channel``."""
    layer, channel = named_channel(text)

    def objective(model: Callable[[str], Tensor]) -> Tensor:
        output = model(layer)
        if channel >= output.shape[1]:
            raise ValueError(f"neuron={channel} of {layer}, expected 0..{output.shape[1] - 1}")
        return -output[:, channel].mean()

    objective.__name__ = text
    return objective


def _of_nothing(param: Any, size: Any, channels: int) -> Callable[[], Any] | None:
    if _takes(param, ((1, 1), 1), seed=0, device="cpu"):
        return None
    if _takes(param):
        return param
    side = _LEAST_SHOWN if size is None else size
    height, width = (side, side) if isinstance(side, int) else side
    names = _parameters(param)
    if "w" in names:
        own = {} if channels == 3 else {"channels": channels}
        return partial(param, width, height, batch=1, **own)
    if "shape" in names:
        return partial(_within_range, param, (1, channels, height, width))
    if "size" in names and height == width and "seed" not in names:
        return partial(param, height)
    return None


def _within_range(param: Any, shape: tuple[int, ...]) -> Any:
    """Lucent's parts give any values, which its ``to_valid_rgb`` brings to 0..1."""
    params, image_f = param(shape)
    return params, lambda: image_f().sigmoid()


def _taken_apart(transform: Any) -> Iterator[Any]:
    """The functions in Lucent's ``compose``, which is a closure, or torchvision's ``Compose``."""
    inner: Any = None
    if getattr(transform, "__qualname__", "") == "compose.<locals>.inner":
        inner = getclosurevars(transform).nonlocals.get("transforms")
    elif type(transform).__name__ == "Compose":
        inner = getattr(transform, "transforms", None)
    if not isinstance(inner, (list, tuple)):
        yield transform
        return
    for one in inner:
        yield from _taken_apart(one)


def _normalises(transform: Any) -> bool:
    outer = getattr(transform, "__qualname__", "").split(".")[0]
    is_lucents = str(getattr(transform, "__module__", "")).startswith("lucent.")
    return type(transform).__name__ == "Normalize" or (
        is_lucents and outer in ("normalize", "preprocess_inceptionv1")
    )


def _in_turn(functions: Sequence[Preprocess], images: Tensor) -> Tensor:
    for function in functions:
        images = function(images)
    return images


def _normalised(images: Tensor) -> Tensor:
    mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in (_MEAN, _STD))
    return (images - mean) / std


def _as_inception(images: Tensor) -> Tensor:
    return images * 255 - 117


def _takes(function: Any, args: tuple[Any, ...] = (), **kwargs: Any) -> bool:
    """Whether a function can be called like this; one without a signature takes images."""
    try:
        signature(getattr(function, "forward", function)).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:
        return len(args) == 1
    return True


def _parameters(function: Any) -> Mapping[str, Any]:
    try:
        return signature(getattr(function, "forward", function)).parameters
    except (TypeError, ValueError):
        return {}
