"""One forward pass of a classifier that also gives the units and where they are active."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from captum_neuroinspect._head import check_head, find_head
from captum_neuroinspect._modules import (
    Captured,
    as_layer,
    captured_input,
    captured_output,
    module_name,
)
from captum_neuroinspect.optvis.units import find_feature_map

Preprocess = Callable[[Tensor], Tensor]


class Reading(NamedTuple):
    """What one pass gives.

    Attributes:
        units: ``(N, F)``, ``(N, C, H, W)`` or ``(N, T, D)``.
        output: whatever the model returned.
        maps: the same units at their positions, ``(N, F, h, w)``; ``None`` where
            they have none.
    """

    units: Tensor
    output: Any
    maps: Tensor | None


class UnitReader:
    """Runs a classifier on images in 0..1 and reads the units to be visualised.

    Args:
        model: the classifier.
        layer: a module of it or its dotted name: the outputs are the units.
            ``None``: the inputs of the decision layer are.
        head: the decision layer, for ``layer=None``; found when not given.
        preprocess: applied to the images before the model.
        example: images ``(N, C, H, W)`` in 0..1 on the model's device, to find the
            head and the feature map with.

    Raises:
        TypeError: when ``head`` is not linear or ``layer`` is no module or name.
        ValueError: when ``layer`` or ``head`` is not in the model, or both are given.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str | None,
        head: nn.Linear | None,
        preprocess: Preprocess | None,
        example: Tensor,
    ) -> None:
        if layer is not None and head is not None:
            raise ValueError(
                "layer and head are both given, expected one: a layer means its outputs, "
                "no layer means the inputs of the head"
            )
        self._model, self._preprocess = model, preprocess
        self._reads_input = layer is None
        self._source: nn.Module
        self._map_source: nn.Module | None
        if layer is None:
            self._source, self._map_source = self._find(head, self._prepared(example))
        else:
            self._source, self._map_source = as_layer(model, layer), None
        self.place = _place(model, self._source, self._reads_input)

    def __call__(self, images: Tensor) -> Reading:
        read_units = captured_input if self._reads_input else captured_untouched
        with ExitStack() as stack:
            units = stack.enter_context(read_units(self._source))
            maps = None if self._reads_input else units
            if self._map_source is not None:
                maps = stack.enter_context(captured_output(self._map_source))
            output = self._model(self._prepared(images))
            # Tensors are taken while the hooks live; afterwards they are gone.
            return Reading(units.value, output, None if maps is None else maps.value)

    def _find(self, head: nn.Linear | None, example: Tensor) -> tuple[nn.Linear, nn.Module | None]:
        head = find_head(self._model, example) if head is None else check_head(head)
        module_name(self._model, head)
        return head, find_feature_map(self._model, head, example)

    def _prepared(self, images: Tensor) -> Tensor:
        return images if self._preprocess is None else self._preprocess(images)


@contextmanager
def captured_untouched(module: nn.Module) -> Iterator[Captured]:
    """Read a module's output as the module gave it.

    What runs next gets a copy: a ReLU or a sum that works in place would otherwise
    change what is read, as it does in Lucent.
    """
    with captured_output(module) as captured:
        handle = module.register_forward_hook(lambda _, __, output: _copy(output))
        try:
            yield captured
        finally:
            handle.remove()


def _copy(output: Any) -> Any:
    return output.clone() if isinstance(output, Tensor) else output


def _place(model: nn.Module, source: nn.Module, reads_input: bool) -> str:
    return f"{'input' if reads_input else 'output'} of {module_name(model, source) or 'the model'}"
