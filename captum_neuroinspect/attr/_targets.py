"""Captum's target formats, read as the right class of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_neuroinspect._core.modules import as_indices, check_indices, logits_of
from captum_neuroinspect.attr._captum import TargetType

# Operations of autograd that change no number, behind which a sigmoid may stand.
_RESHAPING = tuple(
    f"{name}Backward"
    for name in (
        *("View", "UnsafeView", "Squeeze", "Unsqueeze", "Select", "Slice"),
        *("Alias", "Clone", "ToCopy"),
    )
)


@dataclass(frozen=True, eq=False)
class Targets:
    """The right class of each sample, and where in a larger output its logits stand.

    A network with one output ``(N, 1)`` or ``(N,)`` decides between the classes 0 and 1: its
    output is the logit of class 1 against a 0 for class 0. The cross entropy of the two is the
    binary cross entropy of the one.

    Attributes:
        index: ``(N, K)`` one row a sample: the class, then a position in an output of
            shape ``(N, C, *positions)``, as in ``torch.nn.functional.cross_entropy``.
    """

    index: Tensor

    @classmethod
    def read(cls, target: TargetType, n_samples: int) -> Targets:
        """Understand every format of Captum.

        Args:
            target: an int, or a tensor with one element: for all samples. A list of
                ints or a tensor (N,): one class a sample. A tuple (class, position,
                ...): for all samples. A list of such tuples: one a sample.
            n_samples: N.

        Raises:
            TypeError: for numbers that are not whole.
            ValueError: when target is missing or has another length than N.
        """
        if target is None:
            raise ValueError(
                "target is missing: give the right class, an int for all samples or one an entry"
            )
        if isinstance(target, tuple):
            return cls(as_indices("target", target).expand(n_samples, -1))
        if isinstance(target, list) and target and isinstance(target[0], tuple):
            return cls(_rows(target, n_samples))
        index = as_indices("target", target)
        if index.numel() == 1:
            index = index.expand(n_samples)
        _check_length(len(index), n_samples)
        return cls(index[:, None])

    def subset(self, rows: slice) -> Targets:
        return Targets(self.index[rows])

    def select(self, logits: Tensor) -> Tensor:
        """The logits ``(N, C)`` that the classes are chosen from.

        Raises:
            ValueError: when target does not fit the output, or a class is out of range; when
                a single output is the probability that a sigmoid gives.
        """
        logits = logits[:, None] if logits.ndim == 1 else logits
        n_indices = self.index.shape[1]
        if logits.ndim < 2 or logits.ndim - 1 != n_indices or len(logits) != len(self.index):
            raise ValueError(
                f"target has {n_indices} index(es) for each of {len(self.index)} samples, but the "
                f"network's output has shape {tuple(logits.shape)}: expected (N, C) and the class, "
                "or (N, C, *positions) and a tuple (class, *position)"
            )
        index, n_outputs = self.index.to(logits.device), logits.shape[1]
        logits = with_both_classes(logits)
        for dim in range(n_indices):
            of = (
                f"position {dim} of an output {tuple(logits.shape)}"
                if dim
                else classes_of(n_outputs)
            )
            check_indices("target", index[:, dim], logits.shape[dim + 1], of)
        rows = torch.arange(len(index), device=logits.device)
        where = (rows, slice(None), *index[:, 1:].T)
        return logits[where] if n_indices > 1 else logits

    def select_output(self, output: Any) -> Tensor:
        """:meth:`select` from whatever the network returned."""
        return self.select(logits_of(output))

    @property
    def classes(self) -> Tensor:
        """``(N,)`` the right classes."""
        return self.index[:, 0]


def with_both_classes(logits: Tensor) -> Tensor:
    """Logits ``(N, C, ...)``; of one output ``(N, 1, ...)`` those of the classes 0 and 1.

    Raises:
        ValueError: when the output is the probability that a sigmoid gives.
    """
    if logits.shape[1] != 1:
        return logits
    if _is_of_sigmoid(logits):
        raise ValueError(
            "the network's single output is the probability that a sigmoid gives: give a "
            "forward_func that returns the logit before it, which is positive for class 1"
        )
    return torch.cat([torch.zeros_like(logits), logits], 1)


def _is_of_sigmoid(output: Tensor) -> bool:
    """Whether the last operation was a sigmoid, as far as autograd has noted it."""
    node = output.grad_fn
    while node is not None and node.name().startswith(_RESHAPING):
        node = node.next_functions[0][0]
    return node is not None and node.name() == "SigmoidBackward0"


def _rows(target: list[tuple[int, ...]], n_samples: int) -> Tensor:
    _check_length(len(target), n_samples)
    if len({len(entry) for entry in target}) != 1:
        raise ValueError("target has tuples of different lengths, expected one length")
    return torch.stack([as_indices("target", entry) for entry in target])


def _check_length(n_entries: int, n_samples: int) -> None:
    if n_entries != n_samples:
        raise ValueError(f"target has {n_entries} entries for {n_samples} samples")


def classes_of(n_outputs: int) -> str:
    """How many classes there are, in words."""
    if n_outputs == 1:
        return "one output decides between two classes"
    return f"the network has {n_outputs} classes"
