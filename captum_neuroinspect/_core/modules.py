"""What every stage needs from a user's model: freezing, unwrapping, reading.

Each change to a model has one owner here which undoes it, also on error.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.sites import Site


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Keep modules in eval mode and without weight gradients inside the block.

    They are held meanwhile: other threads that want them, or parts of them, wait.
    Training flags and ``requires_grad`` of every submodule and parameter are put
    back one by one afterwards: a model may be partly in training mode.
    """
    with exclusive(*modules), _frozen(*modules):
        yield


@contextmanager
def _frozen(*modules: nn.Module) -> Iterator[None]:
    training = [(m, m.training) for root in modules for m in root.modules()]
    gradients = [(p, p.requires_grad) for root in modules for p in root.parameters()]
    try:
        for root in modules:
            root.eval()
        for parameter, _ in gradients:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, flag in gradients:
            parameter.requires_grad_(flag)


class Captured:
    """The last tensor that a hook saw; ``.value`` is read while the hook lives."""

    def __init__(self) -> None:
        self._value: Tensor | None = None

    @property
    def value(self) -> Tensor:
        if self._value is None:
            raise RuntimeError(
                "the layer was not run by the model's forward pass: "
                "give a layer that the model calls for this input"
            )
        return self._value

    def clear(self) -> None:
        self._value = None

    def store(self, value: Tensor) -> None:
        self._value = value


@contextmanager
def captured_input(module: nn.Module) -> Iterator[Captured]:
    """Read the first tensor that ``module`` takes during forward passes."""
    with _captured(Site(module, at_input=True)) as captured:
        yield captured


@contextmanager
def captured_output(module: nn.Module) -> Iterator[Captured]:
    """Read the output of ``module``; of several calls in one pass, the last."""
    with _captured(Site(module, at_input=False)) as captured:
        yield captured


@contextmanager
def _captured(site: Site) -> Iterator[Captured]:
    captured = Captured()
    try:
        with site.visited(captured.store):
            yield captured
    finally:
        captured.clear()


def first_tensor(value: Any) -> Tensor | None:
    """The value itself if it is a tensor, else the first tensor of a tuple or list."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (tuple, list)):
        return next((item for item in value if isinstance(item, Tensor)), None)
    return None


def logits_of(output: Any) -> Tensor:
    """Unwrap what a classifier returns: a tensor, Hugging Face's ``.logits``, a tuple.

    Raises:
        TypeError: when no tensor of logits is in ``output``.
    """
    logits = getattr(output, "logits", None)
    if logits is None and isinstance(output, dict):
        logits = output.get("logits")
    if logits is None:
        logits = first_tensor(output)
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"the model returned {type(output).__name__}, expected a tensor of logits (N, C) "
            f"or an object with a `logits` attribute{_without_name(output)}"
        )
    return logits


def _without_name(output: Any) -> str:
    """What to do about a dictionary of several outputs, of which none is called logits."""
    if not isinstance(output, Mapping) or not any(isinstance(v, Tensor) for v in output.values()):
        return ""
    names = ", ".join(map(repr, output))
    return (
        f"; of its {names} none is known to count: give its layer as head= where there is such an "
        "argument, else a model that returns it alone"
    )


def tensors_in(output: Any) -> Iterator[Tensor]:
    """Every tensor that a model returned, in tuples, lists and mappings of any depth.

    Examples::

        >>> [len(t) for t in tensors_in({"age": torch.zeros(3), "others": (torch.zeros(2), None)})]
        [3, 2]
    """
    if isinstance(output, Tensor):
        yield output
        return
    if isinstance(output, Mapping):
        output = list(output.values())
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        output = [getattr(output, field.name) for field in dataclasses.fields(output)]
    if isinstance(output, (tuple, list)):
        for value in output:
            yield from tensors_in(value)


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter or buffer; CPU if it has neither."""
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The dtype of the pixels that a model takes; ``None`` where its weights do not tell.

    That of its first convolution or linear layer; else of its first parameter. A module
    that converts its input by itself says so by an attribute ``input_dtype``.

    Examples::

        >>> dtype_of(nn.Sequential(nn.Conv2d(3, 4, 3).bfloat16(), nn.Linear(4, 2)))
        torch.bfloat16
    """
    said = getattr(model, "input_dtype", None)
    if isinstance(said, torch.dtype):
        return said
    layers = (m for m in model.modules() if isinstance(m, (_ConvNd, nn.Linear)))
    # Parameters, not `.weight`: some compute that, and change their buffers when asked.
    weights = chain.from_iterable(layer.parameters() for layer in layers)
    return next((w.dtype for w in chain(weights, model.parameters()) if _is_float(w)), None)


def as_input(model: nn.Module, value: Any) -> Any:
    """Images on the device of a model, and, where they are floating point, in its dtype.

    Examples::

        >>> as_input(nn.Linear(4, 2).double(), torch.zeros(1, 4)).dtype
        torch.float64
    """
    if not isinstance(value, Tensor):
        return value
    dtype = dtype_of(model) if _is_float(value) else None
    return value.to(device_of(model), dtype or value.dtype)


def _is_float(value: Tensor) -> bool:
    # Some quantisers keep their codes in float8, which nothing can be computed in.
    return value.is_floating_point() and value.dtype.itemsize > 1


def is_close(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two results are the same up to the rounding of the coarser dtype.

    Infinite values must be equal; of the others none may differ by more than
    ``tolerance``, a share of the largest.

    Examples::

        >>> is_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.01]))
        False
        >>> is_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.01]).bfloat16())
        True
    """
    if one.shape != other.shape:
        return False
    steps = (torch.finfo(t.dtype).eps for t in (one, other) if t.is_floating_point())
    tolerance = max(tolerance, 4 * max(steps, default=0.0))
    first, second = (t.detach().to("cpu", torch.float64) for t in (one, other))
    finite = second[second.isfinite()]
    size = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(first, second, rtol=0, atol=tolerance * size, equal_nan=True)


