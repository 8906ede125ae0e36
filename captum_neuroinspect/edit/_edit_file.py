"""Edits as files: both heads and the record in one safetensors file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet, check_dtypes
from captum_neuroinspect._core.kept_file import read_kept, reading, write_kept
from captum_neuroinspect._core.kinds import as_plain, check_kinds, from_plain, hints_of
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect.edit.judged import Judged
from captum_neuroinspect.edit.method_records import (
    ComparisonRecord,
    ConstraintRecord,
    MendRecord,
)
from captum_neuroinspect.edit.verdict import Verdict

if TYPE_CHECKING:
    from captum_neuroinspect.edit._result import HeadEdit

_TOO_MANY = 2**53  # samples; a float counts no further
_HEADS = ("head", "original")
_METHODS = {"edit_head": ConstraintRecord, "mend": MendRecord, "comparison": ComparisonRecord}
_PLAIN = (
    "targets",
    "before",
    "after",
    "link",
    "class_names",
    "group_shares",
    "is_kept",
    "remarks",
)


def save_edit(edit: HeadEdit, path: str | Path) -> Path:
    """Write an edit as one safetensors file with a record in JSON."""
    tensors = {
        f"{name}.{key}": value
        for name in _HEADS
        for key, value in getattr(edit, name).state_dict().items()
    }
    if edit.seen is not None:
        tensors["seen"] = edit.seen
    tensors |= _tensors_of(edit.judged)
    record: dict[str, Any] = {name: as_plain(getattr(edit, name)) for name in _PLAIN}
    (method,) = (name for name, kind in _METHODS.items() if type(edit.method) is kind)
    record["method"] = [method, as_plain(edit.method)]
    record["verdict"] = edit.verdict.as_dict()
    record["judged"] = None if edit.judged is None else edit.judged.how
    return write_kept(path, "HeadEdit", tensors, record)


def read_edit(path: str | Path) -> dict[str, Any]:
    """The fields of an edit that :func:`save_edit` wrote.

    Raises:
        OSError: when there is no such file, or it may not be read.
        ValueError: when it is something else or damaged; names it.
    """
    from captum_neuroinspect.edit._result import HeadEdit

    tensors, record = read_kept(path, "HeadEdit")
    with reading(path, "HeadEdit"):
        hints = hints_of(HeadEdit)
        record |= {name: from_plain(record[name], hints[name]) for name in _PLAIN}
        method, of_method = record["method"]
        record["method"] = from_plain(of_method, _METHODS[method])
        record["verdict"] = Verdict.from_dict(record["verdict"])
        record["seen"] = tensors.get("seen")
        record["judged"] = _judged(tensors, record["judged"], record["class_names"])
        record |= {name: _linear(tensors, name) for name in _HEADS}
        check_kinds(record, HeadEdit)
        _check_indices(record)
        _check_results(record)
        verdict = record["verdict"]
        if (verdict.p_value is None) != (verdict.overall_change is None):
            raise ValueError("its verdict has a test without a change, or a change without a test")
        _check_samples(record)
    return record


def _check_indices(record: dict[str, Any]) -> None:
    head, original = record["head"], record["original"]
    if head.weight.shape != original.weight.shape:
        raise ValueError("its two heads have different shapes")
    n_classes = max(head.out_features, 2)  # a single output decides between two
    n_neurons = head.in_features
    for target, neurons in record["targets"].items():
        check_indices("target", torch.tensor([target]), n_classes, f"{n_classes} classes")
        check_indices("neuron", as_indices("neurons", neurons), n_neurons, f"{n_neurons} neurons")
    names = record["class_names"]
    if names is not None and len(names) != n_classes:
        raise ValueError(f"it has {len(names)} class names for {n_classes} classes")


def _check_results(record: dict[str, Any]) -> None:
    """One number for each neuron, class and group, before as after: they are shown in pairs."""
    before, after = record["before"], record["after"]
    n_classes = max(record["head"].out_features, 2)
    n_groups = len(before.group_accuracy or ())
    expected = {
        "ratios": sum(map(len, record["targets"].values())),
        "class_accuracy": n_classes,
        "class_samples": n_classes,
        "group_accuracy": n_groups,
        "group_samples": n_groups,
    }
    for name, n in expected.items():
        values = getattr(before, name), getattr(after, name)
        if any(value is not None and len(value) != n for value in values):
            raise ValueError(f"`{name}` before and after are {values}, expected {n} numbers each")
    for one in (before, after):
        _check_shares("accuracy", (one.accuracy,), (one.n_samples,))
        _check_shares("class_accuracy", one.class_accuracy, one.class_samples)
        _check_shares("group_accuracy", one.group_accuracy or (), one.group_samples)


def _check_shares(name: str, shares: tuple[float, ...], counts: tuple[int, ...] | None) -> None:
    """Shares of so many samples: 0..1, and NaN where there are none."""
    if any(not 0 <= n < _TOO_MANY for n in counts or ()):
        raise ValueError(f"`{name}` is of {counts} samples, expected counts")
    known = counts or (0,) * len(shares)
    for share, n in zip(shares, known, strict=True):
        if not (0 <= share <= 1 or (math.isnan(share) and not n)):
            raise ValueError(f"`{name}` is {share} of {n} samples, expected 0..1")


def _check_samples(record: dict[str, Any]) -> None:
    """Names of samples that can be looked up, and judged samples of this head's classes."""
    seen, judged, n_outputs = record["seen"], record["judged"], record["head"].out_features
    if seen is not None and (seen.dtype, seen.ndim) != (torch.int64, 1):
        raise ValueError(f"the names of its samples are {seen.dtype}, expected (N,) int64")
    for part in () if judged is None else (judged.before, judged.after):
        if part.logits.shape[1] != n_outputs:
            raise ValueError(
                f"its judged samples have {part.logits.shape[1]} logits, the head {n_outputs}"
            )
        known = {"features": part.features, "logits": part.logits, "indices": part.indices}
        check_dtypes(known if part.groups is None else known | {"groups": part.groups})


def _tensors_of(judged: Judged | None) -> dict[str, Tensor]:
    if judged is None:
        return {}
    before = judged.before
    found = {"labels": before.labels, "indices": before.indices, "groups": before.groups}
    logits = {"before": before.logits, "after": judged.after.logits}
    return {f"judged.{n}": t for n, t in (found | logits).items() if t is not None}


def _judged(
    tensors: dict[str, Tensor], how: str | None, names: tuple[str, ...] | None
) -> Judged | None:
    if how is None:
        return None
    labels, groups = tensors["judged.labels"], tensors.get("judged.groups")
    nothing = torch.empty(len(labels), 0)
    before, after = (
        FeatureSet(
            nothing, tensors[f"judged.{when}"], labels, groups, names, tensors["judged.indices"]
        )
        for when in ("before", "after")
    )
    return Judged(before, after, how)


def _linear(tensors: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
    n_outputs, n_features = weight.shape
    layer = nn.utils.skip_init(
        nn.Linear, n_features, n_outputs, bias=bias is not None, dtype=weight.dtype
    )
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
