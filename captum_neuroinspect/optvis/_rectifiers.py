"""Rectifiers as PyTorch calls them, in one form, and what redirects their gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_neuroinspect._core.modules import Captured, first_tensor

_INFINITY = float("inf")
# Below these GELU and SiLU are 0 to about 1e-6, the size at which a neuron counts as silent.
_GELU_CLOSED, _SILU_CLOSED = -5.0, -16.0

Revive = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]


class Rectifier(NamedTuple):
    """One call of a rectifier.

    Attributes:
        input: what it is called on.
        low: the rectifier is closed at and below this value,
        high: and at and above this one.
        inplace: it overwrites its input.
        forward: input -> output.
        backward: ``(gradient, kept) -> gradient`` of the input, where ``kept`` is
        keeps_output: the output, else the input.
    """

    input: Tensor
    low: float
    high: float
    inplace: bool
    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    keeps_output: bool = False

    def redirected(self, revive: Revive) -> Tensor:
        """The output; in the backward pass ``revive`` has the last word on the gradient."""
        output = _Redirected.apply(self.input, self, revive)
        return self.input.copy_(output) if self.inplace else output


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, call: Rectifier, revive: Revive) -> Tensor:
        output = call.forward(value)
        # Not the whole call: its input would be kept alive by it, unseen by autograd.
        ctx.low, ctx.high, ctx.backward, ctx.revive = call.low, call.high, call.backward, revive
        # A copy where the call is in place: it overwrites `value`, which gives the slope.
        kept = output if call.keeps_output else value.clone() if call.inplace else value
        ctx.save_for_backward(kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (kept,) = ctx.saved_tensors
        true = ctx.backward(gradient, kept)
        return ctx.revive(true, gradient, kept, ctx.low, ctx.high), None, None


def rectifier(func: Any, args: Any, kwargs: Any) -> Rectifier | None:
    """The call ``func(*args, **kwargs)`` if it is that of a rectifier."""
    if func not in _CALLS or "out" in kwargs:
        return None
    return _CALLS[func](*args, **kwargs)


def _clamp(input: Tensor, low: float, high: float, inplace: bool) -> Rectifier:
    def backward(gradient: Tensor, output: Tensor) -> Tensor:
        return gradient * ((output > low) & (output < high))

    forward = partial(torch.clamp, min=low, max=high)
    # The output says as much as the input and is kept by the next layer anyway.
    return Rectifier(input, low, high, inplace, forward, backward, keeps_output=True)


def _relu(input: Tensor, inplace: bool = False) -> Rectifier:
    return _clamp(input, 0.0, _INFINITY, inplace)


def _relu6(input: Tensor, inplace: bool = False) -> Rectifier:
    return _clamp(input, 0.0, 6.0, inplace)


def _hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Rectifier:
    return _clamp(input, min_val, max_val, inplace)


def _clamp_call(
    input: Tensor, min: Any = None, max: Any = None, inplace: bool = False
) -> Rectifier | None:
    """``clamp`` is a rectifier when it cuts at zero; other bounds keep numbers in order."""
    high = _INFINITY if max is None else max
    if not (isinstance(min, (int, float)) and min == 0 and isinstance(high, (int, float))):
        return None
    return _clamp(input, 0.0, float(high), inplace) if high > 0 else None


def _hardswish(input: Tensor, inplace: bool = False) -> Rectifier:
    backward = torch.ops.aten.hardswish_backward
    return Rectifier(input, -3.0, _INFINITY, inplace, F.hardswish, backward)


def _silu(input: Tensor, inplace: bool = False) -> Rectifier:
    backward = torch.ops.aten.silu_backward
    return Rectifier(input, _SILU_CLOSED, _INFINITY, inplace, F.silu, backward)


def _gelu(input: Tensor, approximate: str = "none") -> Rectifier:
    forward = partial(F.gelu, approximate=approximate)
    backward = partial(torch.ops.aten.gelu_backward, approximate=approximate)
    return Rectifier(input, _GELU_CLOSED, _INFINITY, False, forward, backward)


# nn.ReLU6 calls hardtanh in new versions of PyTorch and relu6 in old ones.
_CALLS: dict[Any, Callable[..., Rectifier | None]] = {
    F.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
    torch.relu_: partial(_relu, inplace=True),
    Tensor.relu_: partial(_relu, inplace=True),
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.hardtanh_: partial(_hardtanh, inplace=True),
    F.hardswish: _hardswish,
    F.silu: _silu,
    F.gelu: _gelu,
    **dict.fromkeys([torch.clamp, torch.clip, torch.clamp_min], _clamp_call),
    **dict.fromkeys([Tensor.clamp, Tensor.clip, Tensor.clamp_min], _clamp_call),
    **dict.fromkeys(
        [torch.clamp_, torch.clip_, torch.clamp_min_], partial(_clamp_call, inplace=True)
    ),
    **dict.fromkeys(
        [Tensor.clamp_, Tensor.clip_, Tensor.clamp_min_], partial(_clamp_call, inplace=True)
    ),
}


@contextmanager
def captured_before_rectifier(module: nn.Module) -> Iterator[Captured]:
    """Read a module's output as it is before the rectifier that it ends in.

    Where it ends in something else, or in a scripted one: its output.

    Examples::

        >>> layer = nn.Sequential(nn.Identity(), nn.ReLU6())
        >>> with captured_before_rectifier(layer) as before:
        ...     _ = layer(torch.tensor([-1.0, 7.0]))
        ...     before.value
        tensor([-1.,  7.])
    """
    captured = Captured()

    def read(_: nn.Module, __: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None:
            captured.store(last.input if tensor is last.output else tensor)

    with _LastRectifier() as last:
        handle = module.register_forward_hook(read)
        try:
            yield captured
        finally:
            handle.remove()
            captured.clear()


class _LastRectifier(TorchFunctionMode):
    """Keeps what the last rectifier took and gave."""

    def __init__(self) -> None:
        super().__init__()
        self.input = self.output = torch.empty(0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = rectifier(func, args, kwargs or {})
        if call is None:
            return func(*args, **(kwargs or {}))
        self.input = call.input.clone() if call.inplace else call.input
        self.output = func(*args, **(kwargs or {}))
        return self.output
