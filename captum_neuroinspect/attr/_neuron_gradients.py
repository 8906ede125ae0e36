"""Gradients of many neurons from one forward pass: choosing them and pulling them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect.attr._neuron_layers import read_neurons, starting_at
from captum_neuroinspect.attr.neuron_ranking import NeuronList

Selector = int | tuple[int | slice, ...] | Callable[[Tensor], Tensor]

_NEURONS_PER_PASS = 32
# Measured on CPUs: folding neurons into one pass pays while the kernels' overhead counts,
# up to photos of about 64 x 64; above, the larger tensors cost more than the passes saved.
_SMALL_INPUTS = 2**14
_LARGEST_MAPS = 2**22  # 16 MB; behind the maps there is little to compute
# What functorch says of operations that cannot be batched; any other error is passed on.
_CANNOT_BATCH = ("vmap", "atching rule")


def as_selectors(neurons: Any) -> tuple[Selector, ...]:
    """Turn what a caller gives for ``neurons`` into a tuple of selectors.

    Raises:
        TypeError: for anything but whole numbers, tuples of them and slices, callables.
        ValueError: when there are none.
    """
    if isinstance(neurons, NeuronList):
        neurons = neurons.neurons
    if isinstance(neurons, Tensor):
        neurons = as_indices("neurons", neurons).tolist()
    if _is_whole(neurons):
        neurons = (neurons,)
    try:
        entries = tuple(neurons)
    except TypeError:
        raise TypeError(
            f"neurons is {type(neurons).__name__}, expected a sequence of whole numbers or "
            "selectors; of a ranking, one of its lists such as `.excessive`"
        ) from None
    if not entries:
        raise ValueError("neurons is empty, expected at least one neuron")
    return tuple(_as_selector(number, entry) for number, entry in enumerate(entries))


def _as_selector(number: int, entry: Any) -> Selector:
    if _is_whole(entry):
        return int(entry)
    if isinstance(entry, tuple) and all(_is_whole(e) or isinstance(e, slice) for e in entry):
        return tuple(e if isinstance(e, slice) else int(e) for e in entry)
    if callable(entry):
        return entry
    raise TypeError(
        f"neurons[{number}]={entry!r}, expected a whole number, a tuple of them and slices, "
        "or a function of the layer's value"
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def activation(value: Tensor, selector: Selector, axis: int) -> Tensor:
    """One number per image from a layer's value ``(N, ...)``, shape ``(N,)``.

    Args:
        value: ``(N, ...)``.
        selector: what is one number.
        axis: the dimension that counts units.

    Raises:
        ValueError: when the selector does not fit the value.
    """
    if isinstance(selector, int):
        if value.ndim < 2:
            raise ValueError(
                f"the layer's value has shape {tuple(value.shape)}, expected (N, F, ...)"
            )
        _check_index(selector, value, axis)
        return value.select(axis, selector).reshape(len(value), -1).mean(1)
    if isinstance(selector, tuple):
        _check_tuple(selector, value)
        index = (slice(None), *selector)
        return value[index].reshape(len(value), -1).sum(1)
    chosen = selector(value)
    if chosen.shape != value.shape[:1]:
        raise ValueError(
            f"a function in neurons gave shape {tuple(chosen.shape)}, "
            f"expected ({len(value)},): one number per image"
        )
    return chosen


def _check_index(index: int, value: Tensor, axis: int) -> None:
    of = f"axis {axis} of the layer's value {tuple(value.shape)}"
    check_indices("neurons", torch.tensor([index]), value.shape[axis], of)


def _check_tuple(selector: tuple[int | slice, ...], value: Tensor) -> None:
    if not 1 <= len(selector) < value.ndim:
        raise ValueError(
            f"neurons={selector!r} has {len(selector)} entries, expected "
            f"1..{value.ndim - 1} for the layer's value {tuple(value.shape)}"
        )
    for axis, entry in enumerate(selector, start=1):
        if isinstance(entry, int):
            _check_index(entry, value, axis)


@dataclass(frozen=True)
class NeuronReader:
    """Which neurons of which model, and how many are pulled back together."""

    model: nn.Module
    layer: nn.Module
    at_input: bool
    selectors: tuple[Selector, ...]
    axis: int  # of the layer's value, that counts units
    neurons_per_pass: int | None
    report: Callable[[int], object]  # called with the number of products that are done

    def input_gradients(
        self, inputs: Tensor, args: Sequence[Any]
    ) -> Iterator[tuple[slice, Tensor]]:
        """Gradients at the inputs: which neurons, and theirs ``(k, N, ...)``."""
        leaf = inputs.clone().requires_grad_()
        with read_neurons(self.layer, self.at_input) as values:
            self.model(leaf.clone(), *args)  # the copy: a model may work in place
            value = values.value
        small = leaf.device.type != "cpu" or leaf.numel() <= _SMALL_INPUTS
        return self._pulled_back(value, leaf, _NEURONS_PER_PASS if small else 1)

    def map_gradients(
        self, cam_layer: nn.Module, inputs: Tensor, args: Sequence[Any]
    ) -> tuple[Tensor, Iterator[tuple[slice, Tensor]]]:
        """The maps of ``cam_layer`` and the gradients there: ``(k, N, C, h, w)``."""
        # In this order: where both are one module, the neurons are read behind the cut.
        with starting_at(cam_layer) as maps, read_neurons(self.layer, self.at_input) as values:
            self.model(inputs.clone(), *args)
            leaf, value = maps.value, values.value
        fitting = max(1, min(_NEURONS_PER_PASS, _LARGEST_MAPS // leaf.numel()))
        return leaf.detach(), self._pulled_back(value, leaf, fitting)

    def _pulled_back(
        self, value: Tensor, leaf: Tensor, default: int
    ) -> Iterator[tuple[slice, Tensor]]:
        for selector in self.selectors:  # a wrong one is refused before any work is done
            activation(value.detach(), selector, self.axis)
        per_pass = self.neurons_per_pass or default
        for start in range(0, len(self.selectors), per_pass):
            chosen = slice(start, start + per_pass)
            cotangents = _cotangents(value, self.selectors[chosen], self.axis)
            yield chosen, pull_back(value, leaf, cotangents)
            self.report(len(value) * len(cotangents))


def _cotangents(value: Tensor, selectors: Sequence[Selector], axis: int) -> Tensor:
    """The gradients of the neurons at the layer itself, ``(k, *value.shape)``."""
    leaf = value.detach().requires_grad_()
    sums = (activation(leaf, selector, axis).sum() for selector in selectors)
    return torch.stack([torch.autograd.grad(total, leaf)[0] for total in sums])


def pull_back(value: Tensor, leaf: Tensor, cotangents: Tensor) -> Tensor:
    """Vector-Jacobian products of ``value`` at ``leaf``, ``(k, *leaf.shape)``.

    Several go in one pass where every operation has a batching rule, else one by one.
    The graph is kept for more.

    Raises:
        ValueError: when ``value`` does not depend on ``leaf``.
    """
    if not value.requires_grad:
        raise ValueError(_NO_PATH)
    if len(cotangents) > 1:
        try:
            return _products(value, leaf, cotangents, is_grads_batched=True)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _CANNOT_BATCH):
                raise
    return torch.stack([_products(value, leaf, cotangent) for cotangent in cotangents])


def _products(
    value: Tensor, leaf: Tensor, cotangents: Tensor, is_grads_batched: bool = False
) -> Tensor:
    (gradients,) = torch.autograd.grad(
        value,
        leaf,
        cotangents,
        retain_graph=True,
        allow_unused=True,
        is_grads_batched=is_grads_batched,
    )
    if gradients is None:
        raise ValueError(_NO_PATH)
    return gradients


_NO_PATH = (
    "the neurons do not depend on what they are explained by: `layer` must run behind the "
    "inputs (behind cam_layer for gradcam), without a detach() or no_grad() between"
)
