"""Refit the head for a class by the mistakes in deployment, with nothing to choose by hand."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.edit._arguments import (
    apart_from,
    check_disjoint,
    check_sets,
    check_training,
    names_of,
    warn_of_absent_classes,
)
from captum_neuroinspect.edit._mend_choice import Mending
from captum_neuroinspect.edit._outcomes import LARGEST_WHOLE, with_logits_of
from captum_neuroinspect.edit._result import HeadEdit, compare_heads
from captum_neuroinspect.edit.head_diff import copy_of
from captum_neuroinspect.edit.method_records import MendRecord
from captum_neuroinspect.edit.probability_ratio import check_target, checked_neurons

_FEWEST = 5
_MAX_CLASSES = 200  # rows of a large head that are fitted


@undisturbed()
def mend(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    deployment: FeatureSet,
    *,
    target: int,
    neurons: Sequence[int] | None = None,
    n_neurons: int = 50,
    target_weight: float = 3.0,
    max_cost: float = 0.01,
    max_classes: int | None = None,
    seed: int = 0,
) -> HeadEdit:
    """Find the neurons behind a class's mistakes, and fit the head so that they matter less.

    What equation (8) of NeuroInspect asks of the head, that the chosen neurons raise the class
    no more than the others, is asked here by samples: the target's training features with
    these neurons moved to where they are in the deployment samples, the other classes' moved
    the other way. One convex regression, anchored at the original head, does the rest.

    The deployment samples are split in three; a head fitted without a part is judged on it,
    so that no sample judges a head that was fitted to it. Samples of ``train`` that are in
    deployment too, such as its mistakes, count as deployment samples only. Where the mean
    accuracy of the classes falls on the held-out parts by more than ``max_cost``, or deployment
    has too few samples of the target, the original head is returned with a warning.

    Most of the gain comes from the labelled deployment samples; the measurements in the
    documentation say what the neurons add to them.

    It is for a head of some tens of classes with deployment photos of each. On the thousand
    classes of ImageNet, with a hundred photos of a few, it cost 19 points of clean accuracy in the
    measurements: taking neurons away from such a head (:mod:`edit.baselines`) cost nearly none.

    Of a head with more than 1,000 classes 200 rows are fitted: of the target, of classes that are
    taken for it or it for them, that are in deployment, or that the cue raises. The others stay
    bit by bit. Their part of the cross entropy is kept exactly; of the samples those of the
    target are taken, and at most 1,000 of the other fitted classes and 1,000 of all others from
    each set, drawn by ``seed``, which stand for the rest. The record says so:
    ``n_fitted_classes``. Logits are made block by block: beside the sets up to six copies of the
    head are held (about a gigabyte with 21,843 classes and 2,048 features), and a copy of the
    logits of ``deployment``. Sets with a ``head_fingerprint`` are taken as they are, others are
    looked at once to see whether their logits are this head's.

    Args:
        head: the decision layer, F features to C classes; never changed.
        train: features with labels that the head was trained on.
        validation: features with labels, on which the other classes' cost is judged.
        deployment: labelled samples of deployment: mistakes and, if there are any, samples that the
            head gets right. No group labels are needed.
        target: the class to mend.
        neurons: to move; ``None``: those that stand behind the mistakes most.
        n_neurons: how many of the neurons behind the mistakes are moved; 0: none.
        target_weight: weight of the target beside 1 for each other class, above 0.
        max_cost: how much mean accuracy over the classes may fall on held-out samples, 0..1.
        max_classes: fit at most so many classes' rows, at least 2; the others stay. ``None``:
            all, or 200 of more than 1,000.
        seed: deals out the held-out parts, and draws the samples for a large head.

    Returns:
        A :class:`HeadEdit`, judged on ``validation``; ``method`` is a :class:`MendRecord` with
        the original and the fitted head by their held-out accuracies, and the objection to the
        fitted one, if there is one. These samples were not fitted to, but they decide what is
        kept, and neurons that were given may have been found in them: judge the edit on others
        (:func:`fit_and_judge`, :func:`cross_fit`). Its ``verdict`` cannot tell before
        :meth:`HeadEdit.judge` is called with samples that were used for nothing else.

    Raises:
        TypeError: when ``head`` is not linear, or neurons are not whole numbers.
        ValueError: when sets do not fit the head or are empty, a sample of ``validation`` is in
            another one, the target is absent from ``train`` or alone in it, or a number is out
            of its range.

    Warns:
        RuntimeWarning: when the original head is returned.
        UserWarning: when samples of ``train`` are in ``deployment`` too, and are left out of it;
            when classes of the head are in neither: a fit favours those that are.

    Examples::

        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> head, labels = nn.Linear(8, 2), torch.arange(120) % 2
        >>> z = torch.rand(120, 8) + torch.nn.functional.one_hot(labels, 8)
        >>> train, others = FeatureSet(z, head(z).detach(), labels).split()
        >>> validation, deployment = others.split()
        >>> edit = mend(head, train, validation, deployment, target=1)
        >>> edit.after.accuracy >= edit.before.accuracy
        True
    """
    check_target(target, check_head(head).out_features)
    with exclusive(head):  # no edit that another thread tries is read
        check_sets(head, "softmax", train=train, validation=validation, deployment=deployment)
        train = apart_from(train, deployment=deployment)
        check_disjoint(train=train, validation=validation, deployment=deployment)
        check_training(train, [int(target)])
        _check(n_neurons, target_weight, max_cost)
        max_classes = _checked_classes(max_classes, head.out_features)
        if max_classes is None:  # else rows of other classes stay
            warn_of_absent_classes(head.out_features, train, deployment)
        if max_classes is not None:
            train, validation, deployment = (
                with_logits_of(one, head) for one in (train, validation, deployment)
            )
        given = None if neurons is None else checked_neurons(list(neurons), head.in_features)
        mending = Mending(
            head,
            train,
            validation,
            deployment,
            int(target),
            n_neurons,
            target_weight,
            seed,
            given,
            max_classes,
        )
        record = _record(mending, max_cost)
        # Where the original stays, the edit has the neurons that would have been moved.
        moved = mending.neurons(deployment)
        if record.objection:
            message = f"the original head is returned: {record.objection}"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        new = copy_of(head) if record.objection else mending.fitted(deployment, moved)
        edit = compare_heads(head, new, validation, {mending.target: moved.tolist()}, train=train)
        return replace(edit, method=record, seen=names_of(train, validation, deployment))


def _check(n_neurons: int, target_weight: float, max_cost: float) -> None:
    if n_neurons < 0:
        raise ValueError(f"n_neurons={n_neurons}, expected 0 or more")
    if not target_weight > 0:
        raise ValueError(f"target_weight={target_weight}, expected a positive number")
    if not 0 <= max_cost <= 1:
        raise ValueError(f"max_cost={max_cost}, expected 0..1")


def _checked_classes(max_classes: int | None, n_classes: int) -> int | None:
    """How many rows are fitted; ``None``: all."""
    if max_classes is None:
        return _MAX_CLASSES if n_classes > LARGEST_WHOLE else None
    if max_classes < 2:
        raise ValueError(
            f"max_classes={max_classes}, expected at least 2: the target and one beside it"
        )
    return max_classes if max_classes < n_classes else None


def _record(mending: Mending, max_cost: float) -> MendRecord:
    """Both heads on held-out samples, and why the original is chosen, if it is."""
    n_target = int((mending.deployment.labels == mending.target).sum())
    original, fitted, objection = None, None, None
    if n_target < _FEWEST:
        objection = f"{n_target} samples of the target in deployment, expected at least {_FEWEST}"
    else:
        original, fitted = mending.candidates()
        cost = original.mean - fitted.mean
        if cost > max_cost:
            objection = f"the edit costs {100 * cost:.1f} points of mean held-out accuracy"
    return MendRecord(
        float(mending.target_weight),
        float(max_cost),
        int(mending.seed),
        n_target,
        original,
        fitted,
        objection,
        mending.max_classes,
    )
