"""The images that an optimisation starts from, and what moves them in each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect.optvis._lucent_words import LucentParam, Start, is_maker
from captum_neuroinspect.optvis.contrast import with_contrast
from captum_neuroinspect.optvis.illusion_options import IllusionOptions, RenderSettings
from captum_neuroinspect.optvis.maco import maco_image
from captum_neuroinspect.optvis.param import as_batch, illusion_image, published_image
from captum_neuroinspect.optvis.transform import Transform, illusion_transforms

# Called with `(size, batch, *, seed, device)`; or Lucent's `param_f`, called with nothing.
Param = Literal["fft", "maco"] | Callable[..., Start]
# Transforms for every batch, one, or a function `(seeds, n_steps)` that makes them for a batch.
Movement = Sequence[Transform] | Transform | Callable[[Sequence[int], int], Sequence[Transform]]
# Of the authors' code, where the paper has 0.7 to 1.2.
_PUBLISHED_MAGNIFICATION = (0.6, 1.2)
# What leaves 0..1 by more than this was normalised; the noise of a transform is less.
_FAR = 1.5
_ROUNDING = 1e-4


class Starts:
    """Makes the first images of any batch, checked before work starts.

    Args:
        param: ``"fft"``, ``"maco"``, a function ``(size, batch, *, seed, device)`` that gives
            ``(params, image_f)``, or what Lucent's ``param_f`` came to.
        n_images: how many images there are in all.
        settings: size, seed, channels and images to start from.

    Raises:
        TypeError: when ``param`` or ``init`` is of the wrong kind.
        ValueError: for an unknown name, an ``init`` that does not fit, or one for
            another parameterization.
    """

    def __init__(self, param: Param | LucentParam, n_images: int, settings: RenderSettings) -> None:
        options = settings.options
        init, channels = options.init, options.channels
        if init is not None and param != "fft":
            raise ValueError("init is given, but only param='fft' can start from images")
        # Images of the user's own, or a function's, are not to be changed.
        is_ours = isinstance(param, str) and init is None
        self._contrast = options.contrast if is_ours else 0.0
        self._make, self._size = _maker(param, options), settings.size
        if isinstance(param, LucentParam):
            self._size, param = param.size, param.function
        self._shape = (channels, *self._size)
        self._init = None if init is None else as_batch(init, (n_images, *self._shape))
        self._settings = settings
        self.name = param if isinstance(param, str) else _name(param)

    def batch(self, rows: slice, device: torch.device) -> Start:
        """Parameters and images of some rows.

        Raises:
            TypeError: when a function of the user does not give leaf tensors.
            ValueError: when its images have another shape.
        """
        settings, n_images = self._settings, rows.stop - rows.start
        chosen = {} if self._init is None else {"init": self._init[rows]}
        # A function of the user's that knows one number is not surprised by several.
        seeds = settings.seeds(rows)
        seed = seeds if isinstance(settings.seed, tuple) else seeds[0]
        params, image_f = self._make(self._size, n_images, seed=seed, device=device, **chosen)
        params = list(params)
        _check_params(params)
        _check_images(image_f, (n_images, *self._shape))
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
        published: ``None`` means the transforms of the authors' code.

    Raises:
        TypeError: when it is neither functions of images nor a function that makes them; in a
            step, when it gives no images.
        ValueError: in a step, when images become more or fewer, lose their gradient, or leave
            0..1 far behind.
    """

    def __init__(
        self, movement: Movement | None, size: tuple[int, int], published: bool = False
    ) -> None:
        usual = illusion_transforms
        if published:
            usual = partial(illusion_transforms, scale=_PUBLISHED_MAGNIFICATION)
        made: Any = usual if movement is None else movement
        is_made = callable(made) and is_maker(made)
        if callable(made) and not is_made:
            made = [made]
        if not is_made and not (isinstance(made, Sequence) and all(map(callable, made))):
            raise TypeError(
                f"transforms={movement!r}, expected functions of images, or one function "
                "(seeds, n_steps) that gives them"
            )
        self._movement, self._is_made, self._size = made, is_made, size
        self._is_usual = made in (usual, illusion_transforms)
        self.names = "made" if is_made else ", ".join(map(_outer_name, made))
        if self._is_usual:
            self.names = "illusion_transforms"

    def of(self, seeds: Sequence[int], n_steps: int) -> list[Transform]:
        """Transforms of the images with these seeds."""
        made = self._movement(seeds, n_steps) if self._is_made else self._movement
        checks = [] if self._is_usual else [partial(_check_moved, n_images=len(seeds)), _near_range]
        return [*made, *checks, partial(resized, size=self._size)]


