"""What callers of :class:`NeuronCounterfactual` give, checked and looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect._modules import as_layer
from captum_neuroinspect.attr._replay import channel_means
from captum_neuroinspect.attr._solving import Solver
from captum_neuroinspect.attr.fista import FISTA
from captum_neuroinspect.attr.reference import Reference
from captum_neuroinspect.attr.sgd import SGD


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


def usual_of_channels(
    reference: FeatureSet | Reference | Tensor | None, activation: Tensor, channel_dim: int | None
) -> FeatureSet | Reference | Tensor | None:
    """The reference, with one number a channel where whole channels change."""
    if channel_dim is None or not isinstance(reference, Tensor):
        return reference
    is_map = reference.ndim == activation.ndim > 2
    return channel_means(reference.detach(), channel_dim) if is_map else reference


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
