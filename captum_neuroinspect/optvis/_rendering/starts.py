"""The images that an optimisation starts from, and what moves them in each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect._core.exclusive import generators_forked
from captum_neuroinspect.optvis.contrast import with_contrast
from captum_neuroinspect.optvis.illusion_options import RenderSettings
from captum_neuroinspect.optvis.maco import maco_image
from captum_neuroinspect.optvis.param import as_batch, illusion_image
from captum_neuroinspect.optvis.transform import Transform, illusion_transforms

Start = tuple[list[Tensor], Callable[[], Tensor]]
# Called with `(size, batch, *, seed, device)`; or Lucent's `param_f`, called with nothing.
Param = Literal["fft", "maco"] | Callable[..., Start]
# Transforms for every batch, or a function `(seeds, n_steps)` that makes them for one.
Movement = Sequence[Transform] | Callable[[Sequence[int], int], Sequence[Transform]]


class Starts:
    """Makes the first images of any batch, checked before work starts.

    Args:
        param: ``"fft"``, ``"maco"`` or a function ``(size, batch, *, seed, device)``
            that gives ``(params, image_f)``, or one of no arguments, as Lucent has it.
        n_images: how many images there are in all.
        settings: size, seed, channels and images to start from.

    Raises:
        TypeError: when ``param`` or ``init`` is of the wrong kind.
        ValueError: for an unknown name, an ``init`` that does not fit, or one for
            another parameterization.
    """

    def __init__(self, param: Param, n_images: int, settings: RenderSettings) -> None:
        options = settings.options
        init, channels = options.init, options.channels
        if init is not None and param != "fft":
            raise ValueError("init is given, but only param='fft' can start from images")
        self._shape = (channels, *settings.size)
        self._make = _maker(param, channels, options.decay_power)
        self._init = None if init is None else as_batch(init, (n_images, *self._shape))
        self._settings = settings
        self.name = param if isinstance(param, str) else _name(param)
        # Images of the user's own, or a function's, are not to be changed.
        is_ours = isinstance(param, str) and init is None
        self._contrast = options.contrast if is_ours else 0.0

    def batch(self, rows: slice, device: torch.device) -> Start:
        """Parameters and images of some rows.

        Raises:
            TypeError: when a function of the user does not give leaf tensors.
            ValueError: when its images have another shape.
        """
        settings, n_images = self._settings, rows.stop - rows.start
        chosen = {} if self._init is None else {"init": self._init[rows]}
        seed = settings.seed + rows.start
        params, image_f = self._make(settings.size, n_images, seed=seed, device=device, **chosen)
        params = list(params)
        _check_params(params)
        _check_shape(image_f, (n_images, *self._shape))
        return params, image_f

    def finished(self, images: Tensor) -> Tensor:
        """Optimised images as they are to be looked at."""
        return with_contrast(images, self._contrast) if self._contrast else images


class Transforms:
    """Makes the transforms of any batch, checked before work starts.

    Args:
        movement: ``None``: :func:`illusion_transforms`; or as ``Movement`` says.
        size: height and width that the networks are shown. Lucent's transforms pad, crop and
            scale; its renderer brings images back to one size, and so does this.

    Raises:
        TypeError: when it is neither a list of functions nor a function.
    """

    def __init__(self, movement: Movement | None, size: tuple[int, int]) -> None:
        movement = illusion_transforms if movement is None else movement
        is_list = isinstance(movement, Sequence)
        if not callable(movement) and not (is_list and all(map(callable, movement))):
            raise TypeError(
                f"transforms={movement!r}, expected functions of images, or one function "
                "(seeds, n_steps) that gives them"
            )
        self._movement, self._size = movement, size
        self.names = "made" if callable(movement) else ", ".join(map(_outer_name, movement))
        if movement is illusion_transforms:
            self.names = "illusion_transforms"

    def of(self, seeds: Sequence[int], n_steps: int) -> list[Transform]:
        """Transforms of the images with these seeds."""
        made = self._movement(seeds, n_steps) if callable(self._movement) else self._movement
        return [*made, partial(_resized, size=self._size)]


def _maker(param: Param, channels: int, decay_power: float) -> Callable[..., Start]:
    makers: dict[str, Callable[..., Start]] = {
        "fft": partial(illusion_image, decay_power=decay_power),
        "maco": maco_image,
    }
    if callable(param):
        return partial(_lucents, param) if _is_lucents(param) else param
    if not isinstance(param, str):
        raise TypeError(f"param is {type(param).__name__}, expected a name or a function")
    if param not in makers:
        raise ValueError(f"param={param!r}, expected one of {sorted(makers)} or a function")
    return partial(makers[param], channels=channels)


def _is_lucents(param: Callable[..., Start]) -> bool:
    """Whether a function is to be called with nothing."""

    def takes(*args: Any, **kwargs: Any) -> bool:
        try:
            signature(param).bind(*args, **kwargs)
        except (TypeError, ValueError):  # built-in functions have no signature
            return False
        return True

    return takes() and not takes((1, 1), 1, seed=0, device="cpu")


def _lucents(param_f: Callable[[], Start], *_: Any, seed: int, **__: Any) -> Start:
    """Lucent draws from the global generator, which is lent and put back."""
    with generators_forked():
        torch.default_generator.manual_seed(seed)
        return param_f()


def _check_params(params: Sequence[Any]) -> None:
    if not params or not all(_is_leaf(param) for param in params):
        raise TypeError(
            "param gave parameters that cannot be optimised, "
            "expected a list of leaf tensors with requires_grad"
        )


def _is_leaf(param: Any) -> bool:
    return isinstance(param, Tensor) and param.is_leaf and param.requires_grad


def _check_shape(image_f: Callable[[], Tensor], shape: tuple[int, ...]) -> None:
    with torch.no_grad():
        found = tuple(image_f().shape)
    if found != shape:
        raise ValueError(f"param gave images of shape {found}, expected {shape}")


def _name(param: Any) -> str:
    # A partial has no name of its own.
    function = param.func if isinstance(param, partial) else param
    return str(getattr(function, "__name__", type(function).__name__))


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def _outer_name(transform: Any) -> str:
    """Of a transform: Lucent's are closures, whose makers have the name."""
    function = transform.func if isinstance(transform, partial) else transform
    return str(getattr(function, "__qualname__", type(function).__name__)).split(".")[0]
