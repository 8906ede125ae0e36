"""What an edit minimises: equation (8), (9) and their variants, on the free coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.ratios import log_ratios, row_of
from captum_neuroinspect.edit.edit_options import EditSettings, Scope
from captum_neuroinspect.edit.penalties import (
    bounded_exp,
    coefficient_norm_penalty,
    con_penalty,
    mean_ratio_of_classes_penalty,
    mean_ratio_penalty,
    ratio_penalty,
)
from captum_neuroinspect.edit.probability_ratio import data_loss, divergence

_OF_RATIOS = {
    "ratio": ratio_penalty,
    "mean_ratio": mean_ratio_penalty,
    "mean_ratio_of_classes": mean_ratio_of_classes_penalty,
}


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

    def bias_after(self, difference: Tensor, original: Tensor) -> Tensor:
        """``(C,)`` the biases after the change."""
        return self._add(original, self.parts(difference)[1], dim=0) if self.has_bias else original

    def add_gradient_of_bias(self, gradient: Tensor, of_bias: Tensor) -> None:
        """Add what biases ``(C,)`` pass down."""
        if self.has_bias:
            self.parts(gradient)[1].add_(of_bias if self._is_whole else of_bias[self.rows])

    def of(self, weight: Tensor, bias: Tensor) -> Tensor:
        """The free part of W ``(C, F)`` and b ``(C,)``, flat like a difference."""
        rows = weight[self.rows]
        columns = rows if self.columns is None else rows[:, self.columns]
        return torch.cat(
            [columns.flatten(), bias[self.rows]] if self.has_bias else [columns.flatten()]
        )

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


@dataclass(frozen=True)
class Problem:
    """A head, the neurons whose influence is constrained in it, and how.

    Attributes:
        weight: ``(C, F)`` of the original.
        bias: ``(C,)``, zero when there is none.
        has_bias: whether there is one.
        targets: neurons of each class to be edited.
        ratios: for each class the ``o`` asked for: ``(1,)`` for its neurons together,
            or ``(K,)`` for each by itself.
        settings: the others.
    """

    weight: Tensor
    bias: Tensor
    has_bias: bool
    targets: Mapping[int, Tensor]
    ratios: Mapping[int, Tensor]
    settings: EditSettings


@dataclass(frozen=True)
class Constraint:
    """Classes ``(T,)`` that share neurons ``(K,)``, and the ratios asked for ``(M, T)``."""

    neurons: Tensor
    classes: Tensor
    wanted: Tensor
    one_by_one: bool

    def shares(self, features: Tensor, weight: Tensor) -> Tensor:
        """``(N, M, C)`` of these neurons' features ``(N, K)`` and columns ``(C, K)``."""
        if self.one_by_one:
            return features[:, :, None] * weight.T
        return (features @ weight.T)[:, None]


@dataclass(frozen=True)
class Batch:
    """What the loss needs of some samples; the rest of the features stays untouched."""

    inputs: Tensor
    logits: Tensor
    labels: Tensor
    constrained: tuple[Tensor, ...]

    def rows(self, which: Tensor) -> Batch:
        return Batch(
            self.inputs.index_select(0, which),
            self.logits.index_select(0, which),
            self.labels.index_select(0, which),
            tuple(features.index_select(0, which) for features in self.constrained),
        )


