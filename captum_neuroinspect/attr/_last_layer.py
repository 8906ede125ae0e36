"""Whether a network returns what a linear layer gives: by its operations, not by its numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.exclusive import exclusive_layer, is_of_another_call
from captum_neuroinspect._core.modules import logits_of

# Operations that leave numbers and their order as they are; the shape is compared besides.
_KEEPING = frozenset(
    f"{name}Backward{number}"
    for name in ("Alias", "Clone", "ToCopy", "View", "UnsafeView", "Squeeze", "Unsqueeze")
    for number in (0, 1)
)
_SOFTMAX = frozenset(("SoftmaxBackward0", "LogSoftmaxBackward0"))


def is_plain_linear(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a layer computes ``W z + b``: a subclass may normalise, a hook may scale."""
    changes = "forward" in vars(layer) or layer._forward_hooks or layer._forward_pre_hooks
    return isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward and not changes


class LastLayer:
    """Follows the output of a linear layer to the end of a network; :func:`followed` makes it."""

    def __init__(self) -> None:
        self._owner = threading.get_ident()
        self._output: Tensor | None = None
        self._node: Any = None  # what made the output, before anything works on it in place
        self._version = 0

    def mark(self, _: nn.Module, __: Any, output: Tensor) -> Tensor | None:
        """A forward hook: from here on autograd notes what is done with the output."""
        if torch.is_inference_mode_enabled() or is_of_another_call(self._owner):
            return None  # where nothing is noted
        torch.set_grad_enabled(True)
        self._output = output.detach().requires_grad_().clone()
        self._node, self._version = self._output.grad_fn, self._output._version
        return self._output

    def leads_to(self, output: Any) -> bool:
        """Whether a network that returned this returned the layer's logits or probabilities."""
        marked, node = self._output, self._node
        if marked is None:
            return False
        logits = logits_of(output)
        is_itself = marked._version == self._version and _is_same(logits, marked)
        has_shape = logits.shape == marked.shape
        return is_itself or (has_shape and _leads_back(logits.grad_fn, node))


@contextmanager
def followed(layer: nn.Module) -> Iterator[LastLayer]:
    """Follow the output of ``layer`` in the one forward pass of the block."""
    last = LastLayer()
    if not is_plain_linear(layer):
        yield last
        return
    with exclusive_layer(layer):
        handle = layer.register_forward_hook(last.mark)
        try:
            with torch.no_grad():  # which also ends what the mark begins
                yield last
        finally:
            handle.remove()


def _is_same(one: Tensor, other: Tensor) -> bool:
    return (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
    )


def _leads_back(node: Any, start: Any) -> bool:
    """Whether nothing but copies, and one softmax or sigmoid, lies between."""
    is_probability = False
    while node is not None and node is not start:
        if node.name() not in _KEEPING:
            if is_probability or not _makes_probabilities(node):
                return False
            is_probability = True
        node = node.next_functions[0][0]
    return node is not None


def _makes_probabilities(node: Any) -> bool:
    """A softmax over the classes, or the sigmoid of a single output."""
    if node.name() not in (*_SOFTMAX, "SigmoidBackward0"):
        return False
    result = node._saved_result
    if node.name() in _SOFTMAX:
        return result.ndim == 2 and node._saved_dim % 2**64 in (1, 2**64 - 1)
    return result.ndim < 2 or result.shape[1] == 1
