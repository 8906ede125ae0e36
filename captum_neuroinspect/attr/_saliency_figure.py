"""A sheet of saliency pictures, each drawn by Captum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect.attr._neuron_gradients import Selector, as_selectors
from captum_neuroinspect.attr.neuron_ranking import NeuronList

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Sign = Literal["all", "positive", "negative", "absolute_value"]

_RANGES = {"positive": (0.0, None), "negative": (None, 0.0)}
# Dark where nothing is, so that the little that stands out is seen on a grey photo.
_COLOURS = dict.fromkeys(("absolute_value", "positive", "negative"), "inferno") | {"all": "RdBu_r"}
_CELL = 1.9  # inches
_ROUNDING = 1e-3


def saliency_figure(
    saliency: Tensor,
    images: Tensor,
    neurons: NeuronList | Sequence[Selector] | Tensor | None = None,
    *,
    names: Sequence[str] | None = None,
    sign: Sign | None = None,
    alpha: float = 0.6,
) -> Figure:
    """Draw photos in rows, and beside each one picture per neuron.

    The heat maps lie over the grey photo, by Captum's ``visualize_image_attr``; each
    is scaled by itself, so that colours compare places, not neurons. Where nothing is
    to be drawn the photo stays as it is, marked "zero".

    Args:
        saliency: what :func:`neuron_saliency` gives, ``(N, K, C, H, W)`` or, from
            gradcam, ``(N, K, 1, h, w)``: brought to the photos' size.
        images: the photos in 0..1, before normalisation, ``(N, 3, H, W)``.
        neurons: the K neurons, for the titles of the columns.
        names: N words for the rows, such as the classes.
        sign: what to draw, as in Captum. ``None``: the absolute value, which is usual
            for gradients; for gradcam ``"positive"``, what raises the neuron.
        alpha: opacity of the heat maps, 0..1.

    Returns:
        A matplotlib ``Figure`` that belongs to no window: ``.savefig(path)`` it, or
        let a notebook show it.

    Raises:
        ValueError: when the shapes do not fit, photos are outside 0..1, saliency is
            not finite, ``sign`` is unknown, or there are more or fewer names than
            photos or neurons than columns.

    Examples::

        >>> import torch
        >>> photos = torch.rand(2, 3, 16, 16)
        >>> figure = saliency_figure(torch.rand(2, 4, 1, 7, 7), photos, neurons=[8, 1, 5, 3])
        >>> len(figure.axes)
        10
    """
    _check(saliency, images, names, sign)
    titles = _titles(saliency.shape[1], neurons)
    from matplotlib.figure import Figure  # an import that takes long, for those who draw

    is_map = saliency.shape[2:] != images.shape[1:]
    sign = sign or ("positive" if is_map else "absolute_value")
    photos = images.detach().float().cpu().clamp(0, 1).permute(0, 2, 3, 1).numpy()
    heats = _heats(saliency, images.shape[2:], sign)
    n_rows, n_columns = len(photos), len(titles)
    figure = Figure((_CELL * n_columns, _CELL * n_rows + 0.3), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for row, photo in enumerate(photos):
        for axes, heat in zip(grid[row], [None, *heats[row]], strict=True):
            _draw(figure, axes, photo, heat, sign, alpha)
        grid[row, 0].set_ylabel("" if names is None else names[row])
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize="medium")
    return figure


def _heats(saliency: Tensor, size: Sequence[int], sign: Sign) -> np.ndarray:
    """Sums over channels, of the photos' size and between -1 and 1: ``(N, K, H, W)``."""
    heats = saliency.detach().float().cpu().sum(2)
    if heats.shape[2:] != size:
        heats = F.interpolate(heats, tuple(size), mode="bilinear", align_corners=False)
    if sign in _RANGES:
        heats = heats.clamp(*_RANGES[sign])
    # Captum warns of gradients that are merely small.
    largest = heats.abs().amax((2, 3), keepdim=True)
    return (heats / largest.where(largest > 0, 1.0)).numpy()


def _draw(
    figure: Figure, axes: Axes, photo: np.ndarray, heat: np.ndarray | None, sign: Sign, alpha: float
) -> None:
    """The photo in colour or, grey, under its heat map."""
    from captum.attr import visualization

    is_drawn = heat is not None and bool(heat.any())  # Captum refuses to draw zeros
    if heat is not None and not is_drawn:
        box = {"facecolor": "black", "alpha": 0.6, "linewidth": 0}
        text = axes.text(0.5, 0.06, "zero", transform=axes.transAxes, bbox=box)
        text.set(color="white", fontsize="small", horizontalalignment="center")
    shown = heat if heat is not None and is_drawn else np.ones(photo.shape[:2])
    visualization.visualize_image_attr(
        shown[..., np.newaxis],  # Captum 0.8 takes no (H, W)
        photo,
        "original_image" if heat is None else "blended_heat_map",
        sign,
        plt_fig_axis=(figure, axes),
        cmap=_COLOURS[sign],
        alpha_overlay=alpha if is_drawn else 0.0,
        use_pyplot=False,
    )


def _titles(n_neurons: int, neurons: Any) -> list[str]:
    if neurons is None:
        return ["photo", *[""] * n_neurons]
    selectors = as_selectors(neurons)
    if len(selectors) != n_neurons:
        raise ValueError(f"neurons has {len(selectors)} entries, expected {n_neurons}")
    return ["photo", *map(_title, selectors)]


def _title(selector: Selector) -> str:
    if isinstance(selector, tuple):
        return ", ".join(":" if isinstance(s, slice) else str(s) for s in selector)
    if isinstance(selector, int):
        return f"neuron {selector}"
    return getattr(selector, "__name__", "function")


def _check(saliency: Tensor, images: Tensor, names: Sequence[str] | None, sign: str | None) -> None:
    if sign is not None and sign not in _COLOURS:
        raise ValueError(f"sign={sign!r}, expected one of {', '.join(_COLOURS)}")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images have shape {tuple(images.shape)}, expected (N, 3, H, W)")
    if saliency.ndim != 5 or len(saliency) != len(images) or not saliency.numel():
        raise ValueError(
            f"saliency has shape {tuple(saliency.shape)}, expected ({len(images)}, K, C, H, W)"
        )
    if not saliency.isfinite().all():
        raise ValueError("saliency has NaN or infinite values")
    # Resizing leaves rounding errors beyond both ends.
    if not (images.min() >= -_ROUNDING and images.max() <= 1 + _ROUNDING):
        raise ValueError(
            f"images reach from {float(images.min()):.3g} to {float(images.max()):.3g}, "
            "expected photos in 0..1, before normalisation"
        )
    if names is not None and len(names) != len(images):
        raise ValueError(f"names has {len(names)} entries, expected {len(images)}")
