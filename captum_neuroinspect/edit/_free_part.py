"""The part of a head that an edit may change, as a difference from the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_neuroinspect.edit._link import row_of
from captum_neuroinspect.edit.edit_options import Scope


@dataclass(frozen=True)
class FreePart:
    """Rows and columns of W that may change, and whether their biases may.

    What is trained is the difference from the original, flat: R * K coefficients and,
    with biases, R of these. It starts at zero, and everything outside it cannot move. On
    a wide head a step on one row costs a fraction of a step on all.

    Attributes:
        shape: of W, ``(C, F)``.
        rows: ``(R,)`` indices of outputs.
        columns: ``(K,)`` indices of features, or ``None`` for all.
        mask: ``(R, K)`` 1 where a coefficient may change, or ``None`` for all.
        has_bias: whether the rows' biases may change.
    """

    shape: tuple[int, int]
    rows: Tensor
    columns: Tensor | None
    mask: Tensor | None
    has_bias: bool

    @property
    def n_columns(self) -> int:
        return self.shape[1] if self.columns is None else len(self.columns)

    def start(self) -> Tensor:
        """The difference that changes nothing."""
        return torch.zeros(len(self.rows) * (self.n_columns + self.has_bias))

    def parts(self, difference: Tensor) -> tuple[Tensor, Tensor]:
        """Views of a difference: of W ``(R, K)`` and of b ``(R,)``, empty without biases."""
        n_rows = len(self.rows)
        n_weights = n_rows * self.n_columns
        return difference[:n_weights].view(n_rows, -1), difference[n_weights:]

    def inputs(self, features: Tensor) -> Tensor:
        """``(N, K)`` the features that the free coefficients weigh."""
        return features if self.columns is None else features[:, self.columns]

    def logits(self, difference: Tensor, original: Tensor, inputs: Tensor) -> Tensor:
        """``(N, C)`` logits after the change, from the original ones."""
        weight, bias = self.parts(difference)
        change = inputs @ weight.T
        return self._add(original, change + bias if self.has_bias else change, dim=1)

    def columns_after(self, difference: Tensor, original: Tensor, where: Tensor) -> Tensor:
        """``(C, S)`` columns of W after the change; ``where``: their places among the free."""
        return self._add(original, self.parts(difference)[0][:, where], dim=0)

    def places(self, neurons: Tensor) -> Tensor:
        """Where neurons are among the free columns."""
        return neurons if self.columns is None else torch.searchsorted(self.columns, neurons)

    def add_gradient(self, gradient: Tensor, of_logits: Tensor, inputs: Tensor) -> None:
        """Add to the difference's gradient what logits ``(N, C)`` pass down to it."""
        weight, bias = self.parts(gradient)
        of_rows = of_logits if self._is_whole else of_logits[:, self.rows]
        weight.addmm_(of_rows.T, inputs)
        if self.has_bias:
            bias.add_(of_rows.sum(0))

    def add_gradient_of_columns(self, gradient: Tensor, of_columns: Tensor, where: Tensor) -> None:
        """Add what columns of W ``(C, S)`` pass down."""
        of_rows = of_columns if self._is_whole else of_columns[self.rows]
        self.parts(gradient)[0].index_add_(1, where, of_rows)

    def confine(self, gradient: Tensor) -> None:
        """Take out of a gradient what may not change."""
        if self.mask is not None:
            self.parts(gradient)[0].mul_(self.mask)

    def whole(self, difference: Tensor) -> tuple[Tensor, Tensor]:
        """The difference as dW ``(C, F)`` and db ``(C,)``, zero elsewhere."""
        weight, bias = self.parts(difference)
        d_weight, d_bias = torch.zeros(self.shape), torch.zeros(self.shape[0])
        columns = torch.arange(self.shape[1]) if self.columns is None else self.columns
        d_weight[self.rows[:, None], columns] = weight
        if self.has_bias:
            d_bias[self.rows] = bias
        return d_weight, d_bias

    @property
    def _is_whole(self) -> bool:
        return len(self.rows) == self.shape[0]

    def _add(self, original: Tensor, change: Tensor, dim: int) -> Tensor:
        return original + change if self._is_whole else original.index_add(dim, self.rows, change)


def free_part(
    scope: Scope, targets: Mapping[int, Tensor], shape: tuple[int, int], *, has_bias: bool
) -> FreePart:
    """What ``scope`` lets change: the whole head, the targets' rows, or named coefficients."""
    if scope == "head":
        return FreePart(shape, torch.arange(shape[0]), None, None, has_bias)
    rows = torch.tensor(sorted({row_of(target, shape[0]) for target in targets}))
    if scope == "class":
        return FreePart(shape, rows, None, None, has_bias)
    columns = torch.cat(list(targets.values())).unique()
    mask = torch.zeros(len(rows), len(columns))
    for target, neurons in targets.items():
        mask[rows == row_of(target, shape[0])] += torch.isin(columns, neurons).float()
    mask.clamp_(max=1)
    return FreePart(shape, rows, columns, None if mask.all() else mask, False)
