"""What logits decide, and how often they are right, for one label a sample or for many."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_neuroinspect._core.modules import as_indices

_N_COLUMNS = 512


def checked_labels(labels: Tensor) -> Tensor:
    """Labels as int64: ``(N,)`` class indices, or ``(N, C)`` zeros and ones.

    ``(N, 1)`` is taken as ``(N,)``: a single output has one label a sample.

    Raises:
        TypeError: when class indices are not whole numbers.
        ValueError: when labels ``(N, C)`` are not zeros and ones.
    """
    if labels.ndim == 1:
        return as_indices("labels", labels)
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("labels (N, C) have other values than 0 and 1, expected multi-hot labels")
    labels = labels.detach().to("cpu", torch.int64)
    return labels[:, 0] if labels.shape[1] == 1 else labels


def decide(logits: Tensor, *, multi_hot: bool) -> Tensor:
    """``(N,)`` the largest logit (one output: is it positive?); multi-hot: ``(N, C)`` 0 or 1."""
    if multi_hot:
        return (logits > 0).long()
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    return logits.argmax(1)


def accuracy_by_class(is_correct: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """``(C,)`` accuracy of each class; NaN where the labels leave it open."""
    if labels.ndim == 1:
        return mean_by(is_correct, labels, n_classes)
    # Some classes at a time: of many the numbers would take several times the labels' room.
    columns = zip(is_correct.split(_N_COLUMNS, 1), labels.split(_N_COLUMNS, 1), strict=True)
    return torch.cat([_balanced(right.float(), given.float()) for right, given in columns])


def _balanced(right: Tensor, given: Tensor) -> Tensor:
    # A rare label is right nearly always by never being given: both sides count the same.
    found = (right * given).sum(0) / given.sum(0)
    spared = (right * (1 - given)).sum(0) / (1 - given).sum(0)
    return (found + spared) / 2


def mean_by(values: Tensor, index: Tensor, n: int) -> Tensor:
    """``(n,)`` mean of the values with each index; of ``(N, C)`` values the rows' means."""
    values = values.float() if values.ndim == 1 else values.float().mean(1)
    sums = torch.zeros(n, dtype=values.dtype).index_add_(0, index, values)
    return sums / torch.bincount(index, minlength=n)


def holds(labels: Tensor, index: int) -> Tensor:
    """``(N,)`` whether a sample has (or was given) the class."""
    return labels == index if labels.ndim == 1 else labels[:, index] == 1


def is_wrong(labels: Tensor, given: Tensor, target: int | None, predicted: int | None) -> Tensor:
    """``(N,)`` whether a sample is a mistake: of a class, or for a class."""
    if labels.ndim == 1:
        wrong = labels != given
        if target is not None:
            wrong &= holds(labels, target)
        return wrong if predicted is None else wrong & holds(given, predicted)
    wrong = (labels != given).any(1)
    if target is not None:
        wrong &= holds(labels, target) & ~holds(given, target)
    return (
        wrong if predicted is None else wrong & holds(given, predicted) & ~holds(labels, predicted)
    )


def is_right(labels: Tensor, given: Tensor, target: int | None) -> Tensor:
    """``(N,)`` whether a sample is right: altogether, or about a class that it has."""
    if labels.ndim == 1:
        return (labels == given) if target is None else (labels == given) & holds(labels, target)
    if target is None:
        return (labels == given).all(1)
    return holds(labels, target) & holds(given, target)
