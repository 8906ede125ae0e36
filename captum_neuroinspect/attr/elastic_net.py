"""Equation (1) of the paper as pure maths: the elastic-net counterfactual of features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm


@dataclass(frozen=True)
class SGDOptions:
    """The paper's descent on equation (1); defaults are the paper's and its code's.

    Attributes:
        l1: weight ``a`` of ``||w||_1``.
        l2: weight ``b2`` of ``||w||_2`` (the norm, not its square).
        divide_by_features: divide both norms by F, as the authors' code does and
            the paper's text does not.
        lr: step size.
        momentum: of the descent, 0..1.
        max_steps: steps after which a sample that is still wrong is given up.
    """

    l1: float = 0.1
    l2: float = 0.01
    divide_by_features: bool = True
    lr: float = 0.01
    momentum: float = 0.9
    max_steps: int = 2000

    def __post_init__(self) -> None:
        for name in ("l1", "l2"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}, expected 0 or more")
        if self.lr <= 0:
            raise ValueError(f"lr={self.lr}, expected a positive step size")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}, expected 0 <= momentum < 1")
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}, expected at least 1")


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A change of features that makes the head say the right class.

    Attributes:
        w: ``(N, F)`` the change; zero for a sample that was right from the start.
        converged: ``(N,)`` whether the head predicts the target at ``z + w``.
        n_steps: ``(N,)`` steps that each sample took.
        already_correct: ``(N,)`` whether the head predicted the target at ``z``.
        feasible: whether ``z + w >= 0`` was kept.
    """

    w: Tensor
    converged: Tensor
    n_steps: Tensor
    already_correct: Tensor
    feasible: bool


def solve_sgd(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    *,
    feasible: bool = False,
    options: SGDOptions | None = None,
    progress: bool = False,
) -> Counterfactual:
    """Follow the paper's descent for all samples at once, each until it is right.

    Minimises ``CE(W(z + w) + b, y) + l1 ||w||_1 + l2 ||w||_2`` from ``w = 0`` by SGD
    with momentum and stops a sample as soon as its prediction is ``y``. That early
    stop is part of the method: samples do not influence each other, so one batch
    gives what one loop a sample gives.

    Args:
        features: ``(N, F)``.
        weight: ``(C, F)`` of the head.
        bias: ``(C,)`` of the head.
        target: ``(N,)`` class that each sample should get.
        feasible: project on ``z + w >= 0`` after each step, for features that
            cannot be negative (behind a ReLU).
        options: step size, weights of the norms, bound on the steps.
        progress: show a progress bar over steps.

    Returns:
        The :class:`Counterfactual`; ``w`` has the dtype and device of ``features``.

    Examples::

        >>> z, eye = torch.tensor([[1.0, 0.8]]), torch.eye(2)
        >>> found = solve_sgd(z, eye, torch.zeros(2), torch.tensor([1]))
        >>> bool(found.converged[0]), (z + found.w).argmax(1).item()
        (True, 1)
    """
    options = options or SGDOptions()
    w = torch.zeros_like(features)
    n_steps = torch.zeros(len(features), dtype=torch.int64, device=features.device)
    wrong = (features @ weight.T + bias).argmax(1) != target
    state = _Running.start(features, target, wrong.nonzero().flatten())
    for _ in tqdm(range(options.max_steps), "counterfactual", disable=not progress):
        logits = state.logits(weight, bias)
        finished = logits.argmax(1) == state.target
        if finished.any():
            w[state.rows[finished]] = state.w[finished]
            state, logits = state.keep(~finished), logits[~finished]
        if not len(state.rows):
            break
        state.step(logits, weight, options, feasible)
        n_steps[state.rows] += 1
    w[state.rows] = state.w
    converged = (features + w) @ weight.T + bias
    return Counterfactual(w, converged.argmax(1) == target, n_steps, ~wrong, feasible)


@dataclass
class _Running:
    """The samples that are still wrong; finished ones leave, so late steps are cheap."""

    rows: Tensor
    features: Tensor
    target: Tensor
    w: Tensor
    velocity: Tensor

    @classmethod
    def start(cls, features: Tensor, target: Tensor, rows: Tensor) -> _Running:
        zeros = torch.zeros_like(features[rows])
        return cls(rows, features[rows], target[rows], zeros, zeros.clone())

    def keep(self, mask: Tensor) -> _Running:
        tensors = (self.rows, self.features, self.target, self.w, self.velocity)
        return _Running(*(tensor[mask] for tensor in tensors))

    def logits(self, weight: Tensor, bias: Tensor) -> Tensor:
        return (self.features + self.w) @ weight.T + bias

    def step(self, logits: Tensor, weight: Tensor, options: SGDOptions, feasible: bool) -> None:
        gradient = loss_gradient(self.w, logits, weight, self.target, options)
        self.velocity.mul_(options.momentum).add_(gradient)
        self.w.sub_(self.velocity, alpha=options.lr)
        if feasible:
            torch.maximum(self.w, -self.features, out=self.w)


def loss_gradient(
    w: Tensor, logits: Tensor, weight: Tensor, target: Tensor, options: SGDOptions
) -> Tensor:
    """Gradient of equation (1) in ``w`` (N, F), with 0 for each norm at its kink."""
    scale = w.shape[1] if options.divide_by_features else 1
    residual = logits.softmax(1) - F.one_hot(target, len(weight)).to(logits.dtype)
    length = w.norm(dim=1, keepdim=True)
    direction = w / torch.where(length > 0, length, torch.ones_like(length))
    return residual @ weight + (options.l1 * w.sign() + options.l2 * direction) / scale
