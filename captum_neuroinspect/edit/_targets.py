"""Which neurons of which classes, and the ratios asked for, from what people write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.edit._link import Link
from captum_neuroinspect.edit.penalties import ratio_by_rule
from captum_neuroinspect.edit.probability_ratio import check_target, checked_neurons

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
) -> dict[int, Tensor]:
    """``o`` of each class: ``(1,)`` for its neurons together, ``(K,)`` one by one.

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
            mean = train.features[train.of_class(target)].mean(0)
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
