"""Make the head indifferent to a cue, by training features with the cue taken hold of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.checks import check_whole
from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head, head_tensors
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.edit._arguments import (
    check_disjoint,
    check_sets,
    check_training,
    names_of,
    warn_of_absent_classes,
)
from captum_neuroinspect.edit._interventions import (
    Cue,
    cue_of_direction,
    cue_of_neurons,
    intervened,
)
from captum_neuroinspect.edit._mend_fit import anchored_fit
from captum_neuroinspect.edit._result import HeadEdit, compare_heads
from captum_neuroinspect.edit.head_diff import changed
from captum_neuroinspect.edit.method_records import RemovalRecord
from captum_neuroinspect.edit.probability_ratio import check_target, checked_neurons
from captum_neuroinspect.edit.removal_options import RemovalOptions

if TYPE_CHECKING:
    from captum_neuroinspect.attr.direction import Direction

_N_NAMED = 10  # neurons of a direction by which its ratios are reported


@undisturbed()
def remove_cue(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    *,
    target: int | Sequence[int],
    cue: Direction | int | list[int] | tuple[int, ...] | Tensor,
    seed: int = 0,
    options: RemovalOptions | None = None,
) -> HeadEdit:
    """Refit the head on its own training features, in which the cue tells nothing any more.

    No deployment photo is trained on: mistakes at most locate the cue (:func:`cue_direction`).
    The head learns from training features in which the cue has one value in all samples, so that
    the new head does not look at it; or from these features as they are and copies in which the
    cue was moved or swapped between classes, as ``options.intervention`` says. One convex
    regression, each class with the same weight, starts at the original head and is held near it;
    the fit itself has no order of samples and no step size.

    A direction from mistakes says where a cue is much better than single neurons do: the
    measurements in the documentation compare them, also with few mistakes.

    The validation set does not choose: where it carries the cue too, it would speak against any
    edit that removes it.

    All of the head's rows are fitted: some forty copies of the head are held in memory, and three
    of the training samples' logits. For a head of a thousand classes with training samples of few
    of them there is ``RemovalOptions(refit=False)``.

    Args:
        head: the decision layer, F features to C classes; never changed.
        train: features with labels that the head was trained on.
        validation: features with labels, on which both heads are judged.
        target: the class with the cue, or several that share it.
        cue: a :class:`Direction`, or the neurons that carry it.
        seed: draws the pairs of samples for the swap.
        options: intervention and weights; ``None``: the defaults.

    Returns:
        A :class:`HeadEdit`, judged on ``validation``; ``method`` is a :class:`RemovalRecord`.
        Its ``neurons`` are those given, or the ten that differ most along the direction. Its
        ``verdict`` cannot tell before :meth:`HeadEdit.judge` is called with samples that were used
        for nothing else, not even to locate the cue: it leaves out those of which the direction
        knows that they did. In what neurons were found only you know.

    Raises:
        TypeError: when ``head`` is not linear, ``cue`` is neither a Direction nor whole numbers, or
            options are something else.
        ValueError: when sets do not fit the head or are empty, a sample of ``validation`` is in
            ``train``, a target is absent from ``train``, no other class is in it, an index is out
            of range or repeated, or the direction has another length.

    Warns:
        UserWarning: when classes of the head are not in ``train``: a fit favours those that are.

    Examples::

        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> head, labels = nn.Linear(4, 2), torch.arange(80) % 2
        >>> z = torch.rand(80, 4) + torch.nn.functional.one_hot(labels, 4)
        >>> train, validation = FeatureSet(z, head(z).detach(), labels).split()
        >>> edit = remove_cue(head, train, validation, target=1, cue=[1])
        >>> edit.head.weight[:, 1].tolist()
        [0.0, 0.0]
    """
    targets = _checked_targets(target, check_head(head).out_features)
    check_whole("seed", seed)
    if not (options is None or isinstance(options, RemovalOptions)):
        raise TypeError(f"options is {type(options).__name__}, expected RemovalOptions")
    chosen = options or RemovalOptions()
    with exclusive(head):  # no edit that another thread tries is read
        check_sets(head, "softmax", train=train, validation=validation)
        check_disjoint(train=train, validation=validation)
        check_training(train, targets.tolist())
        is_target = torch.isin(train.labels, targets)
        if is_target.all():
            raise ValueError(
                f"train has samples of target={targets.tolist()} only: expected others beside them"
            )
        if chosen.refit:
            warn_of_absent_classes(
                head.out_features, train, advice="; RemovalOptions(refit=False) fits nothing"
            )
        found, neurons, kind = _checked_cue(cue, train, is_target, head.in_features)
        new, record = _refitted(head, train, targets, found, kind, chosen, seed)
        named = {int(one): list(neurons) for one in targets}
        edit = compare_heads(head, new, validation, named, train=train)
        seen = names_of(train, validation)
        located = getattr(cue, "located_by", None)  # of a direction; of neurons nobody knows
        if located is not None:
            seen = torch.cat([seen, located]).unique()
            record = replace(record, n_located=len(located))
        return replace(edit, method=record, seen=seen)


def _checked_targets(target: int | Sequence[int], n_classes: int) -> Tensor:
    """``(T,)`` classes: at least one, none twice, not all of them."""
    targets = as_indices("target", check_target(None, n_classes) if target is None else target)
    if not len(targets):
        raise ValueError("target is empty: expected at least one class")
    check_indices("target", targets, n_classes, f"{n_classes} classes")
    if len(targets.unique()) != len(targets):
        raise ValueError(f"target={targets.tolist()} repeats a class, expected each once")
    return targets


def _checked_cue(
    cue: Direction | int | list[int] | tuple[int, ...] | Tensor,
    train: FeatureSet,
    is_target: Tensor,
    n_features: int,
) -> tuple[Cue, tuple[int, ...], str]:
    """What to intervene on, neurons to report, and what it is in words."""
    # Captum imports matplotlib, which importing an edit does not need.
    from captum_neuroinspect.attr.direction import Direction

    if isinstance(cue, Direction):
        if len(cue) != n_features:
            raise ValueError(
                f"cue has {len(cue)} features, expected {n_features}, as many as the head takes"
            )
        return cue_of_direction(cue.shift, cue.reading), cue.neurons(_N_NAMED), "direction"
    if isinstance(cue, Tensor) and cue.is_floating_point():
        raise TypeError(
            "cue is a tensor of floating point numbers, expected a Direction, as cue_direction or "
            "Direction(shift, spread) gives it, or indices of neurons"
        )
    neurons = checked_neurons(cue, n_features, "cue")
    found = cue_of_neurons(neurons, train, is_target)
    return found, tuple(neurons.tolist()), f"{len(neurons)} neurons"


def _refitted(
    head: nn.Linear,
    train: FeatureSet,
    targets: Tensor,
    cue: Cue,
    kind: str,
    options: RemovalOptions,
    seed: int,
) -> tuple[nn.Linear, RemovalRecord]:
    weight, bias = head_tensors(head)
    has_bias = head.bias is not None
    is_target = torch.zeros(len(weight), dtype=torch.bool)
    is_target[targets] = True
    # A head without bias can only ignore a cue whose value is 0 everywhere.
    values = cue.values(train.features.float())
    middle = values.mean(0) if has_bias else torch.zeros(values.shape[1])
    anchor, projects = options.anchor_of(has_bias), options.intervention == "project"
    new = cue.without(weight, bias, middle) if projects else (weight, bias)
    if options.refit:
        samples = intervened(train, cue, targets, middle, options, seed)
        new = anchored_fit(samples, *new, anchor=anchor, has_bias=has_bias)
        new = cue.without(*new, middle) if projects else new
    before, after = (cue.response(one, is_target) for one in (weight, new[0]))
    d_weight, d_bias = (
        now.double() - old.double() for now, old in zip(new, (weight, bias), strict=True)
    )
    record = RemovalRecord(replace(options, anchor=anchor), kind, int(seed), before, after)
    return changed(head, d_weight, d_bias), record
