"""The tail of a network behind any layer: the network run again with that layer replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.sites import Site
from captum_neuroinspect.attr._partial_forward import recorded_front, skipped
from captum_neuroinspect.attr._tails import lower_bound, working_dtype

Activations = tuple[Tensor, ...]


class ReplayedTail:
    """A :class:`~captum_neuroinspect.attr._tails.Tail` that runs part of a network.

    The whole batch runs until the last sample is done: a network may treat its inputs
    in ways that cannot be cut by sample. The change ``w`` (n, D) holds the changes of all
    tensors at the layer, one behind the other.

    Args:
        run: activations -> logits (N, C), differentiable.
        activations: ``(N, *shape)`` each, at the layer.
        channel_dims: None: one change an element. Else one for all positions of a
            channel; the dimension of each activation that counts channels.
        feasible: ``(N,)`` for which samples to keep ``activation + w >= 0``.
    """

    def __init__(
        self,
        run: Callable[[Activations], Tensor],
        activations: Activations,
        channel_dims: tuple[int, ...] | None,
        feasible: Tensor,
    ) -> None:
        self._run, self._activations = run, activations
        dims = channel_dims or (None,) * len(activations)
        self._shapes = [_change_shape(z, dim) for z, dim in zip(activations, dims, strict=True)]
        # One change for all positions can only switch a channel off where it is on.
        self._clamped = feasible if channel_dims and feasible.any() else None
        self._dtype = working_dtype(*activations)
        self._rows = self._live = torch.arange(len(feasible), device=feasible.device)
        self._w = self._logits = torch.empty(0)
        largest = [_largest(z, s) for z, s in zip(activations, self._shapes, strict=True)]
        self.lower = lower_bound(torch.cat(largest, 1).to(self._dtype), feasible)

    def zeros(self) -> Tensor:
        n_changes = sum(shape.numel() for shape in self._shapes)
        return torch.zeros(len(self._rows), n_changes, dtype=self._dtype, device=self._rows.device)

    def logits(self, w: Tensor) -> Tensor:
        self._live = torch.arange(len(w), device=w.device)
        with torch.enable_grad():
            self._w = w.detach().clone().requires_grad_()
            self._logits = self._run(self._changed(self._w)).to(self._dtype)[self._rows]
        logits = self._logits.detach()
        if bool(logits.isnan().any()):  # which would pass for the largest logit
            raise RuntimeError(
                "the network's output became NaN when the activations were changed: take smaller "
                "steps, as SGD(lr=0.001), or feasible=True where they must not be negative"
            )
        return logits

    def pullback(self, residual: Tensor) -> Tensor:
        padded = torch.zeros_like(self._logits).index_copy_(0, self._live, residual)
        gradient: Tensor | None = None
        if self._logits.requires_grad:
            (gradient,) = torch.autograd.grad(self._logits, self._w, padded, allow_unused=True)
        if gradient is None:
            raise ValueError(
                "the network's output has no gradient in the layer's activation: the layer is not "
                "on the way to it (of several outputs the first tensor counts: give a model that "
                "returns the layer's own alone), or what lies between is not differentiable"
            )
        return gradient[self._live]

    def keep(self, mask: Tensor) -> None:
        self._rows, self._live = self._rows[mask], self._live[mask]

    def _changed(self, w: Tensor) -> Activations:
        n_samples = len(self._activations[0])
        change = w.new_zeros(n_samples, w.shape[1]).index_copy(0, self._rows, w)
        parts = change.split([shape.numel() for shape in self._shapes], 1)
        return tuple(
            self._changed_one(z, part.view(-1, *shape))
            for z, part, shape in zip(self._activations, parts, self._shapes, strict=True)
        )

    def _changed_one(self, activation: Tensor, change: Tensor) -> Tensor:
        changed = activation.to(self._dtype) + change
        if self._clamped is not None:
            rows = self._clamped.view(-1, *[1] * (changed.ndim - 1))
            changed = torch.where(rows, changed.clamp(min=0), changed)
        return changed.to(activation.dtype)


@contextmanager
def replayed(
    forward: Callable[[], Any],
    root: nn.Module | None,
    site: Site,
    select: Callable[[Any], Tensor],
) -> Iterator[Callable[[Activations], Tensor]]:
    """Make a function activations -> logits of a forward pass.

    Args:
        forward: the pass, for one batch.
        root: the module that the pass runs; what comes before ``site`` in it runs
            once. None for a plain function: all of it runs each time.
        site: where the activations are put in.
        select: what the pass returns -> logits (N, C).
    """
    with ExitStack() as stack:
        restart: Callable[[], None] = lambda: None  # noqa: E731
        if root is not None:
            with recorded_front(root, site) as front, torch.no_grad():
                forward()
            restart = stack.enter_context(skipped(front))

        current: list[Activations] = []

        def run(activations: Activations) -> Tensor:
            restart()
            current[:] = [activations]
            return select(forward())

        # Also between passes: under gradient checkpointing, layers run in the backward pass.
        with site.all_visited(lambda _: current[0]):
            yield run


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
    return largest.flatten(1)


def channel_means(activation: Tensor, channel_dim: int) -> Tensor:
    """``(N, C)``: what a channel is as a whole."""
    positions = [dim for dim in range(1, activation.ndim) if dim != channel_dim]
    activation = activation.to(working_dtype(activation))
    return activation.mean(positions) if positions else activation
