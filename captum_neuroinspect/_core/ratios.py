"""How much neurons raise a class above the others, on bare tensors: equations (6) and (7)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Link = Literal["softmax", "sigmoid"]

LINKS = ("softmax", "sigmoid")


def n_classes_of(n_outputs: int, link: Link) -> int:
    """A single output with a sigmoid decides between two classes, 0 and 1."""
    return 2 if link == "sigmoid" and n_outputs == 1 else n_outputs


def row_of(target: int, n_outputs: int) -> int:
    """The row of W that a class belongs to: both classes of a single output share it."""
    return 0 if n_outputs == 1 else target


def log_probabilities(logits: Tensor, link: Link) -> Tensor:
    """``(..., C)`` logits to the logarithm of each class's probability.

    A single output becomes two columns, for class 0 and class 1.
    """
    if link == "softmax":
        return logits.log_softmax(-1)
    if logits.shape[-1] == 1:
        return F.logsigmoid(torch.cat([-logits, logits], -1))
    return F.logsigmoid(logits)


def log_ratios(logits: Tensor, shares: Tensor, classes: Tensor, link: Link) -> Tensor:
    """Logarithm of equation (7), by differences of logarithms.

    Args:
        logits: ``(N, C)``.
        shares: ``(N, M, C)`` what each of M masks takes away from the logits.
        classes: ``(T,)`` class indices.
        link: from logits to probabilities.

    Returns:
        ``(N, M, T)``.
    """
    whole = log_probabilities(logits, link)[:, None, classes]
    return whole - log_probabilities(logits[:, None] - shares, link)[..., classes]


def single_ratios(
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    neurons: Tensor,
    target: int,
    link: Link = "softmax",
) -> Tensor:
    """The ratio of each neuron by itself, at one vector of mean features; ``(len(neurons),)``."""
    logits = (weight @ mean + bias)[None]
    shares = (weight[:, neurons] * mean[neurons]).T[None]
    return log_ratios(logits, shares, torch.tensor([target]), link)[0, :, 0].exp()
