"""From logits to probabilities: one class of many, or a yes or no for each output."""

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


def data_loss(logits: Tensor, labels: Tensor, link: Link) -> Tensor:
    """Cross entropy of the labels, of each output by itself for ``"sigmoid"``: the mean."""
    if link == "softmax":
        return F.cross_entropy(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits).view_as(logits))


def divergence(original: Tensor, logits: Tensor, link: Link) -> Tensor:
    """KL divergence from the original's predictions to the new ones, mean over the batch.

    For ``"sigmoid"`` also the mean over the outputs, as in :func:`data_loss`.
    """
    if link == "softmax":
        old, new = original.log_softmax(-1), logits.log_softmax(-1)
        return F.kl_div(new, old, reduction="batchmean", log_target=True)
    old = original.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(original, old)
    return F.binary_cross_entropy_with_logits(logits, old) - entropy