def module_name(model: nn.Module, module: nn.Module) -> str:
    """The dotted name of ``module`` in ``model``; ``""`` for the model itself.

    Raises:
        ValueError: when ``module`` is not part of ``model``.
    """
    for name, candidate in model.named_modules():
        if candidate is module:
            return name
    raise ValueError(f"{type(module).__name__} is not a submodule of this {type(model).__name__}")


def as_layer(model: nn.Module, layer: nn.Module | str, name: str = "layer") -> nn.Module:
    """The module of ``model`` that the argument called ``name`` means.

    A name is dotted, or has ``_`` for every dot, as Lucent has it.

    Raises:
        TypeError: when ``layer`` is neither a module nor a name.
        ValueError: when it is not in the model, or two layers share Lucent's name.

    Examples::

        >>> as_layer(nn.Sequential(nn.Sequential(nn.ReLU())), "0_0")
        ReLU()
    """
    if isinstance(layer, str):
        return _named(model, layer, name)
    if not isinstance(layer, nn.Module):
        raise TypeError(f"{name} is {type(layer).__name__}, expected a module or its dotted name")
    module_name(model, layer)
    return layer


def _named(model: nn.Module, layer: str, name: str) -> nn.Module:
    modules = dict(model.named_modules())
    if layer in modules:
        return modules[layer]
    found = [dotted for dotted in modules if dotted and dotted.replace(".", "_") == layer]
    if not found:
        raise ValueError(
            f"{name}={layer!r} is not in {type(model).__name__}, "
            "expected a name from model.named_modules(), or Lucent's with _ for each dot"
        )
    if len(found) > 1:
        raise ValueError(f"{name}={layer!r} means {' and '.join(found)}, expected a dotted name")
    return modules[found[0]]


def check_indices(name: str, indices: Tensor, n: int, of: str) -> None:
    """Refuse an index outside ``0..n-1``, naming the argument and the value."""
    bad = indices[(indices < 0) | (indices >= n)]
    if bad.numel():
        raise ValueError(f"{name}={int(bad[0])} is out of range: expected 0..{n - 1} ({of})")


def as_indices(name: str, value: int | Sequence[int] | Tensor) -> Tensor:
    """Turn an int or a sequence of ints into a 1-D int64 tensor on the CPU.

    Raises:
        TypeError: for values that are not whole numbers.
    """
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):  # torch's words for what makes no tensor differ
        raise TypeError(f"{name}={reprlib.repr(value)}, expected whole numbers") from None
    if not tensor.numel():  # torch makes an empty list float
        return torch.empty(0, dtype=torch.int64)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {tensor.dtype}, expected whole numbers")
    return tensor.detach().reshape(-1).to("cpu", torch.int64)
