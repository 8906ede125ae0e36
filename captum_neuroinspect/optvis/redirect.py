"""A way out for neurons that a rectifier has switched off.

A neuron whose rectifier is closed on the whole first image sends no gradient back,
and its image stays grey. Lucid (Olah et al.) redirects the gradient of such
rectifiers; here this is a mode of PyTorch, so that no model is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_INFINITY = float("inf")


class RedirectedReLU(TorchFunctionMode):
    """Let gradients pass rectifiers that block a whole image.

    Inside the ``with`` block ReLU, ReLU6, Hardtanh and Hardswish return the same
    values. In the backward pass, where a rectifier lets nothing of an image's
    gradient through, the incoming gradient takes its place wherever it would bring
    a value back: raise one below the range, or lower one above it. As in Lucid,
    nothing changes as long as anything gets through: redirecting every closed
    channel of every layer pushes most neurons away from their image.

    A loss with a class term always gets something through the last rectifier, by
    way of other channels. So one channel per image may be named in ``channels``
    that is redirected by itself when it is closed.

    No hook is used and no module is changed; scripted modules (``torch.jit``) are
    not reached.

    Args:
        images: which images of the batch are helped, bool of shape ``(N,)``;
            ``None``: all. Tensors with another first dimension are left alone.
        channels: a channel for each image, int64 of shape ``(N,)``.
        n_channels: how many channels the tensors have in which ``channels`` counts:
            the last dimension of ``(N, T, D)``, else the second. Needed with
            ``channels``.

    Raises:
        TypeError: when ``images`` or ``channels`` has another shape or dtype.
        ValueError: when one of ``channels`` and ``n_channels`` is missing.

    Examples::

        >>> x = torch.tensor([[-1.0, -2.0]], requires_grad=True)
        >>> torch.relu(x).sum().neg().backward()
        >>> x.grad
        tensor([[0., 0.]])
        >>> with RedirectedReLU():
        ...     torch.relu(x).sum().neg().backward()
        >>> x.grad
        tensor([[-1., -1.]])
    """

    def __init__(
        self,
        images: Tensor | None = None,
        channels: Tensor | None = None,
        n_channels: int | None = None,
    ) -> None:
        _check_vector("images", images, torch.bool)
        _check_vector("channels", channels, torch.int64)
        if (channels is None) != (n_channels is None):
            raise ValueError("channels and n_channels belong together, expected both or neither")
        super().__init__()
        self._images, self._channels, self._n_channels = images, channels, n_channels

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _CALLS:
            return func(*args, **kwargs)
        call = _CALLS[func](*args, **kwargs)
        if not self._applies(call.input):
            return func(*args, **kwargs)
        output = call.function.apply(call.input, call.low, call.high, self)
        return call.input.copy_(output) if call.inplace else output

    def _applies(self, value: Tensor) -> bool:
        if not torch.is_grad_enabled() or not value.requires_grad or value.ndim < 2:
            return False
        return all(v is None or len(v) == len(value) for v in (self._images, self._channels))

    def revive(
        self, true: Tensor, incoming: Tensor, value: Tensor, low: float, high: float
    ) -> Tensor:
        """Replace a true gradient where it is blocked; ``value`` outside low..high is closed."""
        blocked = self._blocked(_channel_second(true))
        if not blocked.any():
            return true
        if true.ndim == 3:
            blocked = blocked.unsqueeze(1)
        blocked = blocked.view(*blocked.shape, *[1] * (true.ndim - blocked.ndim))
        # Descent moves against the gradient: a negative one raises, a positive one lowers.
        reopens = ((value <= low) & (incoming < 0)) | ((value >= high) & (incoming > 0))
        return torch.where(blocked & reopens, incoming, true)

    def _blocked(self, true: Tensor) -> Tensor:
        """Where nothing gets through, (N, 1) or (N, C), in a gradient (N, C, ...)."""
        blocked = ~true.flatten(1).any(1, keepdim=True)
        if self._channels is not None and true.shape[1] == self._n_channels:
            named = F.one_hot(self._channels.to(true.device), self._n_channels).bool()
            blocked = blocked | (named & ~true.reshape(*true.shape[:2], -1).any(2))
        if self._images is not None:
            blocked = blocked & self._images.to(true.device).unsqueeze(1)
        return blocked


def _channel_second(values: Tensor) -> Tensor:
    """Tokens (N, T, D) as (N, D, T); other shapes as they are."""
    return values.transpose(1, 2) if values.ndim == 3 else values


def _check_vector(name: str, value: Tensor | None, dtype: torch.dtype) -> None:
    if value is not None and (value.dtype != dtype or value.ndim != 1):
        raise TypeError(
            f"{name} has dtype {value.dtype} and shape {tuple(value.shape)}, expected {dtype} (N,)"
        )


class _RedirectedClamp(torch.autograd.Function):
    """``clamp(low, high)``, which is ReLU, ReLU6 and Hardtanh."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, low: float, high: float, mode: RedirectedReLU) -> Tensor:
        output = value.clamp(low, high)
        ctx.low, ctx.high, ctx.mode = low, high, mode
        # The output says as much as the input and is kept by the next layer anyway.
        ctx.save_for_backward(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (output,) = ctx.saved_tensors
        true = gradient * ((output > ctx.low) & (output < ctx.high))
        return ctx.mode.revive(true, gradient, output, ctx.low, ctx.high), None, None, None


class _RedirectedHardswish(torch.autograd.Function):
    """``x * clamp(x + 3, 0, 6) / 6``, whose gradient is zero below -3."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, low: float, high: float, mode: RedirectedReLU) -> Tensor:
        ctx.low, ctx.high, ctx.mode = low, high, mode
        output = F.hardswish(value)
        # A copy: an in-place call overwrites `value`, which gives the slope.
        ctx.save_for_backward(value.clone())
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (value,) = ctx.saved_tensors
        slope = ((2 * value + 3) / 6).masked_fill(value >= ctx.high, 1)
        true = gradient * slope.masked_fill(value <= ctx.low, 0)
        return ctx.mode.revive(true, gradient, value, ctx.low, _INFINITY), None, None, None


class _Call(NamedTuple):
    """Arguments of one rectifier, in one form."""

    function: type[torch.autograd.Function]
    input: Tensor
    low: float
    high: float
    inplace: bool


def _relu(input: Tensor, inplace: bool = False) -> _Call:
    return _Call(_RedirectedClamp, input, 0.0, _INFINITY, inplace)


def _relu_(input: Tensor) -> _Call:
    return _relu(input, inplace=True)


def _relu6(input: Tensor, inplace: bool = False) -> _Call:
    return _Call(_RedirectedClamp, input, 0.0, 6.0, inplace)


def _hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> _Call:
    return _Call(_RedirectedClamp, input, min_val, max_val, inplace)


def _hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> _Call:
    return _hardtanh(input, min_val, max_val, inplace=True)


def _hardswish(input: Tensor, inplace: bool = False) -> _Call:
    return _Call(_RedirectedHardswish, input, -3.0, 3.0, inplace)


# nn.ReLU6 calls hardtanh in new versions of PyTorch and relu6 in old ones.
_CALLS: dict[Any, Callable[..., _Call]] = {
    F.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
    torch.relu_: _relu_,
    Tensor.relu_: _relu_,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.hardtanh_: _hardtanh_,
    F.hardswish: _hardswish,
}
