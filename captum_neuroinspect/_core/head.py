"""The decision layer of a classifier, found by what it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.modules import (
    as_input,
    first_tensor,
    frozen,
    is_close,
    logits_of,
    module_name,
    tensors_in,
)
from captum_neuroinspect._core.sites import Site

WITHOUT_HEAD = (
    "Without a decision layer, layer= works: render_illusions, NeuronCounterfactual, "
    "neuron_saliency and NeuroInspect(model, layer=...).visualize take any layer."
)

SQUEEZED = (
    "One has a single output, which the model returns without its dimension of classes: give a "
    "model that returns (N, 1), without squeeze or flatten"
)


def find_head(model: nn.Module, example: Any) -> nn.Linear:
    """Find the decision layer: the ``nn.Linear`` whose output *is* the model's output.

    The model runs once on ``example``. Every linear layer whose output equals the
    logits, value by value, is a candidate; the one that ran last is the head. So
    names do not matter, and a layer that is followed by a softmax, a scale or
    another layer is never mistaken for the head.

    Args:
        model: a classifier that returns logits ``(N, C)``, or an object with
            ``.logits`` (Hugging Face). Of a tuple the first tensor counts.
        example: one batch as the model takes it, such as ``(1, 3, 224, 224)``; it is
            brought to the model's device and dtype.

    Returns:
        The decision layer, a submodule of ``model``.

    Raises:
        ValueError: when no linear layer computes the model's output, several decide about
            different things, a hook or subclass computes something else than the layer's
            weights say, the output has NaN, or layers are not initialised.
        TypeError: when the model returns no logits.

    Examples::

        >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
        >>> find_head(model, torch.zeros(1, 8)) is model[2]
        True
    """
    check_initialised(model)
    example = as_input(model, example)
    with frozen(model), torch.no_grad():
        output, calls = _linear_calls(model, example)
        logits = logits_of(output)
        if logits.isnan().any():  # NaN equals nothing: every layer would look innocent
            raise ValueError(
                f"the logits of {type(model).__name__} are NaN: look for NaN in its weights "
                "or in the example"
            )
        found = next((call for call in reversed(calls) if call.gave(logits)), None)
        if found is None:
            raise ValueError(no_head_message(model, logits, calls))
        _check_found(model, example, found, output, calls)
    return check_head(found.layer)


class LinearCall(NamedTuple):
    """One call of a linear layer in a pass, with copies of what it took and gave."""

    layer: nn.Linear
    input: Tensor | None
    output: Tensor | None

    def gave(self, value: Tensor) -> bool:
        if self.output is None or self.output.shape != value.shape:
            return False
        # Models in half precision often return their logits in float32.
        return torch.equal(self.output.to(value.dtype), value)


def _linear_calls(model: nn.Module, example: Any) -> tuple[Any, list[LinearCall]]:
    """Run a model once: what it returned, and the calls of its linear layers."""
    calls: list[LinearCall] = []

    def called(module: nn.Module, args: Any, output: Any) -> None:
        assert isinstance(module, nn.Linear)
        # Copies: a later in-place operation must not look like the head's work.
        calls.append(LinearCall(module, _copy(args), _copy(output)))

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                hooks.callback(module.register_forward_hook(called).remove)
        return model(example), calls


def _check_found(
    model: nn.Module, example: Any, found: LinearCall, output: Any, calls: list[LinearCall]
) -> None:
    name = module_name(model, found.layer)
    assert found.output is not None  # it equals the logits
    reason = found.input is not None and why_not_linear(found.layer, found.input, found.output)
    if reason:
        raise ValueError(
            f"the decision layer {name!r} of {type(model).__name__}: {reason}. {WITHOUT_HEAD}"
        )
    _check_rivals(model, example, found, output, calls)


def check_one_answer(model: nn.Module, example: Any) -> None:
    """Refuse a model that returns the outputs of several decision layers: which counts?

    Raises:
        ValueError: names two of them.
    """
    example = as_input(model, example)
    with frozen(model), torch.no_grad():
        output, calls = _linear_calls(model, example)
        logits = logits_of(output)
        found = next((call for call in reversed(calls) if call.gave(logits)), None)
        if found is not None:
            _check_rivals(model, example, found, output, calls)


def _check_rivals(
    model: nn.Module, example: Any, found: LinearCall, output: Any, calls: list[LinearCall]
) -> None:
    name = module_name(model, found.layer)
    others = [call.layer for call in calls if _is_returned(call, output, found)]
    for other in dict.fromkeys(others):
        if other is not found.layer and not _feeds(model, example, other, found):
            raise ValueError(
                f"{type(model).__name__} returns several outputs that linear layers compute "
                f"({name!r} and {module_name(model, other)!r}), which decide about different "
                "things: give head= the layer that is meant"
            )


def _is_returned(call: LinearCall, output: Any, found: LinearCall) -> bool:
    """Whether a call made an output beside the one that counts."""
    if getattr(output, "logits", None) is not None or isinstance(output, Mapping):
        return False  # the model itself says which are the logits
    return any(call.gave(tensor) and not found.gave(tensor) for tensor in tensors_in(output))


def _feeds(model: nn.Module, example: Any, layer: nn.Linear, found: LinearCall) -> bool:
    """Whether the logits change with a layer's output: it is an inner layer, not a rival."""
    with Site(layer, at_input=False).visited(lambda output: output + 1):
        return not found.gave(logits_of(model(example)))


