"""Samples, neurons and ratios as people give them: do they fit a head, and each other?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.ratios import Link
from captum_neuroinspect._core.same_model import check_same_backbone, check_same_head
from captum_neuroinspect._core.same_samples import row_names, row_numbers
from captum_neuroinspect.edit.penalties import ratio_by_rule
from captum_neuroinspect.edit.probability_ratio import check_target, checked_neurons


def check_fits(head: nn.Linear, **sets: FeatureSet | None) -> None:
    """Refuse sets that are empty or of another shape than the head; ``None`` is no set.

    Raises:
        ValueError: in both cases, naming the set.
    """
    for name, data in sets.items():
        if data is None:
            continue
        if not len(data):
            raise ValueError(f"{name} is empty: expected at least one sample")
        shape = (data.features.shape[1], data.logits.shape[1])
        if shape != (head.in_features, head.out_features):
            raise ValueError(
                f"{name} has {shape[0]} features and {shape[1]} classes, the head takes "
                f"{head.in_features} and gives {head.out_features}"
            )


def check_sets(head: nn.Linear, link: Link, **sets: FeatureSet | None) -> None:
    """Refuse sets that are empty, of another shape, of another model or another kind.

    Raises:
        ValueError: in all these cases, naming the set.
    """
    check_fits(head, **sets)
    given = {name: data for name, data in sets.items() if data is not None}
    for name, data in given.items():
        _check_kind(name, data, link)
    check_same_head(head, **given)
    check_same_backbone(**given)


def check_disjoint(**sets: FeatureSet | None) -> None:
    """Refuse sets that share samples: the same features with the same label; ``None`` is no set.

    Raises:
        ValueError: says how many, and names both sets.
    """
    names = {
        name: row_names(data.features, data.labels)
        for name, data in sets.items()
        if data is not None
    }
    for (one, of_one), (other, of_other) in combinations(names.items(), 2):
        known = set(of_one)
        shared = [row for row, name in enumerate(of_other) if name in known]
        if shared:
            raise ValueError(
                f"{len(shared)} of {len(of_other)} samples of {other} are in {one} too, the first "
                f"in row {shared[0]}: expected each sample in only one of {', '.join(names)}, as "
                "a head must not be judged by what it was fitted to; deal the samples out with "
                f"split(), or take them out with {other}.without({one})"
            )


def apart_from(train: FeatureSet, stacklevel: int = 4, **teaching: FeatureSet | None) -> FeatureSet:
    """Training samples without those of deployment, such as its own mistakes.

    Both teach, but those of deployment are dealt out in parts that judge each other.

    Args:
        train: to take them from.
        stacklevel: of the warning.
        teaching: one set, by its name; ``None`` is no set.

    Warns:
        UserWarning: when samples are left out.
    """
    ((name, other),) = teaching.items()
    if other is None:
        return train
    known = set(row_names(other.features, other.labels))
    keep = [row not in known for row in row_names(train.features, train.labels)]
    n_left = len(keep) - sum(keep)
    if not n_left:
        return train
    warnings.warn(
        f"{n_left} of {len(train)} samples of train are in {name} too, and are left out of train: "
        "a sample has one role",
        stacklevel=stacklevel,
    )
    return train.subset(torch.tensor(keep))


def check_training(train: FeatureSet, targets: Iterable[int]) -> None:
    """Refuse training data without a target class, or with a single class.

    Raises:
        ValueError: in both cases.
    """
    for target in targets:
        of_target = train.of_class(target)
        if not of_target.any():
            raise ValueError(f"target={target} has no sample in train: nothing to learn it from")
        if of_target.all():
            raise ValueError(
                f"train has samples of target={target} only: expected others, or the head "
                "learns to always name it"
            )


def warn_of_absent_classes(
    n_classes: int, *fitted_to: FeatureSet | None, advice: str = "", stacklevel: int = 4
) -> None:
    """Say that classes of a head have no sample to fit to; ``None`` is no set.

    Warns:
        UserWarning: how many classes there are samples of.
    """
    labels = [data.labels for data in fitted_to if data is not None and not data.is_multi_hot]
    n_present = len(torch.cat(labels).unique()) if labels else n_classes
    if n_present < n_classes:
        warnings.warn(
            f"train has samples of {n_present} of the head's {n_classes} classes: the fit favours "
            f"these, and takes photos from the others{advice}",
            stacklevel=stacklevel,
        )


def _check_kind(name: str, data: FeatureSet, link: Link) -> None:
    if link == "softmax" and (data.is_multi_hot or data.logits.shape[1] == 1):
        kind = "multi-hot labels" if data.is_multi_hot else "a single output"
        raise ValueError(f"{name} has {kind}: link='softmax' does not fit, give link='sigmoid'")
    if link == "sigmoid" and not data.is_multi_hot and data.logits.shape[1] > 1:
        raise ValueError(
            f"{name} has one class a sample: link='sigmoid' expects multi-hot labels (N, C), "
            "or a head with a single output"
        )


NeuronsOfClass = int | list[int] | tuple[int, ...] | Tensor
Neurons = NeuronsOfClass | Mapping[int, NeuronsOfClass]
RatioOfClass = float | Sequence[float] | Literal["rule"]
Ratio = RatioOfClass | Mapping[int, RatioOfClass]


def checked_targets(
    target: int | None, neurons: Neurons, n_classes: int, n_features: int
) -> dict[int, Tensor]:
    """Neurons of each class, from one class with neurons or from a mapping.

    Raises:
        TypeError: when indices are not whole numbers.
        ValueError: when one is out of range or repeated, a class has no neurons, or
            a mapping comes with a ``target`` too.
    """
    if not isinstance(neurons, Mapping):
        index = check_target(target, n_classes)
        return {index: checked_neurons(neurons, n_features)}
    if target is not None:
        raise ValueError(
            f"target={target} beside neurons={dict(neurons)}: the mapping names the classes, "
            "expected no target"
        )
    if not neurons:
        raise ValueError("neurons is empty: expected at least one class with its neurons")
    checked = [
        (check_target(c, n_classes), checked_neurons(of_class, n_features))
        for c, of_class in neurons.items()
    ]
    if len(dict(checked)) != len(checked):
        raise ValueError(f"neurons={dict(neurons)} names a class twice")
    return dict(checked)


def checked_ratios(
    ratio: Ratio,
    targets: Mapping[int, Tensor],
    weight: Tensor,
    bias: Tensor,
    train: FeatureSet,
    link: Link,
    whole: FeatureSet | None = None,
) -> dict[int, Tensor]:
    """``o`` of each class: ``(1,)`` for its neurons together, ``(K,)`` one by one.

    The rule looks at the mean of ``whole``; ``None``: of the class in ``train``.

    Raises:
        ValueError: when a ratio is not positive, or there are not as many as neurons
            or classes.
    """
    if isinstance(ratio, Mapping):
        if set(ratio) != set(targets):
            raise ValueError(f"ratio is for classes {sorted(ratio)}, neurons for {sorted(targets)}")
        of_class = dict(ratio)
    elif isinstance(ratio, (str, Real)) or len(targets) == 1:
        of_class = dict.fromkeys(targets, ratio)
    else:
        raise ValueError(
            f"ratio={ratio!r} for {len(targets)} classes: one value a neuron needs a mapping "
            "from classes to their values"
        )
    ratios = {}
    for target, neurons in targets.items():
        asked = of_class[target]
        if isinstance(asked, str) and asked == "rule":
            at = train.features[train.of_class(target)] if whole is None else whole.features
            mean = at.mean(0)
            asked = ratio_by_rule(weight, bias, mean, neurons, target, link)
        ratios[target] = _positive(asked, len(neurons))
    return ratios


def _positive(asked: Any, n_neurons: int) -> Tensor:
    values = [asked] if isinstance(asked, (str, Real)) else list(asked)
    if not all(isinstance(v, Real) and 0 < float(v) < math.inf for v in values):
        raise ValueError(f"ratio={asked!r}, expected a positive number or 'rule'")
    if len(values) not in (1, n_neurons):
        raise ValueError(f"ratio has {len(values)} values, expected one or {n_neurons} (a neuron)")
    return torch.tensor([float(value) for value in values])


def plain_ratios(
    ratios: Mapping[int, Tensor],
) -> float | tuple[float, ...] | dict[int, float | tuple[float, ...]]:
    """Ratios as people would write them: a number, one a neuron, or one of these a class."""
    plain: dict[int, float | tuple[float, ...]] = {
        target: float(of_class) if len(of_class) == 1 else tuple(of_class.tolist())
        for target, of_class in ratios.items()
    }
    return plain if len(plain) > 1 else next(iter(plain.values()))


def names_of(*sets: FeatureSet | None) -> Tensor:
    """``(N,)`` int64: one name for each different sample of these sets; ``None`` is no set.

    Two samples have the same name if their features are the same.

    Examples::

        >>> z = torch.tensor([[1.0], [2.0], [1.0]])
        >>> data = FeatureSet(z, z, torch.zeros(3, dtype=torch.int64))
        >>> len(names_of(data, None)), is_in(data, names_of(data.subset(torch.tensor([1]))))
        (2, tensor([False,  True, False]))
    """
    return torch.cat([row_numbers(one.features) for one in sets if one is not None]).unique()


def is_in(features: FeatureSet, seen: Tensor) -> Tensor:
    """``(N,)`` whether a sample has one of these names."""
    return torch.isin(row_numbers(features.features), seen)
