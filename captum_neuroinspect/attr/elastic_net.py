"""Equation (1) of the paper as pure maths: what a counterfactual minimises, and its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from captum_neuroinspect.attr.reference import Reference

Scaling = Literal["code", "paper"]


@dataclass(frozen=True)
class ElasticNet:
    """The two norms of equation (1); defaults are the paper's and its code's.

    Attributes:
        l1: weight ``a`` of ``||w||_1``.
        l2: weight ``b2`` of ``||w||_2`` (the norm, not its square).
        scaling: ``"paper"`` takes the two weights as the text has them. ``"code"``
            divides both by the number of features F, as the authors' code does: a
            change then costs as much in a wide layer as in a narrow one, and with
            F = 1280 the norms are so weak that the cross entropy alone shapes ``w``.
    """

    l1: float = 0.1
    l2: float = 0.01
    scaling: Scaling = "code"

    def __post_init__(self) -> None:
        for name in ("l1", "l2"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}, expected 0 or more")
        if self.scaling not in ("code", "paper"):
            raise ValueError(f"scaling={self.scaling!r}, expected 'code' or 'paper'")

    def weights(self, n_features: int) -> tuple[float, float]:
        """The factors of ``||w||_1`` and ``||w||_2`` for a layer of ``n_features``."""
        divisor = n_features if self.scaling == "code" else 1
        return self.l1 / divisor, self.l2 / divisor

    def value(self, w: Tensor) -> Tensor:
        """``(N,)`` the two norms of ``w`` (N, F), weighted and added."""
        l1, l2 = self.weights(w.shape[1])
        return l1 * w.abs().sum(1) + l2 * w.norm(dim=1)

    def gradient(self, w: Tensor) -> Tensor:
        """``(N, F)`` the gradient of :meth:`value`, with 0 for each norm at its kink."""
        l1, l2 = self.weights(w.shape[1])
        length = w.norm(dim=1, keepdim=True)
        direction = w / torch.where(length > 0, length, torch.ones_like(length))
        return l1 * w.sign() + l2 * direction


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A change of activations that makes the network predict the right class.

    Attributes:
        w: ``(N, F)`` the change (for a map ``(N, C, H, W)``, or ``(N, C)`` with one
            change a channel; for a layer with several tensors ``(N, D)``, their changes
            one behind the other, see :attr:`attribution`); zero for a sample that was
            right from the start.
        converged: ``(N,)`` whether the network predicts the target at ``z + w``.
        n_steps: ``(N,)`` steps that each sample took.
        already_correct: ``(N,)`` whether the network predicted the target at ``z``.
        residual: ``(N,)`` how far ``w`` is from being the minimiser of equation (1):
            the largest entry of ``w - prox(w - gradient)``, 0 at a minimiser. NaN
            where no minimiser was sought: for ``sgd``, and for samples already right.
        feasible: ``(N,)`` whether ``z + w >= 0`` was kept.
        ran_out: ``(N,)`` whether the solver ran out of steps before it was done: before
            the prediction was right (``sgd``), or the residual small (``fista``).
        shortfall: natural level - activation, in the shape of ``w``, with a reference
            (:class:`~captum_neuroinspect.attr.Reference`); else None.
        reference: the reference itself, from which a ranking makes its own contrast.
        shapes: shape of each tensor's change in one sample, for a layer with several.
    """

    w: Tensor
    converged: Tensor
    n_steps: Tensor
    already_correct: Tensor
    residual: Tensor
    feasible: Tensor
    ran_out: Tensor
    shortfall: Tensor | None = None
    reference: Reference | None = None
    shapes: tuple[torch.Size, ...] = ()

    def __len__(self) -> int:
        return len(self.w)

    @property
    def contrast(self) -> Tensor | None:
        """``w`` against the reference, sample by sample and in its shape; None without one."""
        if self.reference is None or self.shortfall is None:
            return None
        contrast = self.reference.contrast_of(self.w.flatten(1), self.shortfall.flatten(1))
        return contrast.view_as(self.w)

    @property
    def attribution(self) -> Tensor | tuple[Tensor, ...]:
        """The contrast where there is one, else ``w``; a tuple for a layer with several tensors."""
        contrast = self.contrast
        joined = self.w if contrast is None else contrast
        if not self.shapes:
            return joined
        parts = joined.split([shape.numel() for shape in self.shapes], 1)
        return tuple(
            part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)
        )


def cross_entropy_residual(logits: Tensor, target: Tensor) -> Tensor:
    """``softmax(logits) - onehot(target)``: the gradient of the cross entropy in the logits."""
    # The target's entry as minus the others: p - 1 would lose the digits of a p close to 1.
    column = target[:, None]
    others = logits.softmax(1).scatter(1, column, 0)
    return others.scatter(1, column, -others.sum(1, keepdim=True))
