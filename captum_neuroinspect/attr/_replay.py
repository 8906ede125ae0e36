"""The tail of a network behind any layer: the network run again with that layer replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._front import recorded_front, skipped
from captum_neuroinspect._sites import Site


class ReplayedTail:
    """A :class:`~captum_neuroinspect.attr._tails.Tail` that runs part of a network.

    The whole batch runs until the last sample is done: a network may treat its inputs
    in ways that cannot be cut by sample.

    Args:
        run: activation -> logits (N, C), differentiable.
        activation: ``(N, *shape)`` at the layer.
        channel_dim: None: one change an element. Else one for all positions of a
            channel; the dimension that counts channels.
        feasible: keep ``activation + w >= 0``.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        activation: Tensor,
        channel_dim: int | None,
        feasible: bool,
    ) -> None:
        self._run, self._activation = run, activation
        self._shape = _change_shape(activation, channel_dim)
        # One change for all positions can only switch a channel off where it is on.
        self._clamp = feasible and channel_dim is not None
        self._rows = self._live = torch.arange(len(activation), device=activation.device)
        self._w = self._logits = torch.empty(0)
        self.lower = -_largest(activation, self._shape) if feasible else None

    def zeros(self) -> Tensor:
        return torch.zeros(len(self._rows), self._shape.numel(), device=self._activation.device)

    def logits(self, w: Tensor) -> Tensor:
        self._live = torch.arange(len(w), device=w.device)
        with torch.enable_grad():
            self._w = w.detach().clone().requires_grad_()
            self._logits = self._run(self._changed(self._w)).float()[self._rows]
        return self._logits.detach()

    def pullback(self, residual: Tensor) -> Tensor:
        padded = torch.zeros_like(self._logits).index_copy_(0, self._live, residual)
        gradient: Tensor | None = None
        if self._logits.requires_grad:
            (gradient,) = torch.autograd.grad(self._logits, self._w, padded, allow_unused=True)
        if gradient is None:
            raise ValueError(
                "the network's output has no gradient in the layer's activation: what lies "
                "between them must be differentiable"
            )
        return gradient[self._live]

    def keep(self, mask: Tensor) -> None:
        self._rows, self._live = self._rows[mask], self._live[mask]

    def _changed(self, w: Tensor) -> Tensor:
        change = w.new_zeros(len(self._activation), w.shape[1]).index_copy(0, self._rows, w)
        changed = self._activation.float() + change.view(-1, *self._shape)
        changed = changed.clamp(min=0) if self._clamp else changed
        return changed.to(self._activation.dtype)


@contextmanager
def replayed(
    forward: Callable[[], Any],
    root: nn.Module | None,
    site: Site,
    select: Callable[[Any], Tensor],
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Make a function activation -> logits of a forward pass.

    Args:
        forward: the pass, for one batch.
        root: the module that the pass runs; what comes before ``site`` in it runs
            once. None for a plain function: all of it runs each time.
        site: where the activation is put in.
        select: what the pass returns -> logits (N, C).
    """
    with ExitStack() as stack:
        restart: Callable[[], None] = lambda: None  # noqa: E731
        if root is not None:
            with recorded_front(root, site) as front, torch.no_grad():
                forward()
            restart = stack.enter_context(skipped(front))

        current: list[Tensor] = []

        def run(activation: Tensor) -> Tensor:
            restart()
            current[:] = [activation]
            return select(forward())

        # Also between passes: under gradient checkpointing, layers run in the backward pass.
        with site.visited(lambda _: current[0]):
            yield run


def find_channel_dim(activation: Tensor, channelwise: bool, dim: int | None) -> int | None:
    """The dimension that counts channels, 1 for a map and the last for tokens; None: no channels.

    Raises:
        ValueError: when ``dim`` is no such dimension, or is given without ``channelwise``.
    """
    if not channelwise:
        if dim is not None:
            raise ValueError(f"channel_dim={dim} is given but channelwise is False")
        return None
    n = activation.ndim
    if dim is None:
        dim = 1 if n in (2, 4) else n - 1
    if not 1 <= dim % n < n or not -n <= dim < n:
        raise ValueError(
            f"channel_dim={dim}, expected a dimension of an activation {tuple(activation.shape)} "
            "other than the first"
        )
    return dim % n


def _change_shape(activation: Tensor, channel_dim: int | None) -> torch.Size:
    """The shape of one sample's change, with a 1 where it is the same for all positions."""
    shape = activation.shape[1:]
    if channel_dim is None:
        return shape
    return torch.Size(n if dim == channel_dim else 1 for dim, n in enumerate(shape, start=1))


def _largest(activation: Tensor, shape: torch.Size) -> Tensor:
    """``(N, D)`` the largest activation under each entry of a change of that shape."""
    shared = [dim for dim, n in enumerate(shape, start=1) if n == 1]
    largest = activation.amax(shared, keepdim=True) if shared else activation
    return largest.float().flatten(1)


def channel_means(activation: Tensor, channel_dim: int) -> Tensor:
    """``(N, C)`` in float32: what a channel is as a whole."""
    positions = [dim for dim in range(1, activation.ndim) if dim != channel_dim]
    return activation.float().mean(positions) if positions else activation.float()
