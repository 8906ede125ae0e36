"""Tiny nets and sets, and what "the model was left as it was" means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_neuroinspect import FeatureSet


class ConvNet(nn.Module):
    """A classifier with all that goes wrong in training mode: BatchNorm and dropout.

    Features are behind a ReLU (never negative) unless ``signed``. The head's weights
    are large enough for classes to differ on random pictures.
    """

    def __init__(self, n_classes: int = 4, *, signed: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.Identity() if signed else nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
        )
        self.head = nn.Linear(16, n_classes, bias=bias)
        with torch.no_grad():
            self.head.weight.mul_(4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def nudged(data: FeatureSet, by: float = 1e-5) -> FeatureSet:
    """The same samples a hair further on: others, that heads judge alike."""
    return replace(data, features=data.features + by)


class Listed(Dataset[Any]):
    """Items from a list."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Boom(RuntimeError):
    """The error that tests raise in the middle of things."""


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that a public function must leave alone: values, flags, gradients and hooks."""
    return {
        "state_dict": {name: value.clone() for name, value in model.state_dict().items()},
        "training": {name: module.training for name, module in model.named_modules()},
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "grad": {name: p.grad for name, p in model.named_parameters()},
        "hooks": {name: hooks_of(module) for name, module in model.named_modules()},
        "patched": [name for name, module in model.named_modules() if "forward" in vars(module)],
    }


def hooks_of(module: nn.Module) -> dict[str, dict[Any, Any]]:
    """Every hook dictionary of one module, forward, backward and state dict."""
    return {k: dict(v) for k, v in vars(module).items() if "hook" in k and isinstance(v, dict)}


def assert_unchanged(model: nn.Module, before: dict[str, Any]) -> None:
    """The model is, bit by bit, what :func:`state_of` saw."""
    after = state_of(model)
    assert after["state_dict"].keys() == before["state_dict"].keys()
    for name, value in before["state_dict"].items():
        assert torch.equal(_bits(after["state_dict"][name]), _bits(value)), f"{name} was changed"
    for what in ("training", "requires_grad", "grad", "hooks", "patched"):
        assert after[what] == before[what], f"{what} was changed"


def _bits(tensor: Tensor) -> Tensor:
    # As bytes: NaN equals itself, and 0 is not -0.
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@contextmanager
def left_unchanged(model: nn.Module):
    """Check on leaving the block, also by an exception, that the model is as before."""
    before = state_of(model)
    try:
        yield
    finally:
        assert_unchanged(model, before)


def linear(weight: Any, bias: Any = None) -> nn.Linear:
    """A decision layer with these values."""
    weight = torch.as_tensor(weight, dtype=torch.float32)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(torch.as_tensor(bias, dtype=torch.float32))
    return layer


def feature_set(
    head: nn.Linear, features: Tensor, labels: Any, groups: Tensor | None = None
) -> FeatureSet:
    """What ``collect_features`` would give for these features and this head."""
    with torch.no_grad():
        return FeatureSet(features, head(features), torch.as_tensor(labels), groups=groups)


def assert_same_set(one: FeatureSet, other: FeatureSet) -> None:
    """Equal bit by bit, in every field."""
    assert one.class_names == other.class_names
    assert one.group_names == other.group_names
    for name in ("features", "logits", "labels", "indices", "groups"):
        left, right = getattr(one, name), getattr(other, name)
        if left is None or right is None:
            assert left is right, name
        else:
            assert torch.equal(left, right), name
            assert left.dtype == right.dtype, name


class SmallEncoder:
    """An image-text encoder in three numbers."""

    def __init__(self) -> None:
        self.network = nn.Identity()

    def encode_image(self, images: Tensor) -> Tensor:
        return nn.functional.normalize(images.mean((2, 3)), dim=-1)

    def encode_text(self, texts: list[str]) -> Tensor:
        numbers = torch.tensor([[float(len(t)), t.count("a"), t.count("e")] for t in texts])
        return nn.functional.normalize(numbers, dim=-1)


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


# What callers switch on around a call for something else.
CONTEXTS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": float64,
}
