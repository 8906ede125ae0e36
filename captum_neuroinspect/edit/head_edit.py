"""Weaken a false correlation in the decision layer, and say what that changed."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict

from torch import nn

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect._head import check_head, head_tensors
from captum_neuroinspect.edit._checks import check_sets, check_training
from captum_neuroinspect.edit._layers import changed
from captum_neuroinspect.edit._link import Link, n_classes_of
from captum_neuroinspect.edit._objective import Problem
from captum_neuroinspect.edit._options import Anchor, Decay, FitOptions, Penalty, Scope, Select
from captum_neuroinspect.edit._result import HeadEdit, compare_heads
from captum_neuroinspect.edit._targets import (
    Neurons,
    Ratio,
    checked_ratios,
    checked_targets,
    plain_ratios,
)
from captum_neuroinspect.edit._training import Fit, fit_head


def edit_head(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    *,
    target: int | None = None,
    neurons: Neurons,
    scope: Scope = "head",
    strength: float = 1.0,
    ratio: Ratio = 1.0,
    penalty: Penalty = "ratio",
    anchor: Anchor | None = None,
    anchor_weight: float = 1.0,
    mistakes: FeatureSet | None = None,
    mistake_weight: float = 0.3,
    select: Select = "accuracy",
    max_cost: float = 0.005,
    link: Link = "softmax",
    n_epochs: int = 20,
    batch_size: int = 16,
    lr: float = 1e-3,
    schedule: Decay = "constant",
    warmup: float = 0.0,
    patience: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> HeadEdit:
    r"""Retrain the decision layer under the paper's constraint (equation 8).

    .. math:: CE + \lambda_3 || r_c - o ||_2

    on features that were collected once, from the head as it is. The head of the best
    epoch on ``validation`` is kept, if it is as good as the original; the ``head``
    given is never changed. Features, labels and groups are used as they are; images
    with augmentation are for :func:`edit_through_images`.

    Args:
        head: the decision layer, F features to C classes.
        train: features with labels to train on.
        validation: features with labels that choose the epoch. If they carry the
            false correlation too, the epoch that changed least is chosen: give photos
            that do not, such as some met in use.
        target: index of the class ``c`` whose false correlation is weakened.
        neurons: the features that carry it; or, instead of ``target``, a mapping from
            several classes to the features of each, such as ``{3: [7, 8], 5: [1]}``.
            All classes are mended at once: their constraints add up.
        scope: what may change: the whole ``"head"`` (the paper), the targets' rows and
            biases (``"class"``), or the targets' coefficients of these neurons
            (``"neurons"``). A head without bias stays without.
        strength: lambda3, 0 or more.
        ratio: ``o``, the ratio asked for: 1 (treat the neurons as the other classes
            do), a little above, or ``"rule"``: ``(min_j r_c - 1)/3 + 1`` at the mean
            training features of the target. With one value a neuron, each is masked by
            itself and the constraints add up. For several classes also a mapping from
            the class to one of these.
        penalty: ``"ratio"``: the norm of r - o over the batch, as above;
            ``"mean_ratio"``: ``|mean of r - o|`` over the batch (the paper on
            Waterbirds); ``"coefficients"``: the norm of the class's own coefficients
            of the neurons (CON, equation 9; ``ratio`` does not matter). Ratios above
            22,000 enter by the tangent of the exponential, so that none overflows.
        anchor: hold the head near the original: ``"predictions"`` adds the KL
            divergence from the original's predictions on the batch, ``"weights"`` the
            squared distance to its weights.
        anchor_weight: weight of the anchor, 0 or more.
        mistakes: samples that the model got wrong, such as photos met in use; their
            cross entropy is added with ``mistake_weight``. Not in the paper, which
            trains on the original data only.
        mistake_weight: weight of the mistakes beside the training data, above 0.
        select: what the best epoch is best in, on ``validation``: the ``"accuracy"``
            (the paper), the accuracy of the worst class (``"min_class"``, the paper's
            "C") or of the worst ``"group"``, or the ``"target"``'s accuracy (mean of
            several) among the epochs that cost the other classes at most ``max_cost``.
        max_cost: loss of accuracy on all other classes together that ``"target"``
            puts up with, 0..1.
        link: ``"softmax"``, or ``"sigmoid"`` for outputs that are decisions of their
            own: a sigmoid takes the place of the softmax in the ratio, and binary
            cross entropy trains. Labels are multi-hot ``(N, C)``; or the head has one
            output and labels are 0 or 1, then ``target`` is that class.
        n_epochs: upper bound on passes over ``train``.
        batch_size: samples a step; the norm in equation (8) runs over a batch.
        lr: Adam's step size.
        schedule: ``"constant"``, or ``"cosine"``: ``lr`` falls to 0 over the epochs.
        warmup: epochs in which ``lr`` rises from 0, less than ``n_epochs``.
        patience: epochs without a better result on validation before stopping.
        seed: draws the order of the samples.
        progress: show a progress bar over epochs.

    Returns:
        A :class:`HeadEdit` with the new head and both heads' results on ``validation``.

    Raises:
        TypeError: when ``head`` is not linear or indices are not whole numbers.
        ValueError: when an index is out of range, ``neurons`` is empty or repeats
            one, a target is absent from ``train`` or alone in it, sets are empty, do
            not fit the head or were judged by another head, or an option is out of
            its range.

    Warns:
        RuntimeWarning: when every epoch was worse than the original by ``select``, so
            that the original is returned (``best_epoch`` 0), or when the loss became
            infinite or NaN and training stopped.

    Examples::

        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> head, z = nn.Linear(4, 2), torch.rand(32, 4)
        >>> data = FeatureSet(z, head(z).detach(), (z[:, 0] > z[:, 1]).long())
        >>> edit = edit_head(head, data, data, target=1, neurons=[2], n_epochs=5)
        >>> edit.after.accuracy >= edit.before.accuracy
        True
    """
    options = FitOptions(
        scope=scope,
        strength=strength,
        penalty=penalty,
        anchor=anchor,
        anchor_weight=anchor_weight,
        select=select,
        max_cost=max_cost,
        mistake_weight=mistake_weight,
        link=link,
        n_epochs=n_epochs,
        batch_size=batch_size,
        lr=lr,
        schedule=schedule,
        warmup=warmup,
        patience=patience,
        seed=seed,
        progress=progress,
    )
    problem = checked_problem(
        head, train, validation, target, neurons, ratio, options, mistakes=mistakes
    )
    fit = fit_head(problem, train, validation, mistakes)
    return as_edit(head, fit, problem, train, validation)


def checked_problem(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    target: int | None,
    neurons: Neurons,
    ratio: Ratio,
    options: FitOptions,
    *,
    mistakes: FeatureSet | None = None,
) -> Problem:
    """All arguments checked and brought into the form that :func:`fit_head` takes.

    Raises:
        TypeError: as :func:`edit_head`.
        ValueError: as :func:`edit_head`.
    """
    weight, bias = head_tensors(check_head(head))
    n_classes = n_classes_of(head.out_features, options.link)
    targets = checked_targets(target, neurons, n_classes, head.in_features)
    check_sets(head, options.link, train=train, validation=validation, mistakes=mistakes)
    check_training(train, targets)
    ratios = checked_ratios(ratio, targets, weight, bias, train, options.link)
    return Problem(weight, bias, head.bias is not None, targets, ratios, options)


def as_edit(
    head: nn.Linear, fit: Fit, problem: Problem, train: FeatureSet, validation: FeatureSet
) -> HeadEdit:
    """What a fit means for a head: both judged, with warnings at the user's line."""
    _warn_of_failure(fit, problem.options)
    settings = asdict(problem.options)
    for name in ("scope", "strength", "link", "progress"):
        del settings[name]
    return compare_heads(
        head,
        changed(head, fit.d_weight, fit.d_bias),
        validation,
        {target: neurons.tolist() for target, neurons in problem.targets.items()},
        train=train,
        scope=problem.options.scope,
        strength=problem.options.strength,
        ratio=plain_ratios(problem.ratios),
        history=fit.history,
        best_epoch=fit.best_epoch,
        link=problem.options.link,
        settings=settings,
    )


def _warn_of_failure(fit: Fit, options: FitOptions) -> None:
    kept = f"epoch {fit.best_epoch}" if fit.best_epoch else "the original head"
    if fit.diverged:
        _warn(
            f"the loss became infinite or NaN in epoch {len(fit.history) + 1}: training stopped, "
            f"{kept} is returned; try a smaller lr or strength"
        )
    elif fit.best_epoch == 0:
        _warn(
            f"every epoch was worse than the original head by select={options.select!r} "
            f"({_scores(fit, options)}): the original is returned; try fewer neurons, a smaller "
            "strength or a narrower scope"
        )


def _scores(fit: Fit, options: FitOptions) -> str:
    if fit.best_trained == -math.inf:
        return f"all cost the other classes more than max_cost={options.max_cost}"
    return f"best {fit.best_trained:.3f}, original {fit.original.score:.3f} on validation"


def _warn(message: str) -> None:
    # The user's line: _warn, _warn_of_failure, as_edit, edit_head, the caller.
    warnings.warn(message, RuntimeWarning, stacklevel=5)
