"""A place in a network's forward pass: reading the activation there, or replacing it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.exclusive import exclusive_layer, is_of_another_call

Visit = Callable[[Tensor], "Tensor | None"]  # an activation -> what replaces it, or None
VisitAll = Callable[[tuple[Tensor, ...]], "Sequence[Tensor] | None"]


@dataclass(frozen=True)
class Site:
    """What goes into a layer, or what comes out of it.

    Attributes:
        layer: a module of the network.
        at_input: its input; else its output.
    """

    layer: nn.Module
    at_input: bool

    @contextmanager
    def visited(self, visit: Visit) -> Iterator[None]:
        """Call ``visit`` with the first tensor there, in each forward pass inside the block."""
        with self._hooked(lambda value: _with_first_tensor(value, visit)):
            yield

    @contextmanager
    def all_visited(self, visit: VisitAll) -> Iterator[None]:
        """The same with all tensors of floating point, also in tuples and lists.

        Where there are none outside of mappings: with the first tensor.
        """

        def visited(value: Any) -> tuple[Any, bool]:
            tensors = _floating(value)
            if not tensors:
                return _with_first_tensor(value, lambda tensor: _only(visit((tensor,))))
            replacements = visit(tensors)
            if replacements is None:
                return value, True
            return _with_floating(value, iter(replacements)), True

        with self._hooked(visited):
            yield

    @contextmanager
    def _hooked(self, visited: Callable[[Any], tuple[Any, bool]]) -> Iterator[None]:
        # Of a function around a model only the layer is held: another call's pass may run it.
        owner = threading.get_ident()

        def on_input(_: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
            if is_of_another_call(owner):
                return None
            args, found = visited(args)
            return (args, kwargs) if found else (args, visited(kwargs)[0])

        def on_output(_: nn.Module, __: Any, output: Any) -> Any:
            return None if is_of_another_call(owner) else visited(output)[0]

        with exclusive_layer(self.layer):
            if self.at_input:
                handle = self.layer.register_forward_pre_hook(on_input, with_kwargs=True)
            else:
                handle = self.layer.register_forward_hook(on_output)
            try:
                yield
            finally:
                handle.remove()


def read_activations(
    run: Callable[[], Any], site: Site, device_ids: list[int] | None = None
) -> tuple[tuple[Tensor, ...], Any]:
    """Run a network once; give the activations at ``site`` and what the network returned.

    Args:
        run: the forward pass.
        site: where to read.
        device_ids: order of the parts that ``DataParallel`` hands to its devices.

    Raises:
        RuntimeError: when the pass does not run the layer.
        ValueError: when it runs the layer several times, so that "its" neurons are
            not one set of numbers.
    """
    parts: dict[torch.device, list[tuple[Tensor, ...]]] = {}
    lock = threading.Lock()  # DataParallel runs its replicas in threads

    def store(activations: tuple[Tensor, ...]) -> None:
        with lock:
            # Copies: an in-place operation behind the layer would change what was read.
            copies = tuple(activation.detach().clone() for activation in activations)
            parts.setdefault(copies[0].device, []).append(copies)

    with site.all_visited(store), torch.no_grad():
        output = run()
    if not parts:
        raise RuntimeError(
            f"the forward pass did not run the layer {type(site.layer).__name__}, or gave it no "
            "tensor: choose a layer that this input passes through"
        )
    n_calls = max(len(calls) for calls in parts.values())
    if n_calls > 1:
        raise ValueError(
            f"the layer {type(site.layer).__name__} runs {n_calls} times in one forward pass: "
            "choose a layer that runs once, so that its neurons are one set"
        )
    slots = range(min(len(calls[0]) for calls in parts.values()))
    activations = tuple(
        _gathered({device: calls[0][i] for device, calls in parts.items()}, device_ids)
        for i in slots
    )
    return activations, output


def _gathered(parts: dict[torch.device, Tensor], device_ids: list[int] | None) -> Tensor:
    devices = list(parts)
    if len(devices) > 1:
        order = device_ids if device_ids is not None else sorted(d.index or 0 for d in devices)
        devices.sort(key=lambda device: order.index(device.index or 0))
    return torch.cat([parts[device].to(devices[0]) for device in devices])


def _only(tensors: Sequence[Tensor] | None) -> Tensor | None:
    return None if tensors is None else tensors[0]


def _is_activation(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0


def _floating(value: Any) -> tuple[Tensor, ...]:
    """The tensors of floating point in a value and its tuples and lists, in order."""
    if isinstance(value, (tuple, list)):
        return tuple(tensor for item in value for tensor in _floating(item))
    return (value,) if _is_activation(value) else ()


def _with_floating(value: Any, replacements: Iterator[Tensor]) -> Any:
    """The value with the tensors that :func:`_floating` finds replaced, one after the other."""
    if isinstance(value, (tuple, list)):
        return _like(value, [_with_floating(item, replacements) for item in value])
    return next(replacements) if _is_activation(value) else value


def _like(value: Any, items: list[Any]) -> Any:
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _with_first_tensor(value: Any, visit: Visit) -> tuple[Any, bool]:
    """Visit the first tensor in ``value``: the value with it replaced, and if one was found."""
    if isinstance(value, Tensor):
        replacement = visit(value)
        return (value if replacement is None else replacement), True
    if isinstance(value, (tuple, list)):
        return _in_sequence(value, visit)
    if isinstance(value, Mapping):
        return _in_mapping(value, visit)
    return value, False


def _in_sequence(value: Any, visit: Visit) -> tuple[Any, bool]:
    for i, item in enumerate(value):
        changed, found = _with_first_tensor(item, visit)
        if found:
            return _like(value, [*value[:i], changed, *value[i + 1 :]]), True
    return value, False


def _in_mapping(value: Any, visit: Visit) -> tuple[Any, bool]:
    for key, item in value.items():
        changed, found = _with_first_tensor(item, visit)
        if found:
            # A copy that keeps the type, as Hugging Face's outputs are read by attribute.
            value = copy.copy(value)
            value[key] = changed
            return value, True
    return value, False
