"""What an edit is: two heads, their results, and ways to use the new one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect._files import write_atomically
from captum_neuroinspect._head import head_tensors
from captum_neuroinspect.edit._training import EpochRecord, Scope
from captum_neuroinspect.edit.probability_ratio import single_ratios


@dataclass(frozen=True)
class Evaluation:
    """How a head does on a data set.

    Attributes:
        accuracy: share of right predictions, 0..1.
        class_accuracy: the same for each class; NaN for an absent class.
        group_accuracy: for each group, or ``None`` without group labels.
        ratios: probability ratio of each edited neuron by itself, at the mean
            features of the target class (NaN when that class is absent).
    """

    accuracy: float
    class_accuracy: tuple[float, ...]
    group_accuracy: tuple[float, ...] | None
    ratios: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class HeadEdit:
    """An edited decision layer, with the original and what the edit changed.

    Attributes:
        head: the edited layer.
        original: a copy of the layer before.
        target: class that was mended.
        neurons: the features whose influence was constrained.
        scope: what was allowed to change.
        strength: lambda3.
        ratio: ``o``.
        before: the original's results on the validation set.
        after: the edited head's.
        history: one record an epoch.
        best_epoch: the epoch whose head was kept.
    """

    head: nn.Linear
    original: nn.Linear
    target: int
    neurons: tuple[int, ...]
    scope: Scope
    strength: float
    ratio: float
    before: Evaluation
    after: Evaluation
    history: tuple[EpochRecord, ...]
    best_epoch: int

    def evaluate(self, features: FeatureSet) -> tuple[Evaluation, Evaluation]:
        """Results of the original and of the edited head on other data."""
        neurons = torch.tensor(self.neurons)
        before, after = (
            evaluate(*head_tensors(head), features, neurons, self.target)
            for head in (self.original, self.head)
        )
        return before, after

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Put the edited head into ``model`` inside the block, and take it out again.

        The layer is found by its values: the one ``nn.Linear`` of the model with
        exactly the original's weights.

        Raises:
            ValueError: when no layer of the model, or more than one, has the
                original's weights.
        """
        layer = _find_layer(model, self.original)
        kept = [p.detach().clone() for p in layer.parameters()]
        try:
            _copy_into(layer, self.head)
            yield model
        finally:
            with torch.no_grad():
                for parameter, value in zip(layer.parameters(), kept, strict=True):
                    parameter.copy_(value)

    def save(self, path: str | Path) -> Path:
        """Write both heads and the record of the edit as one safetensors file."""
        tensors = {
            f"{name}.{key}": value.contiguous()
            for name in ("head", "original")
            for key, value in getattr(self, name).state_dict().items()
        }
        record = {
            name: getattr(self, name)
            for name in ("target", "neurons", "scope", "strength", "ratio", "best_epoch")
        }
        record |= {name: asdict(getattr(self, name)) for name in ("before", "after")}
        record["history"] = [asdict(epoch) for epoch in self.history]
        metadata = {"edit": json.dumps(record)}
        return write_atomically(path, lambda p: save_file(tensors, p, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path) -> HeadEdit:
        """Read what :meth:`save` wrote."""
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            record = json.loads(file.metadata()["edit"])
        record["neurons"] = tuple(record["neurons"])
        record["before"] = _evaluation(record["before"])
        record["after"] = _evaluation(record["after"])
        record["history"] = tuple(EpochRecord(**epoch) for epoch in record["history"])
        record |= {name: _linear(tensors, name) for name in ("head", "original")}
        return cls(**record)


def evaluate(
    weight: Tensor, bias: Tensor, features: FeatureSet, neurons: Tensor, target: int
) -> Evaluation:
    """Judge the head (weight, bias) on collected features."""
    judged = features.with_head(_module(weight, bias))
    mean = features.features[features.labels == target].mean(0)
    groups = None if judged.groups is None else tuple(judged.group_accuracy().tolist())
    return Evaluation(
        accuracy=judged.accuracy(),
        class_accuracy=tuple(judged.class_accuracy().tolist()),
        group_accuracy=groups,
        ratios=tuple(single_ratios(weight, bias, mean, neurons, target).tolist()),
    )


def linear_like(head: nn.Linear, weight: Tensor, bias: Tensor) -> nn.Linear:
    """A new layer with these values on the device and in the dtype of ``head``."""
    return _module(weight, bias).to(head.weight.device, head.weight.dtype)


def _module(weight: Tensor, bias: Tensor) -> nn.Linear:
    n_classes, n_features = weight.shape
    layer = nn.utils.skip_init(nn.Linear, n_features, n_classes)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _linear(tensors: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    return _module(weight, bias).to(weight.dtype)


def _evaluation(record: dict[str, Any]) -> Evaluation:
    # JSON knows lists only.
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return Evaluation(**values)


def _find_layer(model: nn.Module, original: nn.Linear) -> nn.Linear:
    same = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and _equal(module, original)
    ]
    if len(same) != 1:
        raise ValueError(
            f"{len(same)} layers of {type(model).__name__} have the weights of the head that was "
            "edited, expected exactly one: the edit belongs to another model, or is applied already"
        )
    return same[0]


def _equal(layer: nn.Linear, original: nn.Linear) -> bool:
    if layer.weight.shape != original.weight.shape:
        return False
    ours, theirs = head_tensors(original), head_tensors(layer)
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _copy_into(layer: nn.Linear, head: nn.Linear) -> None:
    if layer.bias is None and head.bias.any():
        raise ValueError(
            "the model's decision layer has no bias but the edited one has: "
            "give the layer a bias, or edit with scope='neurons'"
        )
    with torch.no_grad():
        layer.weight.copy_(head.weight)
        if layer.bias is not None:
            layer.bias.copy_(head.bias)