class Objective:
    """The loss of a :class:`Problem` as a function of the difference from the original."""

    def __init__(self, problem: Problem, mistakes: FeatureSet | None = None) -> None:
        self.problem, self.settings = problem, problem.settings
        self.options = self.settings.options
        shape = (problem.weight.shape[0], problem.weight.shape[1])
        self.free: FreePart = free_part(
            self.settings.scope, problem.targets, shape, has_bias=problem.has_bias
        )
        self.constraints = _constraints(problem)
        self._columns = [problem.weight[:, c.neurons] for c in self.constraints]
        self._places = [self.free.places(c.neurons) for c in self.constraints]
        self._mistakes = None if mistakes is None else self.batch(mistakes)
        decay = self.options.training.weight_decay
        self._decay = decay * self.free.of(problem.weight, problem.bias) if decay else None

    def batch(self, data: FeatureSet) -> Batch:
        """A data set with its original logits, computed once for all steps."""
        features = data.features
        logits = torch.addmm(self.problem.bias, features, self.problem.weight.T)
        constrained = tuple(features[:, c.neurons] for c in self.constraints)
        return Batch(self.free.inputs(features), logits, data.labels, constrained)

    def logits(self, difference: Tensor, batch: Batch) -> Tensor:
        return self.free.logits(difference, batch.logits, batch.inputs)

    def draw(self, n: int, rng: torch.Generator) -> Batch | None:
        """As many mistakes as a batch has samples, with repetition; ``None`` without any."""
        if self._mistakes is None:
            return None
        return self._mistakes.rows(torch.randint(len(self._mistakes.labels), (n,), generator=rng))

    def gradient(
        self, difference: Tensor, batch: Batch, drawn: Batch | None = None
    ) -> tuple[float, Tensor]:
        """The loss and its gradient in the difference.

        All but the ``"weights"`` anchor, which the optimiser takes by itself. Automatic
        differentiation sees the logits and the few constrained columns; the products with
        the features are done here, without its copies of W.
        """
        free = self.free
        logits = [self.logits(difference, b) for b in (batch, drawn) if b is not None]
        columns = self._columns_after(difference) if self.settings.strength else []
        bias = free.bias_after(difference, self.problem.bias).detach().clone()
        leaves = [leaf.requires_grad_() for leaf in (*logits, *columns, bias)]
        loss = self._loss(batch, drawn, logits, columns, bias)
        slopes = torch.autograd.grad(loss, leaves, allow_unused=True)
        total = torch.zeros_like(difference)
        for slope, of in zip(slopes, (batch, drawn), strict=False):
            if slope is not None and of is not None:
                free.add_gradient(total, slope, of.inputs)
        for slope, where in zip(slopes[len(logits) : -1], self._places, strict=False):
            if slope is not None:
                free.add_gradient_of_columns(total, slope, where)
        if slopes[-1] is not None:
            free.add_gradient_of_bias(total, slopes[-1])
        if self._decay is not None:
            total.add_(self._decay).add_(difference, alpha=self.options.training.weight_decay)
        free.confine(total)
        return loss.item(), total

    def _loss(
        self,
        batch: Batch,
        drawn: Batch | None,
        logits: list[Tensor],
        columns: list[Tensor],
        bias: Tensor,
    ) -> Tensor:
        options = self.options
        loss = data_loss(logits[0], batch.labels, options.link)
        if self.settings.strength:
            loss = loss + self.settings.strength * self._penalty(batch, logits[0], columns, bias)
        if drawn is not None:
            of_mistakes = data_loss(logits[1], drawn.labels, options.link)
            loss = loss + options.mistake_weight * of_mistakes
        if options.anchor is not None and options.anchor.to == "predictions":
            moved = divergence(batch.logits, logits[0], options.link)
            loss = loss + options.anchor.weight * moved
        return loss

    def _penalty(self, batch: Batch, logits: Tensor, columns: list[Tensor], bias: Tensor) -> Tensor:
        total = torch.zeros(())
        parts = zip(self.constraints, columns, batch.constrained, strict=True)
        for constraint, weight, features in parts:
            rows = [row_of(int(c), len(weight)) for c in constraint.classes]
            if self.options.penalty == "coefficient_norm":
                total = total + coefficient_norm_penalty(weight[rows])
            elif self.options.penalty == "con":
                total = total + con_penalty(features, weight[rows], bias[rows])
            else:
                shares = constraint.shares(features, weight)
                logarithms = log_ratios(logits, shares, constraint.classes, self.options.link)
                of_ratios = _OF_RATIOS[self.options.penalty]
                total = total + of_ratios(bounded_exp(logarithms), constraint.wanted)
        return total

    def _columns_after(self, difference: Tensor) -> list[Tensor]:
        pairs = zip(self._columns, self._places, strict=True)
        return [self.free.columns_after(difference, old, where) for old, where in pairs]


def _constraints(problem: Problem) -> list[Constraint]:
    together: dict[tuple[int, ...], list[int]] = {}
    constraints = []
    for target, neurons in problem.targets.items():
        if len(problem.ratios[target]) > 1:
            wanted = problem.ratios[target][:, None]
            constraints.append(Constraint(neurons, torch.tensor([target]), wanted, True))
        else:
            together.setdefault(tuple(neurons.tolist()), []).append(target)
    # Classes with the same neurons share the masked logits.
    for shared, classes in together.items():
        wanted = torch.cat([problem.ratios[c] for c in classes])[None]
        constraints.append(Constraint(torch.tensor(shared), torch.tensor(classes), wanted, False))
    return constraints
