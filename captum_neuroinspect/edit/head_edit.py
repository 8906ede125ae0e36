"""Weaken a false correlation in the decision layer, and say what that changed."""

from __future__ import annotations

import math
import warnings
from typing import Literal

from torch import Tensor, nn

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect._head import check_head, head_tensors
from captum_neuroinspect.edit._result import HeadEdit, evaluate, linear_like
from captum_neuroinspect.edit._training import Objective, Schedule, Scope, train_head
from captum_neuroinspect.edit.penalties import ratio_by_rule
from captum_neuroinspect.edit.probability_ratio import check_target, checked_neurons

_SCOPES = ("head", "class", "neurons")


def edit_head(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    *,
    target: int,
    neurons: int | list[int] | tuple[int, ...],
    scope: Scope = "head",
    strength: float = 1.0,
    ratio: float | Literal["rule"] = 1.0,
    mistakes: FeatureSet | None = None,
    mistake_weight: float = 0.3,
    n_epochs: int = 20,
    batch_size: int = 16,
    lr: float = 1e-3,
    patience: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> HeadEdit:
    r"""Retrain the decision layer under the paper's constraint (equation 8).

    .. math:: CE + \lambda_3 || r_c - o ||_2

    on features that were collected once, from the head as it is. The head of the
    epoch with the best validation accuracy is kept; the ``head`` given is never
    changed.

    Args:
        head: the decision layer, F features to C classes.
        train: features with labels to train on.
        validation: features with labels that choose the epoch. If they carry the
            false correlation too, the epoch that changed least is chosen: give photos
            that do not, such as some met in use.
        target: index of the class ``c`` whose false correlation is weakened.
        neurons: the features that carry it.
        scope: what may change: the whole ``"head"`` (the paper), the target's row and
            bias (``"class"``), or the target's coefficients of these neurons
            (``"neurons"``). A head without bias stays without.
        strength: lambda3, 0 or more.
        ratio: ``o``, the ratio asked for: 1 (treat the neurons as the other classes
            do), a little above, or ``"rule"``: ``(min_j r_c - 1)/3 + 1`` at the mean
            training features of the target.
        mistakes: samples that the model got wrong, such as photos met in use; their
            cross entropy is added with ``mistake_weight``. Not in the paper, which
            trains on the original data only.
        mistake_weight: weight of the mistakes beside the training data, above 0.
        n_epochs: upper bound on passes over ``train``.
        batch_size: samples a step; the norm in equation (8) runs over a batch.
        lr: Adam's step size.
        patience: epochs without a better validation accuracy before stopping.
        seed: draws the order of the samples.
        progress: show a progress bar over epochs.

    Returns:
        A :class:`HeadEdit` with the new head and both heads' results on ``validation``.

    Raises:
        TypeError: when ``head`` is not linear or ``neurons`` are not whole numbers.
        ValueError: when an index is out of range, ``neurons`` is empty or repeats
            one, the target is absent from ``train``, sets do not fit the head or are
            empty, or an option is out of its range.

    Warns:
        RuntimeWarning: when the edited head does worse on ``validation`` than the
            original.

    Examples::

        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> head, z = nn.Linear(4, 2), torch.rand(32, 4)
        >>> data = FeatureSet(z, head(z).detach(), (z[:, 0] > z[:, 1]).long())
        >>> edit = edit_head(head, data, data, target=1, neurons=[2], n_epochs=5)
        >>> edit.after.accuracy >= edit.before.accuracy
        True
    """
    weight, bias = head_tensors(check_head(head))
    chosen = checked_neurons(neurons, head.in_features)
    check_target(target, head.out_features)
    _check_sets(head, target, train=train, validation=validation, mistakes=mistakes)
    _check_options(scope, strength, ratio, mistake_weight, n_epochs, batch_size, lr, patience)
    o = _ratio_value(ratio, weight, bias, train, chosen, target)
    has_bias = head.bias is not None
    objective = Objective(target, chosen, strength, o, scope, has_bias, mistakes, mistake_weight)
    schedule = Schedule(n_epochs, batch_size, lr, patience, seed, progress)
    best, history = train_head(weight, bias, train, validation, objective, schedule)
    edit = HeadEdit(
        head=linear_like(head, best.weight, best.bias),
        original=linear_like(head, weight, bias),
        target=int(target),
        neurons=tuple(chosen.tolist()),
        scope=scope,
        strength=float(strength),
        ratio=o,
        before=evaluate(weight, bias, validation, chosen, target),
        after=evaluate(best.weight, best.bias, validation, chosen, target),
        history=history,
        best_epoch=best.epoch,
    )
    _warn_if_worse(edit)
    return edit


def _warn_if_worse(edit: HeadEdit) -> None:
    if edit.after.accuracy < edit.before.accuracy:
        warnings.warn(
            f"the edited head is right on {edit.after.accuracy:.3f} of the validation set, the "
            f"original on {edit.before.accuracy:.3f}: try fewer neurons, a smaller strength or a "
            "narrower scope",
            RuntimeWarning,
            stacklevel=3,
        )


def _ratio_value(
    ratio: float | str,
    weight: Tensor,
    bias: Tensor,
    train: FeatureSet,
    neurons: Tensor,
    target: int,
) -> float:
    if ratio == "rule":
        mean = train.features[train.labels == target].mean(0)
        return ratio_by_rule(weight, bias, mean, neurons, target)
    return float(ratio)


def _check_sets(head: nn.Linear, target: int, **sets: FeatureSet | None) -> None:
    for name, data in sets.items():
        if data is None:
            continue
        if not len(data):
            raise ValueError(f"{name} is empty: expected at least one sample")
        shape = (data.features.shape[1], data.n_classes)
        if shape != (head.in_features, head.out_features):
            raise ValueError(
                f"{name} has {shape[0]} features and {shape[1]} classes, the head takes "
                f"{head.in_features} and gives {head.out_features}"
            )
    train = sets["train"]
    if train is not None and not (train.labels == target).any():
        raise ValueError(f"target={target} has no sample in train: nothing to learn it from")


def _check_options(
    scope: str,
    strength: float,
    ratio: float | str,
    mistake_weight: float,
    n_epochs: int,
    batch_size: int,
    lr: float,
    patience: int,
) -> None:
    if scope not in _SCOPES:
        raise ValueError(f"scope={scope!r}, expected one of {_SCOPES}")
    if not (strength >= 0 and math.isfinite(strength)):
        raise ValueError(f"strength={strength}, expected a finite number, 0 or more")
    if ratio != "rule" and not (isinstance(ratio, (int, float)) and 0 < ratio < math.inf):
        raise ValueError(f"ratio={ratio!r}, expected a positive number or 'rule'")
    for name, value in (("mistake_weight", mistake_weight), ("lr", lr)):
        if not value > 0:
            raise ValueError(f"{name}={value}, expected a positive number")
    for name, value in (("n_epochs", n_epochs), ("batch_size", batch_size), ("patience", patience)):
        if value < 1:
            raise ValueError(f"{name}={value}, expected at least 1")