def _check_moved(images: Any, n_images: int) -> Tensor:
    """Refuse what a transform made of images if they cannot be optimised any more."""
    if not isinstance(images, Tensor):
        raise TypeError(f"transforms gave {type(images).__name__}, expected images (N, C, H, W)")
    if images.ndim != 4 or len(images) != n_images:
        raise ValueError(
            f"transforms gave shape {tuple(images.shape)}, expected (N, C, H, W) of "
            f"{n_images} images"
        )
    if not images.requires_grad:
        raise ValueError(
            "transforms gave images without a gradient, expected what torch computes from the "
            "images that they are given, without detach() or no_grad()"
        )
    return images


def _near_range(images: Tensor) -> Tensor:
    """Refuse what normalises: networks get images in 0..1, of which little would be left."""
    low, high = (float(value) for value in images.detach().aminmax())
    if low < -_FAR or high > 1 + _FAR:
        raise ValueError(
            f"transforms gave values from {low:.3g} to {high:.3g}, expected about 0..1: what "
            "normalises for the model is preprocess="
        )
    return images


def _maker(param: Param | LucentParam, options: IllusionOptions) -> Callable[..., Start]:
    ours = partial(illusion_image, decay_power=options.decay_power)
    makers: dict[str, Callable[..., Start]] = {
        "fft": published_image if options.published else ours,
        "maco": maco_image,
    }
    if isinstance(param, LucentParam):
        return param.start
    if callable(param):
        return param
    if not isinstance(param, str):
        raise TypeError(f"param is {type(param).__name__}, expected a name or a function")
    if param not in makers:
        raise ValueError(f"param={param!r}, expected one of {sorted(makers)} or a function")
    return partial(makers[param], channels=options.channels)


def _check_params(params: Sequence[Any]) -> None:
    if not params or not all(_is_leaf(param) for param in params):
        raise TypeError(
            "param gave parameters that cannot be optimised, "
            "expected a list of leaf tensors with requires_grad"
        )


def _is_leaf(param: Any) -> bool:
    return isinstance(param, Tensor) and param.is_leaf and param.requires_grad


def _check_images(image_f: Callable[[], Tensor], shape: tuple[int, ...]) -> None:
    images = image_f()
    if not images.requires_grad:
        raise ValueError(
            "param gave images that do not depend on its parameters, expected image_f to compute "
            "them from these"
        )
    images = images.detach()
    if images.shape != shape:
        raise ValueError(f"param gave images of shape {tuple(images.shape)}, expected {shape}")
    low, high = (float(value) for value in images.aminmax())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(
            f"param gave values from {low:.3g} to {high:.3g}, expected 0..1: "
            "lucent.optvis.param.to_valid_rgb brings them there"
        )


def _name(param: Any) -> str:
    # A partial has no name of its own.
    function = param.func if isinstance(param, partial) else param
    return str(getattr(function, "__name__", type(function).__name__))


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images ``(N, C, H, W)`` of this height and width."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def _outer_name(transform: Any) -> str:
    """Of a transform: Lucent's are closures, whose makers have the name."""
    function = transform.func if isinstance(transform, partial) else transform
    return str(getattr(function, "__qualname__", type(function).__name__)).split(".")[0]
