"""Batch normalisations that become part of the convolution before them.

In eval mode a normalisation multiplies and shifts each channel by constants, which a
convolution can do itself. It saves a pass over the activations forwards and one backwards: a
third of the time where convolutions are depthwise and cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from captum_neuroinspect._core.sites import Site
from captum_neuroinspect.optvis._shortcuts.swaps import Swaps

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


def fold_batch_norms(
    network: nn.Module, run: Callable[[], Any], keep: Collection[nn.Module], changes: Swaps
) -> None:
    """Fold each normalisation that follows a convolution.

    Args:
        network: in eval mode.
        run: a forward pass, to see what follows what.
        keep: modules whose outputs are read and must stay what they are.
        changes: keeps what is changed.
    """
    for conv, norm in _neighbours(network, run):
        if conv in keep or not _can_fold(conv, norm):
            continue
        weight, bias = _folded(conv, norm)
        changes.parameter(conv, "weight", weight)
        changes.parameter(conv, "bias", bias)
        changes.forward(norm, _rest_of(norm))


def _neighbours(network: nn.Module, run: Callable[[], Any]) -> list[Pair]:
    """Convolutions and the normalisations that take their outputs, each run once."""
    outputs: dict[nn.Module, list[Tensor]] = {}
    inputs: dict[nn.Module, list[Tensor]] = {}
    with ExitStack() as stack, torch.no_grad():
        for module in network.modules():
            # `Module` hashes by identity, and a module that is shared is listed once.
            if isinstance(module, nn.Conv2d):
                seen = outputs.setdefault(module, [])
                stack.enter_context(Site(module, at_input=False).visited(seen.append))
            elif isinstance(module, nn.BatchNorm2d):
                seen = inputs.setdefault(module, [])
                stack.enter_context(Site(module, at_input=True).visited(seen.append))
        run()
    maker = {id(tensors[0]): conv for conv, tensors in outputs.items() if len(tensors) == 1}
    taken = {norm: tensors[0] for norm, tensors in inputs.items() if len(tensors) == 1}
    return [
        (maker[id(tensor)], norm)  # type: ignore[misc]
        for norm, tensor in taken.items()
        if id(tensor) in maker
    ]


def _can_fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    # A weight that is computed from others is no parameter, and cannot be replaced.
    has_weight = "weight" in dict(conv.named_parameters(recurse=False))
    return has_weight and norm.running_mean is not None and norm.running_var is not None


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None  # `_can_fold` has seen to it
    assert norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps,
        norm.weight, norm.bias,
    )  # fmt: skip
    return weight.detach(), bias.detach()


def _rest_of(norm: nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    """What a normalisation does besides: timm has one that ends with an activation."""
    steps = [getattr(norm, name, None) for name in ("drop", "act")]
    return partial(_in_turn, [step for step in steps if isinstance(step, nn.Module)])


def _in_turn(steps: list[nn.Module], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x
