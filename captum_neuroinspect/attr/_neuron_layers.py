"""The two places in a model that neuron saliency reads: the neurons and the maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.layout import Shapes, shapes_noted
from captum_neuroinspect._core.modules import Captured
from captum_neuroinspect._core.sites import Site


@contextmanager
def read_neurons(layer: nn.Module, at_input: bool) -> Iterator[Captured]:
    """Read a copy of what a layer takes or gives: what runs next may work in place."""
    captured = Captured()
    with Site(layer, at_input).visited(lambda value: captured.store(value.clone())):
        yield captured


@contextmanager
def starting_at(layer: nn.Module) -> Iterator[Captured]:
    """Let the graph start at the maps of ``layer``, in its own layout, which become leaves."""
    captured = Captured()

    def cut(output: Tensor) -> Tensor:
        if not _is_map(output):
            raise ValueError("cam_layer does not give maps (N, C, h, w), choose another module")
        captured.store(output.detach().clone().requires_grad_())
        return captured.value.clone()  # a leaf may not be changed in place, its copy may

    with Site(layer, at_input=False).visited(cut):
        yield captured


def _is_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1


@dataclass(frozen=True)
class Probe:
    """What one forward pass says of a layer; :func:`probe` makes it.

    Attributes:
        shapes: what modules take and give, which tells channels from positions.
        value: what the layer took or gave.
        calls: every module that ran, in the order in which they ended, and whether
            it gave maps ``(N, C, h, w)`` of the picture.
        n_before_input: how many of them had ended when the layer began.
        n_before_output: and when it ended, itself included.
    """

    shapes: Shapes
    value: Tensor
    calls: tuple[tuple[nn.Module, bool], ...]
    n_before_input: int
    n_before_output: int

    def last_maps(self, at_input: bool) -> nn.Module:
        """The module that gave the last maps before the neurons were read.

        Raises:
            ValueError: when none did.
        """
        n_before = self.n_before_input if at_input else self.n_before_output
        # A module that runs again later would be read by its last call: not what is wanted.
        again = {module for module, _ in self.calls[n_before:]}
        for module, gives_maps in reversed(self.calls[:n_before]):
            if gives_maps and module not in again:
                return module
        raise ValueError(
            "no module that runs before the neurons of `layer` gives maps (N, C, h, w), "
            "which gradcam needs"
        )


def probe(
    model: nn.Module, layer: nn.Module, at_input: bool, inputs: Tensor, args: Sequence[Any]
) -> Probe:
    """Run the model once, without gradients, and watch what runs when."""
    calls: list[tuple[nn.Module, torch.Size | None]] = []
    n_before = {"input": 0, "output": 0}

    def ended(module: nn.Module, _: Any, output: Any) -> None:
        calls.append((module, output.shape[1:] if _is_map(output) else None))
        if module is layer:
            n_before["output"] = len(calls)

    def began(*_: Any) -> None:
        n_before["input"] = len(calls)

    with ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            hooks.callback(module.register_forward_hook(ended).remove)
        hooks.callback(layer.register_forward_pre_hook(began).remove)
        shapes = hooks.enter_context(shapes_noted(model))
        seen = hooks.enter_context(read_neurons(layer, at_input))
        model(inputs.clone(), *args)
        is_plane = _planes({shape for _, shape in calls if shape is not None}, shapes)
        of_picture = tuple((module, shape in is_plane) for module, shape in calls)
        return Probe(shapes, seen.value, of_picture, n_before["input"], n_before["output"])


def _planes(maps: set[torch.Size], shapes: Shapes) -> set[torch.Size]:
    """Which maps have the picture's positions, and not an attention's heads and tokens."""
    n_tokens = {shape[0] for shape in shapes.last if len(shape) == 2}
    known = {
        shape
        for shape in maps & (shapes.first | shapes.last)
        # A convolution may have as many channels as there are tokens.
        if n_tokens.isdisjoint(shape[1:] if shape in shapes.first else shape)
    }
    return known or maps
