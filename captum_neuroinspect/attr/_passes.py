"""A user's forward function, called as Captum calls it, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from captum_neuroinspect._core.modules import device_of
from captum_neuroinspect.attr._captum import (
    format_additional_forward_args,
    run_forward,
)
from captum_neuroinspect.attr._models_in import models_in


@dataclass(frozen=True)
class Passes:
    """The forward passes that a batch of inputs takes.

    Attributes:
        forward_func: the network or a function around it.
        inputs: tensors with the samples along their first dimension.
        additional_forward_args: further arguments; tensors with an entry for each sample
            are cut like the inputs.
        batch_size: samples a pass.
        device_ids: order of the devices that ``DataParallel`` takes parts of a batch to.
    """

    forward_func: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    additional_forward_args: tuple[Any, ...] | None
    batch_size: int
    device_ids: list[int] | None = None

    @classmethod
    def prepare(
        cls,
        forward_func: Callable[..., Any],
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: object | None,
        batch_size: int | None,
        device_ids: list[int] | None = None,
    ) -> Passes:
        """Bring arguments of ``attribute`` into order.

        Raises:
            TypeError: when ``inputs`` hold no tensors.
            ValueError: for no samples or a batch size under 1.
        """
        parts = inputs if isinstance(inputs, tuple) else (inputs,)
        if not parts or not all(isinstance(part, Tensor) for part in parts):
            raise TypeError(f"inputs are {_kinds(parts)}, expected a tensor or a tuple of tensors")
        if not parts[0].ndim or not len(parts[0]):
            raise ValueError(
                f"inputs have shape {tuple(parts[0].shape)}, expected one sample or more"
            )
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"internal_batch_size={batch_size}, expected at least 1")
        arguments = format_additional_forward_args(additional_forward_args)
        return cls(
            forward_func,
            tuple(map(_differentiable, parts)),
            None if arguments is None else tuple(map(_differentiable, arguments)),
            batch_size or len(parts[0]),
            device_ids or getattr(forward_func, "device_ids", None),
        )

    @property
    def n_samples(self) -> int:
        return len(self.inputs[0])

    @property
    def is_parallel(self) -> bool:
        """Whether replicas on several devices may share a batch."""
        return isinstance(self.forward_func, nn.DataParallel)

    @property
    def modules(self) -> list[nn.Module]:
        """What can be frozen while passes run."""
        return [self.forward_func] if isinstance(self.forward_func, nn.Module) else []

    @property
    def models(self) -> list[nn.Module]:
        """What must be held while passes run: the network, or those in a function around it."""
        return self.modules or models_in(self.forward_func)

    def on_one_device(self) -> Passes:
        """Without ``DataParallel``: for passes whose activations are replaced."""
        if not self.is_parallel:
            return self
        inner: nn.Module = self.forward_func.module  # type: ignore[attr-defined]
        device = device_of(inner)  # DataParallel takes inputs there, from wherever they are

        def moved(value: Any) -> Any:
            return value.to(device) if isinstance(value, Tensor) else value

        arguments = self.additional_forward_args
        return replace(
            self,
            forward_func=inner,
            inputs=tuple(map(moved, self.inputs)),
            additional_forward_args=None if arguments is None else tuple(map(moved, arguments)),
        )

    def __iter__(self) -> Iterator[tuple[slice, Callable[[], Any]]]:
        """Rows of each batch, and the pass that runs them."""
        for start in range(0, self.n_samples, self.batch_size):
            stop = min(start + self.batch_size, self.n_samples)
            yield slice(start, stop), partial(self._run, start, stop)

    def _run(self, start: int, stop: int) -> Any:
        def cut(value: Any) -> Any:
            has_samples = isinstance(value, Tensor) and value.ndim and len(value) == self.n_samples
            return value[start:stop] if has_samples else value

        arguments = self.additional_forward_args
        return run_forward(
            self.forward_func,
            tuple(map(cut, self.inputs)),
            additional_forward_args=None if arguments is None else tuple(map(cut, arguments)),
        )


def _differentiable(value: Any) -> Any:
    """A copy of a tensor made under ``torch.inference_mode``, which no gradient may pass."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _kinds(parts: Any) -> str:
    return ", ".join(type(part).__name__ for part in parts) or "empty"
