"""A decision layer put into a model: found by its values, written, and seen to work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.weight_norm import WeightNorm

from captum_neuroinspect._core.head import head_tensors, why_not_linear
from captum_neuroinspect._core.head_watch import watched
from captum_neuroinspect._core.modules import as_input, as_layer, frozen, is_close, module_name
from captum_neuroinspect.edit.head_diff import same_values

_N_PROBED = 16
# A computed weight gives a value that is written into it back up to the last digits only.
_COMPUTED = 1e-6
_ADVICE = (
    "make it a plain weight first (torch.nn.utils.parametrize.remove_parametrizations(layer, "
    "'weight'), or the remove_ function of what computes it), and collect features again"
)
Undo = Callable[[], None]


def find_layer(
    model: nn.Module, head: nn.Linear, what: str, layer: nn.Module | str | None = None
) -> nn.Linear:
    """The linear layer of ``model`` with exactly these values.

    Args:
        model: where to look.
        head: the values.
        what: they are, in words.
        layer: which one, where several have them.

    Raises:
        TypeError: when ``layer`` is no linear layer.
        ValueError: when none or more than one has them, or ``layer`` has not.
    """
    with frozen(model):  # some layers change when their weight is asked for in training mode
        linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        same = {name: one for name, one in linears.items() if _has_values(one, head)}
    if layer is not None:
        chosen = as_layer(model, layer)
        if not isinstance(chosen, nn.Linear):
            raise TypeError(f"layer is {type(chosen).__name__}, expected nn.Linear")
        same = {name: one for name, one in same.items() if one is chosen}
    if len(same) != 1:
        names = f" ({', '.join(map(repr, same))}: give layer= one of them)" if same else ""
        place = f"layers of {type(model).__name__} have"
        if layer is not None:
            place = f"layers ({module_name(model, chosen)!r} is none) have"
        raise ValueError(f"{len(same)} {place} the weights of {what}{names}")
    (found,) = same.values()
    return found


def _has_values(layer: nn.Linear, head: nn.Linear) -> bool:
    if same_values(layer, head):
        return True
    if "weight" in layer._parameters or layer.weight.shape != head.weight.shape:
        return False
    pairs = zip(head_tensors(layer), head_tensors(head), strict=True)
    return all(is_close(one, other, _COMPUTED) for one, other in pairs)


def write_head(model: nn.Module, layer: nn.Linear, head: nn.Linear, example: Any = None) -> Undo:
    """Put the values of ``head`` into ``layer``, and see that the layer then computes them.

    What it computes is tried on random features, and, if there is an example, in the
    whole model.

    Args:
        model: that the layer is in.
        layer: a weight that is computed from others (weight norm, a parametrization) is
            written through them, where they allow it.
        head: the values.
        example: one batch as the model takes it, or ``None``.

    Returns:
        A function that puts back, bit by bit, what was there.

    Raises:
        ValueError: when the head has a bias that the layer has no place for, or the weight
            is shared with another layer, or computed in a way that cannot be written.
        RuntimeError: when the layer or the model computes something else afterwards; what
            was there is back then.
    """
    if layer.bias is None and head.bias is not None and head.bias.any():
        raise ValueError("the model's decision layer has no bias but the edited one has")
    _check_alone(model, layer)
    with frozen(model), torch.no_grad():
        before = None if example is None else _features(model, layer, example)
        undo = _remembered(layer)
        try:
            _write(layer, "weight", head.weight.detach())
            if layer.bias is not None:
                bias = torch.zeros(head.out_features) if head.bias is None else head.bias.detach()
                _write(layer, "bias", bias)
            _check_layer(model, layer, head)
            if before is not None:
                _check_model(model, layer, head, example, before)
        except BaseException:
            undo()
            raise
    return undo


@contextmanager
def used_once(model: nn.Module, layer: nn.Linear) -> Iterator[None]:
    """Warn, once, when a pass of the model inside the block runs the layer more than once.

    Without an example nothing else tells: the values are right, and the layer serves for more
    than the logits.
    """
    if model is layer:
        yield
        return
    n_calls = 0

    def begins(*_: object) -> None:
        nonlocal n_calls
        n_calls = 0

    def called(*_: object) -> None:
        nonlocal n_calls
        n_calls += 1

    def ended(*_: object) -> None:
        if n_calls < 2:
            return
        warnings.warn(
            f"{type(model).__name__} runs layer {module_name(model, layer)!r}, which has the "
            f"edited head, {n_calls} times in one pass: its logits may be others than the edit's. "
            "applied(model, example=...) compares them",
            stacklevel=2,
        )
        for handle in handles:
            handle.remove()

    handles = [
        model.register_forward_pre_hook(begins),
        layer.register_forward_hook(called),
        model.register_forward_hook(ended),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_alone(model: nn.Module, layer: nn.Linear) -> None:
    """Refuse a layer that shares a tensor with another: the edit would change both."""
    own = {p.data_ptr() for p in layer.parameters() if p.numel()}
    inner = set(layer.modules())
    for name, other in model.named_modules():
        if other in inner:
            continue
        for tensor_name, tensor in other.named_parameters(recurse=False):
            if tensor.numel() and tensor.data_ptr() in own:
                mine, full = module_name(model, layer), f"{name}.{tensor_name}".lstrip(".")
                raise ValueError(
                    f"layer {mine!r} shares its weights with {full!r}, which an edit would change "
                    f"too: give it its own first (model.{mine}.{tensor_name} = "
                    f"torch.nn.Parameter(model.{mine}.{tensor_name}.detach().clone()))"
                )


def _remembered(layer: nn.Linear) -> Undo:
    kept = [(p, p.detach().clone()) for p in (*layer.parameters(), *layer.buffers())]

    def undo() -> None:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)
            for hook in _weight_norms(layer):
                hook(layer, None)  # the weight that it has made before each pass

    return undo


def _write(layer: nn.Linear, name: str, value: Tensor) -> None:
    old = layer._parameters.get(name)
    if old is not None:
        old.copy_(value)
        return
    value = value.to(getattr(layer, name), copy=True)
    hook = next((hook for hook in _weight_norms(layer) if hook.name == name), None)
    if hook is not None:
        getattr(layer, f"{name}_v").copy_(value)
        getattr(layer, f"{name}_g").copy_(torch.norm_except_dim(value, 2, hook.dim))
        hook(layer, None)
    elif is_parametrized(layer, name):
        _write_parametrized(layer, name, value)
    else:
        raise ValueError(f"the layer's {name} is computed{_how(layer)}: {_ADVICE}")


def _write_parametrized(layer: nn.Linear, name: str, value: Tensor) -> None:
    try:
        setattr(layer, name, value)  # through the inverse of each parametrization
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"the layer's {name} is computed{_how(layer)}, which takes no value ({error}): "
            f"{_ADVICE}"
        ) from error


def _how(layer: nn.Linear) -> str:
    """By what a weight is computed, in words."""
    kinds = [type(hook).__name__ for hook in layer._forward_pre_hooks.values()]
    for parametrizations in getattr(layer, "parametrizations", {}).values():
        kinds += [type(one).__name__ for one in parametrizations]
    return f" by {', '.join(kinds)}" if kinds else ""


def _weight_norms(layer: nn.Linear) -> list[WeightNorm]:
    """The hooks of ``torch.nn.utils.weight_norm``."""
    return [h for h in layer._forward_pre_hooks.values() if isinstance(h, WeightNorm)]


def _check_layer(model: nn.Module, layer: nn.Linear, head: nn.Linear) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(_N_PROBED, head.in_features, generator=generator)
    own = next(layer.parameters())
    given = features.to(own.device, own.dtype)
    output = layer(given)
    if is_close(output, _wanted(head, given)):
        return
    reason = why_not_linear(layer, given, output)
    if reason is None:
        reason = f"its weight is computed{_how(layer)}, which does not keep the value: {_ADVICE}"
    raise RuntimeError(
        f"layer {module_name(model, layer)!r} computes something else than the edit that was "
        f"written into it; what was there is back. Why: {reason}"
    )


def _features(model: nn.Module, layer: nn.Linear, example: Any) -> Tensor:
    with watched(model, layer) as watch:
        model(as_input(model, example))
        return watch.features


def _check_model(
    model: nn.Module, layer: nn.Linear, head: nn.Linear, example: Any, before: Tensor
) -> None:
    name = module_name(model, layer)
    with watched(model, layer) as watch:
        output = model(as_input(model, example))
        if not is_close(watch.features, before):
            raise RuntimeError(
                f"writing the edit into {name!r} changed its own inputs: the model uses the same "
                "weights elsewhere. What was there is back"
            )
        if not is_close(_wanted(head, before), watch.logits(output)):
            raise RuntimeError(
                f"{type(model).__name__} returns other logits than the edit after it was written "
                f"into {name!r}: what was there is back"
            )


def _wanted(head: nn.Linear, features: Tensor) -> Tensor:
    weight = head.weight.detach().to(features)
    return F.linear(
        features, weight, None if head.bias is None else head.bias.detach().to(features)
    )
