"""From arguments to a problem to solve, and from its solution to an edit."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

from torch import nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head, head_tensors
from captum_neuroinspect.edit._arguments import check_disjoint, check_sets, check_training
from captum_neuroinspect.edit._layers import changed
from captum_neuroinspect.edit._link import n_classes_of
from captum_neuroinspect.edit._objective import Problem
from captum_neuroinspect.edit._result import HeadEdit, compare_heads
from captum_neuroinspect.edit._seen import names_of
from captum_neuroinspect.edit._targets import (
    Neurons,
    Ratio,
    checked_ratios,
    checked_targets,
    plain_ratios,
)
from captum_neuroinspect.edit._training import Fit
from captum_neuroinspect.edit.edit_options import EditSettings
from captum_neuroinspect.edit.method_records import ConstraintRecord


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
    ratios = checked_ratios(ratio, targets, weight, bias, train, link)
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
