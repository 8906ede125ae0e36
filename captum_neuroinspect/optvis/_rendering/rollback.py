"""Optimiser steps that some images of a batch do not take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer


def finite_rows(*values: Tensor) -> Tensor:
    """Which rows are finite in all tensors ``(N, ...)``, bool ``(N,)``.

    Examples::

        >>> finite_rows(torch.tensor([1.0, float("nan")]), torch.ones(2, 3))
        tensor([ True, False])
    """
    return torch.stack([value.flatten(1).isfinite().all(1) for value in map(_rows, values)]).all(0)


def where_rows(rows: Tensor, value: Tensor, other: Tensor | float) -> Tensor:
    """Rows of ``value`` where ``rows`` ``(N,)`` is true, else of ``other``."""
    return torch.where(rows.view(-1, *[1] * (value.ndim - 1)), value, other)


def step_rows(optimizer: Optimizer, params: Sequence[Tensor], rows: Tensor) -> None:
    """Take one step for some rows; the others keep parameters and optimiser state.

    Nothing waits for the device. The optimiser's count of steps, which is one number
    for all rows, goes on. Parameters that have no row per image take the step.

    Args:
        optimizer: its state starts at zeros where it has the shape of a parameter.
        params: its parameters, ``(N, ...)``.
        rows: which rows take the step, bool ``(N,)`` on the parameters' device.
    """
    held = [p for p in params if has_row_per_image(p, len(rows))]
    before = [{key: value.clone() for key, value in _of(optimizer, p).items()} for p in held]
    optimizer.step()
    with torch.no_grad():
        for param, old in zip(held, before, strict=True):
            for key, value in _of(optimizer, param).items():
                value.copy_(where_rows(rows, value, old.get(key, 0.0)))


def has_row_per_image(param: Tensor, n_images: int) -> bool:
    """Whether a parameter's first dimension counts images."""
    return param.ndim > 0 and len(param) == n_images


def _of(optimizer: Optimizer, param: Tensor) -> dict[str, Tensor]:
    """A parameter and what of the optimiser's state has its shape."""
    state = optimizer.state.get(param, {})
    alike = {
        key: value
        for key, value in state.items()
        if isinstance(value, Tensor) and value.shape == param.shape
    }
    return {"": param.detach(), **alike}


def _rows(value: Tensor) -> Tensor:
    return value.unsqueeze(1) if value.ndim == 1 else value
