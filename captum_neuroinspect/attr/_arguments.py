"""What callers of :class:`NeuronCounterfactual` give, checked and looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.modules import as_layer
from captum_neuroinspect.attr._replay import Activations, channel_means
from captum_neuroinspect.attr._solving import Solver
from captum_neuroinspect.attr._tails import working_dtype
from captum_neuroinspect.attr._targets import with_both_classes
from captum_neuroinspect.attr.fista import FISTA
from captum_neuroinspect.attr.reference import Reference
from captum_neuroinspect.attr.sgd import SGD

Samples = FeatureSet | Reference | Tensor | tuple[Tensor, ...]


def find_layer(forward_func: Callable[..., Any], layer: nn.Module | str) -> nn.Module:
    """The layer that is meant, looked up by name where it is one."""
    if isinstance(layer, str) and not isinstance(forward_func, nn.Module):
        raise ValueError(
            f"layer={layer!r} is a name but forward_func is no module to look it up in: "
            "give the layer itself"
        )
    if isinstance(forward_func, nn.DataParallel):
        forward_func = forward_func.module
    if isinstance(forward_func, nn.Module):
        return as_layer(forward_func, layer)
    if not isinstance(layer, nn.Module):
        raise TypeError(f"layer is {type(layer).__name__}, expected a module")
    return layer


def usual_activations(
    reference: Samples | None, activations: Activations, channel_dims: tuple[int, ...] | None
) -> FeatureSet | Reference | Tensor | None:
    """The reference with one number for each number that changes.

    Raises:
        ValueError: when it has another number of tensors than the layer.
    """
    if not isinstance(reference, (Tensor, tuple)):
        return reference
    if isinstance(reference, Tensor) and len(activations) > 1:
        return reference  # joined as the changes are
    tensors = reference if isinstance(reference, tuple) else (reference,)
    if len(tensors) != len(activations):
        raise ValueError(
            f"reference has {len(tensors)} tensor(s), expected one for each of the layer's "
            f"{len(activations)}"
        )
    dims = channel_dims or (None,) * len(activations)
    parts = [_usual(*three) for three in zip(tensors, activations, dims, strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat([part.flatten(1) for part in parts], 1)


def _usual(usual: Tensor, activation: Tensor, channel_dim: int | None) -> Tensor:
    is_map = usual.ndim == activation.ndim > 2
    return (
        usual if channel_dim is None or not is_map else channel_means(usual.detach(), channel_dim)
    )


def head_in_working_dtype(head: nn.Linear, features: Tensor) -> tuple[Tensor, Tensor]:
    """W (C, F) and b (C,) as the descent takes them, beside the features; C = 2 for one output.

    Raises:
        ValueError: when they are not finite.
    """
    weight = head.weight.detach()
    dtype = working_dtype(weight, features)
    bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias.detach()
    for name, tensor in (("weight", weight), ("bias", bias)):
        if not tensor.isfinite().all():
            raise ValueError(f"the layer's {name} has NaN or infinite values")
    weight, bias = (t.to(features.device, dtype) for t in (weight, bias))
    # One output is the logit of class 1 against a 0 for class 0.
    return with_both_classes(weight.T).T, with_both_classes(bias[None])[0]


def find_solver(solver: str | Solver) -> Solver:
    """The solver that a name means, or the one that was given."""
    if isinstance(solver, str):
        if solver not in ("sgd", "fista"):
            raise ValueError(f"solver={solver!r}, expected 'sgd', 'fista', or SGD(...), FISTA(...)")
        return SGD() if solver == "sgd" else FISTA()
    return solver


def check_features(features: Any, layer: nn.Module) -> None:
    """Refuse what cannot be inputs of the layer."""
    if not isinstance(features, Tensor):
        raise TypeError(
            f"features are {type(features).__name__}, expected a tensor (N, F): "
            "of a FeatureSet, its `.features`"
        )
    expected = f"(N, {layer.in_features})" if isinstance(layer, nn.Linear) else "(N, ...)"
    fits = not isinstance(layer, nn.Linear) or (
        features.ndim == 2 and features.shape[1] == layer.in_features
    )
    if not fits or not features.ndim or not len(features):
        raise ValueError(
            f"features have shape {tuple(features.shape)}, expected {expected} "
            "with at least one sample"
        )
