"""Where in a layer the neurons are: at its input or output, and along which dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.layout import shapes_noted
from captum_neuroinspect._core.sites import Site


def is_at_input(layer: nn.Module, asked: bool | None) -> bool:
    """Whether the neurons are what a layer takes: as asked, else for each ``nn.Linear``.

    The type alone decides, as numbers that pass through the network would decide differently
    for other photos.
    """
    return isinstance(layer, nn.Linear) if asked is None else asked


def find_channel_dims(
    activations: Sequence[Tensor],
    channelwise: bool,
    dim: int | None,
    site: Site,
    model: nn.Module | None,
    run: Callable[[], Any],
) -> tuple[int, ...] | None:
    """The dimension of each activation that counts channels; None: no channels.

    Args:
        activations: ``(N, ...)`` each.
        channelwise: whether channels are asked for.
        dim: the dimension, if it is known.
        site: where the activations are.
        model: what ``run`` runs, or None for a function.
        run: a forward pass, to see of what shape maps with known channels are.

    Raises:
        ValueError: when ``dim`` is no such dimension, or is given without ``channelwise``;
            when the network uses the shape with channels first and last.
    """
    if not channelwise:
        if dim is not None:
            raise ValueError(f"channel_dim={dim} is given but channelwise is False")
        return None
    if dim is not None:
        return tuple(_checked(dim, activation) for activation in activations)
    if all(activation.ndim < 3 for activation in activations):
        return (1,) * len(activations)
    with shapes_noted(model) as shapes, torch.no_grad():
        run()
    try:
        return tuple(shapes.channel_dim(site.layer, activation) for activation in activations)
    except ValueError as error:
        raise ValueError(f"{error}, or give channel_dim") from None


def _checked(dim: int, activation: Tensor) -> int:
    n = activation.ndim
    if not -n <= dim < n or dim % n == 0:
        raise ValueError(
            f"channel_dim={dim}, expected a dimension of an activation {tuple(activation.shape)} "
            "other than the first"
        )
    return dim % n