def _copy(value: Any) -> Tensor | None:
    tensor = first_tensor(value)
    return None if tensor is None else tensor.clone()


def no_head_message(model: nn.Module, logits: Tensor, calls: Sequence[LinearCall]) -> str:
    """Why none of the linear layers that ran is the decision layer."""
    message = (
        f"no linear decision layer found in {type(model).__name__}: none of its "
        f"{len(calls)} nn.Linear calls computes the output of shape {tuple(logits.shape)}. "
    )
    if any(c.output is not None and is_squeezed(c.output, logits) for c in calls):
        return message + SQUEEZED
    alike = [c for c in calls if c.output is not None and c.output.shape == logits.shape]
    # From the last calls on: those before belong to the backbone.
    averaged = next((n for n in range(2, len(alike) + 1) if _are_added(alike[-n:], logits)), 0)
    if averaged:
        names = dict.fromkeys(module_name(model, call.layer) for call in alike[-averaged:])
        return message + (
            f"Averaging: {averaged} outputs ({', '.join(map(repr, names))}) are averaged or "
            "added, so something changes its output before the model returns it, and no single "
            f"layer decides. {WITHOUT_HEAD}"
        )
    if alike:
        return message + (
            "One has that shape, but something changes its output before the model returns it "
            "(a softmax, a scale, an adapter): give a model that returns the linear layer's "
            f"logits, or the layer as head= where only a softmax follows. {WITHOUT_HEAD}"
        )
    kinds = sorted({_kind(module) for module in model.modules() if _is_quantized(module)})
    if kinds:
        return message + (
            f"It has quantised layers ({', '.join(kinds)}), whose weights cannot be read as an "
            "nn.Linear: give the model as it was before it was quantised."
        )
    return message + (
        "The decision layer must be an nn.Linear on features (N, F), "
        f"not a convolution or a prototype distance. {WITHOUT_HEAD}"
    )


def is_squeezed(output: Tensor, returned: Tensor) -> bool:
    """Whether a model returned a single output as ``(N,)`` or a number instead of ``(N, 1)``."""
    is_single = output.ndim == 2 and output.shape[1] == 1
    return is_single and returned.ndim < 2 and returned.numel() == output.numel()


def _are_added(calls: Sequence[LinearCall], logits: Tensor) -> bool:
    total = torch.stack([c.output for c in calls if c.output is not None]).sum(0)
    return is_close(total / len(calls), logits) or is_close(total, logits)


def _is_quantized(module: nn.Module) -> bool:
    return ".quantized" in type(module).__module__


def _kind(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def why_not_linear(layer: nn.Linear, features: Tensor, output: Tensor) -> str | None:
    """Why a layer's output is not what its weight and bias make of its input; ``None``: it is.

    Args:
        layer: a linear layer by its class.
        features: what it took.
        output: what it gave, behind all hooks.
    """
    weight, bias = layer.weight, layer.bias
    if features.shape[-1:] == weight.shape[1:] and is_close(
        F.linear(features.to(weight.dtype), weight, bias), output
    ):
        return None
    if type(layer) is not nn.Linear and not is_parametrized(layer):
        cause = f"its class {_kind(layer)} computes something else"
    elif "forward" in vars(layer):
        cause = "its forward was replaced"
    else:
        cause = "a hook changes what it takes or gives"
    return (
        f"its output is not its weight times its input plus its bias ({cause}), so neither "
        "neurons nor edits can be read off its weight"
    )


def check_head(head: Any) -> nn.Linear:
    """Return ``head`` if it is a linear layer, else say what was expected.

    Raises:
        TypeError: when ``head`` is no ``nn.Linear``, or holds codes instead of numbers.
        ValueError: when it is not initialised.
    """
    if not isinstance(head, nn.Linear):
        raise TypeError(
            f"head is {_kind(head) if _is_quantized(head) else type(head).__name__}, expected "
            "nn.Linear: the decision layer that turns features (N, F) into logits (N, C)"
        )
    check_initialised(head)
    weights = list(head.parameters())  # not `.weight`, which some compute when asked
    if not all(w.is_floating_point() and w.dtype.itemsize > 1 for w in weights):
        raise TypeError(
            f"head is a quantised {_kind(head)}, whose weights are {weights[0].dtype}, expected "
            "floating point: give the model as it was before it was quantised"
        )
    return head


def check_initialised(model: nn.Module) -> None:
    """Refuse a model with lazy layers that have no weights yet.

    Raises:
        ValueError: names the first.
    """
    for name, module in model.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(map(is_lazy, own)):
            place = f"layer {name!r}" if name else "it"
            raise ValueError(
                f"{type(model).__name__} has no weights yet, as {place} is a "
                f"{type(module).__name__}: run the model once, on a batch as it takes it"
            )


def head_tensors(head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Detached float32 copies of W (C, F) and b (C,) on the CPU; b is zero when absent."""
    with exclusive(head):  # another thread may try an edit in it
        weight = head.weight.detach().to("cpu", torch.float32, copy=True)
        if head.bias is None:
            return weight, torch.zeros(len(weight))
        return weight, head.bias.detach().to("cpu", torch.float32, copy=True)


def head_values(head: nn.Linear) -> tuple[Tensor, Tensor]:
    """:func:`head_tensors` to read only: the layer's own memory where it is float32 on the CPU."""
    weight = head.weight.detach().to("cpu", torch.float32)
    if head.bias is None:
        return weight, torch.zeros(len(weight))
    return weight, head.bias.detach().to("cpu", torch.float32)
