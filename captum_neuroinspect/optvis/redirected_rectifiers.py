"""Gradients for neurons that a rectifier has switched off.

A neuron whose rectifier is closed on the whole first image sends no gradient back,
and its image stays grey. Lucid (Olah et al.) redirects the gradient of such
rectifiers, and Lucent's ``RedirectedReLU`` is a function to build into a model; here this is a
mode of PyTorch, so that no model is changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_neuroinspect.optvis._rectifiers import rectifier


class RedirectedRectifiers(TorchFunctionMode):
    """Let gradients pass rectifiers that block a whole image.

    Inside the ``with`` block ReLU, ReLU6, Hardtanh, ``clamp`` at zero, Hardswish,
    GELU and SiLU return the same values. In the backward pass, where a rectifier
    lets nothing of an image's gradient through, the incoming gradient takes its
    place wherever it would bring a value back: raise one below the range, or lower
    one above it. As in Lucid, nothing changes as long as anything gets through:
    redirecting every closed channel of every layer pushes most neurons away from
    their image. GELU and SiLU never quite close; they count as closed where their
    values are about 1e-6 and less, at -5 and -16.

    A loss with a class term always gets something through the last rectifier, by
    way of other channels. So one channel per image may be named in ``channels``
    that is redirected by itself when it is closed.

    Modules and functions are reached alike, in place or not. No hook is used and no
    module is changed. Not reached are scripted modules (``torch.jit``) and what is
    written out by hand, such as ``x * sigmoid(x)``.

    Args:
        images: which images of the batch are helped, bool of shape ``(N,)``;
            ``None``: all. Tensors with another first dimension are left alone.
        channels: a channel for each image, int64 of shape ``(N,)``.
        n_channels: how many channels the tensors have in which ``channels`` counts:
            the last dimension of ``(N, T, D)``, else the second, or the last of four
            if only that has so many. One number, or int64 ``(N,)`` where the images'
            channels are of different layers. Needed with ``channels``.

    Raises:
        TypeError: when ``images`` or ``channels`` has another shape or dtype.
        ValueError: when one of ``channels`` and ``n_channels`` is missing.

    Examples::

        >>> x = torch.tensor([[-1.0, -2.0]], requires_grad=True)
        >>> torch.relu(x).sum().neg().backward()
        >>> x.grad
        tensor([[0., 0.]])
        >>> with RedirectedRectifiers():
        ...     torch.relu(x).sum().neg().backward()
        >>> x.grad
        tensor([[-1., -1.]])
    """

    def __init__(
        self,
        images: Tensor | None = None,
        channels: Tensor | None = None,
        n_channels: int | Tensor | None = None,
    ) -> None:
        _check_vector("images", images, torch.bool)
        _check_vector("channels", channels, torch.int64)
        if (channels is None) != (n_channels is None):
            raise ValueError("channels and n_channels belong together, expected both or neither")
        super().__init__()
        self._images = images
        self._channels = _as_row(channels, None)
        self._n_channels = _as_row(n_channels, channels)
        _check_vector("n_channels", self._n_channels, torch.int64)
        self._counts = set(self._n_channels.tolist())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        call = rectifier(func, args, kwargs)
        if call is None or not self._applies(call.input):
            return func(*args, **kwargs)
        return call.redirected(self._revive)

    def _applies(self, value: Tensor) -> bool:
        if not torch.is_grad_enabled() or not value.requires_grad or value.ndim < 2:
            return False
        given = [self._images, self._channels]
        return all(v is None or len(v) in (0, len(value)) for v in given)

    def _revive(
        self, true: Tensor, incoming: Tensor, value: Tensor, low: float, high: float
    ) -> Tensor:
        """Replace a true gradient where it is blocked; ``value`` outside low..high is closed."""
        closed = (value <= low) | (value >= high)
        # A smooth rectifier lets next to nothing through where it is closed, and downhill.
        open_gradient = true.masked_fill(closed, 0)
        channel_dim = self._channel_dim(true)
        blocked = self._blocked(open_gradient.movedim(channel_dim, 1))
        if not blocked.any():
            return true
        blocked = blocked.view(*blocked.shape, *[1] * (true.ndim - 2)).movedim(1, channel_dim)
        # Descent moves against the gradient: a negative one raises, a positive one lowers.
        reopens = ((value <= low) & (incoming < 0)) | ((value >= high) & (incoming > 0))
        return torch.where(blocked & reopens, incoming, true)

    def _channel_dim(self, values: Tensor) -> int:
        """Tokens (N, T, D) have their channels last, and maps (N, H, W, C) of Swin."""
        counts = self._counts
        is_last = values.ndim == 4 and values.shape[-1] in counts and values.shape[1] not in counts
        return values.ndim - 1 if values.ndim == 3 or is_last else 1

    def _blocked(self, true: Tensor) -> Tensor:
        """Where nothing gets through, (N, 1) or (N, C), in a gradient (N, C, ...)."""
        blocked = ~true.flatten(1).any(1, keepdim=True)
        if true.shape[1] in self._counts:
            is_here = (self._n_channels == true.shape[1]).to(true.device)
            channels = self._channels.to(true.device) * is_here
            named = F.one_hot(channels, true.shape[1]).bool() & is_here.unsqueeze(1)
            blocked = blocked | (named & ~true.reshape(*true.shape[:2], -1).any(2))
        if self._images is not None:
            blocked = blocked & self._images.to(true.device).unsqueeze(1)
        return blocked


def _as_row(value: int | Tensor | None, channels: Tensor | None) -> Tensor:
    """One number for each of ``channels``; of nothing an empty row."""
    if isinstance(value, Tensor):
        return value
    if value is None or channels is None:
        return torch.empty(0, dtype=torch.int64)
    return torch.full_like(channels, value)


def _check_vector(name: str, value: Tensor | None, dtype: torch.dtype) -> None:
    if value is not None and (value.dtype != dtype or value.ndim != 1):
        raise TypeError(
            f"{name} has dtype {value.dtype} and shape {tuple(value.shape)}, expected {dtype} (N,)"
        )
