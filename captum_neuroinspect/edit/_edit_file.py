"""Edits as files: both heads and the record in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect._files import write_atomically
from captum_neuroinspect.edit._candidates import Candidate
from captum_neuroinspect.edit._evaluation import Evaluation
from captum_neuroinspect.edit._mend_rounds import MendRound
from captum_neuroinspect.edit._selection import EpochRecord
from captum_neuroinspect.edit.judged import Judged
from captum_neuroinspect.edit.verdict import Verdict

if TYPE_CHECKING:
    from captum_neuroinspect.edit._result import HeadEdit

_HEADS = ("head", "original")
_RECORDS: dict[str, Any] = {
    "history": EpochRecord,
    "rounds": MendRound,
    "candidates": Candidate,
}
_PLAIN = (
    "scope",
    "strength",
    "link",
    "settings",
    "best_epoch",
    "class_names",
    "group_shares",
    "is_kept",
)


def save_edit(edit: HeadEdit, path: str | Path) -> Path:
    """Write an edit as one safetensors file with a record in JSON."""
    tensors = {
        f"{name}.{key}": value.cpu().contiguous()
        for name in _HEADS
        for key, value in getattr(edit, name).state_dict().items()
    }
    if edit.seen is not None:
        tensors["seen"] = edit.seen
    tensors |= _tensors_of(edit.judged)
    record: dict[str, Any] = {name: getattr(edit, name) for name in _PLAIN}
    record["verdict"] = edit.verdict.as_dict()
    record["judged"] = None if edit.judged is None else edit.judged.how
    # Pairs, because JSON's keys are text.
    record["targets"] = list(edit.targets.items())
    record["ratio"] = _plain_ratio(edit.ratio)
    record |= {name: asdict(getattr(edit, name)) for name in ("before", "after")}
    record |= {name: [asdict(one) for one in getattr(edit, name)] for name in _RECORDS}
    for candidate in record["candidates"]:
        candidate["ratio"] = _plain_ratio(candidate["ratio"])
    metadata = {"edit": json.dumps(record)}
    return write_atomically(path, lambda p: save_file(tensors, p, metadata=metadata))


def read_edit(path: str | Path) -> dict[str, Any]:
    """The fields of an edit that :func:`save_edit` wrote.

    Raises:
        ValueError: when the file holds something else.
    """
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        text = (file.metadata() or {}).get("edit")
    if text is None:
        raise ValueError(f"{path} is no saved edit: it has no record of one")
    record: dict[str, Any] = json.loads(text)
    record["targets"] = {target: tuple(neurons) for target, neurons in record["targets"]}
    record["ratio"] = _ratio(record["ratio"])
    for name in ("class_names", "group_shares"):
        record[name] = None if record[name] is None else tuple(record[name])
    for name in ("before", "after"):
        record[name] = Evaluation(**{k: _tupled(v) for k, v in record[name].items()})
    for name, kind in _RECORDS.items():
        # Files of before there were rounds and candidates have none.
        record[name] = tuple(kind(**_restored(one)) for one in record.get(name, ()))
    record["verdict"] = Verdict.from_dict(record["verdict"])
    record["seen"] = tensors.get("seen")
    record["judged"] = _judged(tensors, record["judged"], record["class_names"])
    return record | {name: _linear(tensors, name) for name in _HEADS}


def _tensors_of(judged: Judged | None) -> dict[str, Tensor]:
    if judged is None:
        return {}
    before = judged.before
    found = {"labels": before.labels, "indices": before.indices, "groups": before.groups}
    logits = {"before": before.logits, "after": judged.after.logits}
    # Copies, because safetensors refuses tensors that share memory.
    return {f"judged.{n}": t.clone() for n, t in (found | logits).items() if t is not None}


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


def _plain_ratio(value: Any) -> Any:
    return {"classes": list(value.items())} if isinstance(value, dict) else value


def _restored(record: dict[str, Any]) -> dict[str, Any]:
    return {n: _ratio(value) if n == "ratio" else _tupled(value) for n, value in record.items()}


def _ratio(value: Any) -> Any:
    if isinstance(value, dict):
        return {target: _tupled(of_class) for target, of_class in value["classes"]}
    return _tupled(value)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # JSON knows lists only


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
