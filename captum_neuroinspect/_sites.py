"""A place in a network's forward pass: reading the activation there, or replacing it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Visit = Callable[[Tensor], "Tensor | None"]  # an activation -> what replaces it, or None


@dataclass(frozen=True)
class Site:
    """The first tensor that goes into a layer, or that comes out of it.

    Attributes:
        layer: a module of the network.
        at_input: its input; else its output.
    """

    layer: nn.Module
    at_input: bool

    @contextmanager
    def visited(self, visit: Visit) -> Iterator[None]:
        """Call ``visit`` with the activation in each forward pass inside the block."""

        def on_input(_: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
            args, found = _with_first_tensor(args, visit)
            if found:
                return args, kwargs
            return args, _with_first_tensor(kwargs, visit)[0]

        def on_output(_: nn.Module, __: Any, output: Any) -> Any:
            return _with_first_tensor(output, visit)[0]

        if self.at_input:
            handle = self.layer.register_forward_pre_hook(on_input, with_kwargs=True)
        else:
            handle = self.layer.register_forward_hook(on_output)
        try:
            yield
        finally:
            handle.remove()


def read_activation(
    run: Callable[[], Any], site: Site, device_ids: list[int] | None = None
) -> tuple[Tensor, Any]:
    """Run a network once; give the activation at ``site`` and what the network returned.

    Args:
        run: the forward pass.
        site: where to read.
        device_ids: order of the parts that ``DataParallel`` hands to its devices.

    Raises:
        RuntimeError: when the pass does not run the layer.
        ValueError: when it runs the layer several times, so that "its" neurons are
            not one set of numbers.
    """
    parts: dict[torch.device, list[Tensor]] = {}
    lock = threading.Lock()  # DataParallel runs its replicas in threads

    def store(activation: Tensor) -> None:
        with lock:
            # A copy: an in-place operation behind the layer would change what was read.
            parts.setdefault(activation.device, []).append(activation.detach().clone())

    with site.visited(store), torch.no_grad():
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
    return _gathered({device: calls[0] for device, calls in parts.items()}, device_ids), output


def _gathered(parts: dict[torch.device, Tensor], device_ids: list[int] | None) -> Tensor:
    devices = list(parts)
    if len(devices) > 1:
        order = device_ids if device_ids is not None else sorted(d.index or 0 for d in devices)
        devices.sort(key=lambda device: order.index(device.index or 0))
    return torch.cat([parts[device].to(devices[0]) for device in devices])


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
            items = [*value[:i], changed, *value[i + 1 :]]
            is_named = hasattr(value, "_fields")
            return (type(value)(*items) if is_named else type(value)(items)), True
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
