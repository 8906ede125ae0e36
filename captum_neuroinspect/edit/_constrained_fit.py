"""From arguments to a problem to solve, its descent on collected features, and the edit."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.descent import BatchLoss, Descent, descend
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head, head_tensors
from captum_neuroinspect._core.ratios import n_classes_of
from captum_neuroinspect.edit._arguments import (
    Neurons,
    Ratio,
    check_disjoint,
    check_sets,
    check_training,
    checked_ratios,
    checked_targets,
    names_of,
    plain_ratios,
)
from captum_neuroinspect.edit._epoch_choice import EpochRecord, EpochScore, Judge
from captum_neuroinspect.edit._objective import Objective, Problem
from captum_neuroinspect.edit._result import HeadEdit, compare_heads
from captum_neuroinspect.edit.edit_options import EditSettings
from captum_neuroinspect.edit.head_diff import changed
from captum_neuroinspect.edit.method_records import ConstraintRecord

FeaturesOf = Callable[[int], FeatureSet]


@dataclass(frozen=True, eq=False)
class Fit:
    """The head of the best epoch, as a difference from the original.

    Attributes:
        d_weight: ``(C, F)``; exactly zero where nothing may change.
        d_bias: ``(C,)``.
        history: one record an epoch that was completed.
        best_epoch: whose head it is; 0: the original, because all others were worse.
        best: the best epoch's results on the validation set, also where the original is
            better; ``None`` when none was completed.
        original: the original's results on the validation set.
        diverged: whether training was stopped by a loss that is not finite.
    """

    d_weight: Tensor
    d_bias: Tensor
    history: tuple[EpochRecord, ...]
    best_epoch: int
    best: EpochScore | None
    original: EpochScore
    diverged: bool


def fit_head(
    problem: Problem,
    train: FeatureSet | FeaturesOf,
    validation: FeatureSet,
    mistakes: FeatureSet | None = None,
    *,
    progress: bool = False,
) -> Fit:
    """Train the free part of a head and keep the best epoch.

    Arguments are taken as they are, without checks, for callers that fit many heads.

    Args:
        problem: head, neurons and settings.
        train: features with labels, or a function from the epoch (from 1) to them.
        validation: chooses the epoch.
        mistakes: samples drawn beside each batch.
        progress: show a bar over epochs.

    Raises:
        ValueError: when ``validation`` lacks what the rule of selection looks at.
    """
    settings, objective = problem.settings, Objective(problem, mistakes)
    options, training = settings.options, settings.options.training
    held = objective.batch(validation)
    judge = Judge(
        validation,
        problem.targets,
        settings.select,
        options.max_cost,
        held.logits,
        last_of_equals=options.keep == "best_epoch",
    )
    difference = objective.free.start()
    optimizer = torch.optim.Adam([difference], lr=settings.lr)
    rng = torch.Generator().manual_seed(settings.seed)
    fixed = objective.batch(train) if isinstance(train, FeatureSet) else None
    pull = 0.0
    if options.anchor is not None and options.anchor.to == "weights":
        pull = options.anchor.weight

    def samples(epoch: int) -> tuple[int, BatchLoss]:
        data = objective.batch(train(epoch)) if callable(train) else fixed
        assert data is not None

        def loss(rows: Tensor) -> float:
            drawn = objective.draw(len(rows), rng)
            value, difference.grad = objective.gradient(difference, data.rows(rows), drawn)
            return value + pull * difference.square().sum().item() if pull else value

        return len(data.labels), loss

    def score() -> EpochScore | None:
        logits = objective.logits(difference, held)
        return judge(logits) if logits.isfinite().all() else None

    went = descend(
        optimizer,
        samples,
        score,
        rng,
        n_epochs=settings.n_epochs,
        batch_size=training.batch_size,
        patience=training.patience,
        rate=settings.rate,
        after_step=(lambda: _pull_to_zero(optimizer, difference, pull)) if pull else None,
        progress="edit" if progress else "",
    )
    return _fit(objective, went, judge.original)


def _pull_to_zero(optimizer: torch.optim.Adam, x: Tensor, pull: float) -> None:
    """The proximal step of ``pull * ||x||^2`` in Adam's own metric, exact at any weight.

    Adam normalises gradients, so that a large pull in the loss would throw the tensor from one
    side of zero to the other; the proximal step takes it to zero.
    """
    group, state = optimizer.param_groups[0], optimizer.state[x]
    correction = 1 - group["betas"][1] ** int(state["step"])
    scale = (state["exp_avg_sq"] / correction).sqrt_().add_(group["eps"])
    x.div_(1 + 2 * group["lr"] * pull / scale)


def _fit(objective: Objective, went: Descent[EpochScore], original: EpochScore) -> Fit:
    best = went.scores[went.best_epoch - 1] if went.best_epoch else None
    # At an equal score the edit is kept: it has what it was made for.
    least = original.score if objective.options.keep == "no_worse" else -sys.float_info.max
    is_worse = best is None or not best.score >= least
    difference = objective.free.start() if is_worse else went.best[0]
    d_weight, d_bias = objective.free.whole(difference)
    history = tuple(
        EpochRecord(epoch, loss, one.accuracy, one.target_accuracy, one.score)
        for epoch, (loss, one) in enumerate(zip(went.losses, went.scores, strict=True), start=1)
    )
    best_epoch = 0 if is_worse else went.best_epoch
    return Fit(d_weight, d_bias, history, best_epoch, best, original, went.diverged)


def checked_problem(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    target: int | None,
    neurons: Neurons,
    ratio: Ratio,
    settings: EditSettings,
    *,
    mistakes: FeatureSet | None = None,
) -> Problem:
    """All arguments checked and brought into the form that :func:`fit_head` takes.

    Raises:
        TypeError: as :func:`edit_head`.
        ValueError: as :func:`edit_head`.
    """
    weight, bias = head_tensors(check_head(head))
    link = settings.options.link
    n_classes = n_classes_of(head.out_features, link)
    targets = checked_targets(target, neurons, n_classes, head.in_features)
    check_sets(head, link, train=train, validation=validation, mistakes=mistakes)
    # Both teach: a sample may be among both, as each epoch's crops of it are.
    check_disjoint(train=train, validation=validation)
    check_disjoint(validation=validation, mistakes=mistakes)
    check_training(train, targets)
    whole = validation if settings.options.rule_at == "validation" else None
    ratios = checked_ratios(ratio, targets, weight, bias, train, link, whole)
    return Problem(weight, bias, head.bias is not None, targets, ratios, settings)


def as_edit(
    head: nn.Linear,
    fit: Fit,
    problem: Problem,
    train: FeatureSet,
    validation: FeatureSet,
    mistakes: FeatureSet | None = None,
) -> HeadEdit:
    """What a fit means for a head: both judged on ``validation``, which has chosen the epoch."""
    edit = compare_heads(
        head,
        changed(head, fit.d_weight, fit.d_bias),
        validation,
        {target: neurons.tolist() for target, neurons in problem.targets.items()},
        train=train,
        link=problem.settings.options.link,
    )
    record = ConstraintRecord(
        problem.settings, plain_ratios(problem.ratios), fit.history, fit.best_epoch
    )
    return replace(edit, method=record, seen=names_of(train, validation, mistakes))


def warn_of_failure(fit: Fit, settings: EditSettings) -> None:
    """Say at the line of who called the caller that training failed, if it did."""
    kept = f"epoch {fit.best_epoch}" if fit.best_epoch else "the original head"
    if fit.diverged:
        _warn(
            f"the loss became infinite or NaN in epoch {len(fit.history) + 1}: training stopped, "
            f"{kept} is returned; try a smaller lr or strength"
        )
    elif fit.best_epoch == 0:
        _warn(
            f"every epoch was worse than the original head by select={settings.select!r} "
            f"({_scores(fit, settings)}): the original is returned; try fewer neurons, a smaller "
            "strength or a narrower scope"
        )


def _scores(fit: Fit, settings: EditSettings) -> str:
    if fit.best is None or fit.best.score == -math.inf:
        return f"all cost the other classes more than max_cost={settings.options.max_cost}"
    return f"best {fit.best.score:.3f}, original {fit.original.score:.3f} on validation"


def _warn(message: str) -> None:
    # The user's line: _warn, warn_of_failure, edit_head, its decorator, the caller.
    warnings.warn(message, RuntimeWarning, stacklevel=5)
