"""The images that an optimisation starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor

from captum_neuroinspect._core.exclusive import generators_forked
from captum_neuroinspect.optvis._rendering.options import RenderOptions
from captum_neuroinspect.optvis.maco import maco_image
from captum_neuroinspect.optvis.param import as_batch, illusion_image

Start = tuple[list[Tensor], Callable[[], Tensor]]
# Called with `(size, batch, *, seed, device)`; or Lucent's `param_f`, called with nothing.
Param = Literal["fft", "maco"] | Callable[..., Start]


class Starts:
    """Makes the first images of any batch, checked before work starts.

    Args:
        param: ``"fft"``, ``"maco"`` or a function ``(size, batch, *, seed, device)``
            that gives ``(params, image_f)``, or one of no arguments, as Lucent has it.
        init: images to start from, ``(C, H, W)`` or ``(N, C, H, W)``; for ``"fft"``.
        n_images: how many images there are in all.
        options: size, channels and seed.

    Raises:
        TypeError: when ``param`` or ``init`` is of the wrong kind.
        ValueError: for an unknown name, an ``init`` that does not fit, or one for
            another parameterization.
    """

    def __init__(
        self, param: Param, init: Tensor | None, n_images: int, options: RenderOptions
    ) -> None:
        if init is not None and param != "fft":
            raise ValueError("init is given, but only param='fft' can start from images")
        shape = (n_images, options.channels, *options.size)
        self._make = _maker(param, options.channels)
        self._init = None if init is None else as_batch(init, shape)
        self._options = options
        self.name = param if isinstance(param, str) else _name(param)

    def batch(self, rows: slice, device: torch.device) -> Start:
        """Parameters and images of some rows.

        Raises:
            TypeError: when a function of the user does not give leaf tensors.
            ValueError: when its images have another shape.
        """
        options, n_images = self._options, rows.stop - rows.start
        chosen = {} if self._init is None else {"init": self._init[rows]}
        seed = options.seed + rows.start
        params, image_f = self._make(options.size, n_images, seed=seed, device=device, **chosen)
        params = list(params)
        _check_params(params)
        _check_shape(image_f, (n_images, options.channels, *options.size))
        return params, image_f


def _maker(param: Param, channels: int) -> Callable[..., Start]:
    makers: dict[str, Callable[..., Start]] = {"fft": illusion_image, "maco": maco_image}
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
