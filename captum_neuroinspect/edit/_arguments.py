"""Whether data sets fit a head, each other and the way it is judged."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import combinations

import torch
from torch import nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect._core.same_samples import row_names
from captum_neuroinspect.edit._link import Link


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
    _check_fingerprints(head, given)


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


def apart_from(train: FeatureSet, stacklevel: int = 4, **met: FeatureSet | None) -> FeatureSet:
    """Training samples without those that were met in use too, such as its own mistakes.

    Both teach, but those that were met are dealt out in parts that judge each other.

    Args:
        train: to take them from.
        stacklevel: of the warning.
        met: one set, by its name; ``None`` is no set.

    Warns:
        UserWarning: when samples are left out.
    """
    ((name, other),) = met.items()
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


def _check_kind(name: str, data: FeatureSet, link: Link) -> None:
    if link == "softmax" and (data.is_multi_hot or data.logits.shape[1] == 1):
        kind = "multi-hot labels" if data.is_multi_hot else "a single output"
        raise ValueError(f"{name} has {kind}: link='softmax' does not fit, give link='sigmoid'")
    if link == "sigmoid" and not data.is_multi_hot and data.logits.shape[1] > 1:
        raise ValueError(
            f"{name} has one class a sample: link='sigmoid' expects multi-hot labels (N, C), "
            "or a head with a single output"
        )


def _check_fingerprints(head: nn.Linear, sets: dict[str, FeatureSet]) -> None:
    expected = head_fingerprint(head)
    backbones = {n: d.backbone_fingerprint for n, d in sets.items() if d.backbone_fingerprint}
    for name, data in sets.items():
        if data.head_fingerprint not in (None, expected):
            raise ValueError(
                f"{name} was judged by another head (fingerprint {data.head_fingerprint}, this "
                f"head has {expected}): collect it with this model, or, if only the head "
                f"differs, give {name}.with_head(head)"
            )
    if len(set(backbones.values())) > 1:
        raise ValueError(f"the sets come from different backbones: {backbones}")
