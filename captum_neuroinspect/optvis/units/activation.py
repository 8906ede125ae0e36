"""Reading units: one value per image from whatever shape a layer's output has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.modules import (
    as_input,
    captured_input,
    first_tensor,
    frozen,
    is_close,
)

# A unit for each image, int64 (N,), or a direction, weights (N, F) -> their maps (N, h, w).
UnitMaps = Callable[[Tensor], Tensor]
# What stands for an image in a layer of tokens.
Token = int | Literal["mean", "cls"]


def n_units(output: Tensor) -> int:
    """How many units a layer's output ``(N, F)``, ``(N, C, H, W)`` or ``(N, T, D)`` has.

    Raises:
        ValueError: for any other number of dimensions.
    """
    _check_ndim(output)
    return output.shape[-1 if output.ndim == 3 else 1]


def check_token(token: Token) -> int | None:
    """The number of a token; ``None`` for the mean over all.

    Raises:
        ValueError: when it is none of these.
    """
    if token == "mean":
        return None
    if token == "cls":
        return 0
    if isinstance(token, bool) or not isinstance(token, int):
        raise ValueError(f"token={token!r}, expected 'mean', 'cls' or the number of a token")
    return token


def one_token(output: Tensor, token: Token) -> Tensor:
    """Choose a token of a layer's output ``(N, T, D)``; for ``"mean"`` nothing is chosen yet.

    Returns:
        ``(N, D)``; the output itself for ``"mean"``.

    Raises:
        ValueError: when ``token`` is unknown, or a layer has no such token.

    Examples::

        >>> one_token(torch.zeros(2, 17, 8), "cls").shape
        torch.Size([2, 8])
    """
    number = check_token(token)
    if number is None:
        return output
    n_tokens = output.shape[1] if output.ndim == 3 else 0
    if not -n_tokens <= number < n_tokens:
        raise ValueError(
            f"token={number}, but the layer's output has shape {tuple(output.shape)}, "
            "expected tokens (N, T, D) and a number in 0..T-1"
        )
    return output[:, number]


def unit_activation(output: Tensor, neurons: Tensor) -> Tensor:
    """Activation of one unit per image.

    Args:
        output: a layer's output: features ``(N, F)``, maps ``(N, C, H, W)`` (the
            mean over positions is taken) or tokens ``(N, T, D)`` (the mean over
            tokens).
        neurons: which unit of each image, int64 of shape ``(N,)``.

    Returns:
        Activations of shape ``(N,)``, differentiable.

    Raises:
        ValueError: when a shape is not one of these.

    Examples::

        >>> output = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        >>> unit_activation(output, torch.tensor([0, 2]))
        tensor([1., 6.])
        >>> unit_activation(torch.ones(2, 3, 7, 7), torch.tensor([0, 2]))
        tensor([1., 1.])
    """
    rows = _rows(output, neurons)
    if output.ndim == 3:
        return output[rows, :, neurons].mean(1)
    return output[rows, neurons].flatten(1).mean(1) if output.ndim == 4 else output[rows, neurons]


def activation_map(output: Tensor | UnitMaps, neurons: Tensor) -> Tensor | None:
    """Where in each image a unit is active.

    Args:
        output: a layer's output, as in :func:`unit_activation`, or a function that
            works the maps out when they are asked for (which also takes directions).
        neurons: which unit of each image, int64 of shape ``(N,)``.

    Returns:
        Maps of shape ``(N, h, w)``, or ``None`` when the output has no positions
        (features, tokens, or maps of a single position).

    Raises:
        ValueError: when a shape is not one of these.

    Examples::

        >>> activation_map(torch.ones(2, 3, 7, 5), torch.tensor([0, 2])).shape
        torch.Size([2, 7, 5])
        >>> activation_map(torch.ones(2, 3), torch.tensor([0, 2])) is None
        True
    """
    if not isinstance(output, Tensor):
        return output(neurons)
    rows = _rows(output, neurons)
    if output.ndim != 4 or output.shape[2] * output.shape[3] == 1:
        return None
    return output[rows, neurons]


def find_feature_map(model: nn.Module, head: nn.Linear, example: Tensor) -> nn.Module | None:
    """Find the module whose maps, averaged over positions, are the features.

    Its maps show *where* in the image a feature is active. Every module whose 4-D
    output has more than one position and whose mean over positions equals the
    head's input (to 1e-4 of the largest feature) is a candidate; the one that ran
    last is taken. A module that runs several times counts by its last call.

    Args:
        model: the classifier.
        head: its decision layer.
        example: one batch as the model takes it, such as ``(2, 3, 224, 224)``.

    Returns:
        The module, or ``None`` when there is none (tokens, or another pooling than the
        mean): then a renderer looks further, for other kinds of maps.

    Examples::

        >>> pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Linear(4, 2))
        >>> find_feature_map(model, model[3], torch.rand(2, 3, 8, 8))
        ReLU()
    """
    last_output: dict[nn.Module, Tensor] = {}

    def remember(module: nn.Module, _: Any, output: Any) -> None:
        last_output.pop(module, None)
        tensor = first_tensor(output)
        if tensor is not None and _has_positions(tensor, head.in_features):
            last_output[module] = tensor

    with frozen(model), torch.no_grad(), captured_input(head) as features, ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_hook(remember).remove)
        model(as_input(model, example))
        candidates = [m for m, out in last_output.items() if _is_mean(features.value, out)]
    return candidates[-1] if candidates else None


def _has_positions(output: Tensor, n_channels: int) -> bool:
    return output.ndim == 4 and output.shape[1] == n_channels and output[0, 0].numel() > 1


def _is_mean(features: Tensor, maps: Tensor) -> bool:
    if features.shape != maps.shape[:2]:
        return False
    return is_close(maps.float().mean((2, 3)), features)


def _rows(output: Tensor, neurons: Tensor) -> Tensor:
    _check_ndim(output)
    if neurons.shape != output.shape[:1]:
        raise ValueError(
            f"neurons has shape {tuple(neurons.shape)}, expected ({len(output)},): one per image"
        )
    return torch.arange(len(output), device=output.device)


def _check_ndim(output: Tensor) -> None:
    if output.ndim not in (2, 3, 4):
        raise ValueError(
            f"the layer's output has shape {tuple(output.shape)}, "
            "expected (N, F), (N, C, H, W) or (N, T, D)"
        )
