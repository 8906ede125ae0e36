"""One forward pass of a classifier that also gives the units and where they are active."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.head import find_head
from captum_neuroinspect._core.head_watch import check_belongs
from captum_neuroinspect._core.layout import Layout, traced
from captum_neuroinspect._core.modules import (
    Captured,
    as_input,
    as_layer,
    captured_input,
    captured_output,
    frozen,
    is_close,
    module_name,
)
from captum_neuroinspect.optvis._rectifiers import captured_before_rectifier
from captum_neuroinspect.optvis.units.activation import (
    Token,
    UnitMaps,
    check_token,
    find_feature_map,
    one_token,
)
from captum_neuroinspect.optvis.units.maps import (
    Kind,
    MapSource,
    find_gradient_source,
    find_source,
)

Preprocess = Callable[[Tensor], Tensor]


class Reading(NamedTuple):
    """What one pass gives.

    Attributes:
        units: ``(N, F)``, ``(N, C, H, W)`` or ``(N, T, D)``.
        output: whatever the model returned; the outputs of the head where one was given.
        maps: the same units at their positions, ``(N, F, h, w)``; or, where that
            takes another pass, a function for
            :func:`~captum_neuroinspect.optvis.units.activation.activation_map`, so that a step
            of an optimisation costs no more; ``None`` where there are none.
    """

    units: Tensor
    output: Any
    maps: Tensor | UnitMaps | None


class Reader(Protocol):
    """What scores images: runs a classifier, and reads units."""

    model: nn.Module
    place: str
    maps_are: Kind | None
    read: Tensor | None

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers that are read: their outputs must stay what they are."""
        ...

    def __call__(self, images: Tensor) -> Reading:
        """One pass."""
        ...


class UnitReader:
    """Runs a classifier on images in 0..1 and reads the units to be visualised.

    Args:
        model: the classifier.
        layer: a module of it or its dotted name: the outputs are the units; those of
            shape ``(N, H, W, C)`` are given as ``(N, C, H, W)``, and the windows of an image,
            rows of their own in Swin, as its tokens. ``None``: the inputs of the decision
            layer are the units.
        head: the decision layer; for ``layer=None`` it is found when not given. Where it is
            given its outputs are the logits, whatever the model makes of them.
        preprocess: applied to the images before the model.
        example: images ``(N, C, H, W)`` in 0..1 on the model's device, to find the
            head and the maps with.
        token: for a layer of tokens ``(N, T, D)``, what stands for an image: the
            ``"mean"`` over tokens, ``"cls"`` (the first token) or a token's number.
        before_rectifier: whether maps show what goes into a rectifier at the end of their
            layer, which tells places apart where the rectifier is closed or saturated.

    Attributes:
        model: the classifier.
        place: where the units are, in words.
        maps_are: the kind of their maps, as :mod:`captum_neuroinspect.optvis.units.maps` has
            it, or ``"output"`` when the units have positions themselves; or ``None``.
        maps_place: the layer that the maps come from, in words, or ``None``.
        read: ``None``: the units are channels, and not objectives that read some.

    Raises:
        TypeError: when ``head`` is not linear or ``layer`` is no module or name.
        ValueError: when ``layer`` or ``head`` is not in the model, the head's output is not
            one of the model's, or the layer has no row per image, a layout that
            is not certain, or not the token.
    """

    read: Tensor | None = None

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str | None,
        head: nn.Linear | None,
        preprocess: Preprocess | None,
        example: Tensor,
        *,
        token: Token = "mean",
        before_rectifier: bool = False,
    ) -> None:
        self.model, self._preprocess = model, preprocess
        self._head, self._before = head, before_rectifier
        if head is not None:
            check_belongs(model, head, self._prepared(example))
        check_token(token)
        self._reads_input, self._token = layer is None, token
        self._layout, self._n_windows = Layout(), 1
        self._maps: MapSource | None
        self._source: nn.Module
        if layer is None:
            self._source, self._maps = self._find(self._prepared(example))
        else:
            self._source, self._maps = as_layer(model, layer), None
        if self._maps is None:
            self._maps = self._explore(example)
        if self._n_windows > 1:
            self._check_windows(example)
        self.place = _place(model, self._source, self._reads_input)
        self.maps_are: Kind | None = None if self._maps is None else self._maps.kind
        self.maps_place = None if self._maps is None else _place(model, self._maps.module, False)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers that are read: their outputs must stay what they are."""
        return (self._source,) if self._maps is None else (self._source, self._maps.module)

    def __call__(self, images: Tensor) -> Reading:
        with ExitStack() as stack:
            units = stack.enter_context(self._captured_units())
            plain = None
            if self._maps is not None and self._maps.is_plain and not self._before:
                plain = stack.enter_context(captured_output(self._maps.module))
            logits = None
            if self._head is not None:
                logits = stack.enter_context(captured_untouched(self._head))
            output = self.model(self._prepared(images))
            # Tensors are taken while the hooks live; afterwards they are gone.
            values = self._as_units(units.value)
            output = output if logits is None else logits.value
            return Reading(values, output, self._maps_of(images, values, plain))

    def _find(self, example: Tensor) -> tuple[nn.Linear, MapSource | None]:
        head = find_head(self.model, example) if self._head is None else self._head
        module = find_feature_map(self.model, head, example)
        return head, None if module is None else MapSource(module, Layout(), "mean")

    def _explore(self, example: Tensor) -> MapSource | None:
        """Look at one pass: how the units lie, and which layer shows where they are active."""
        # One image: its graph is no larger than that of the smallest optimisation step.
        image, size = example[:1].detach(), (example.shape[-2], example.shape[-1])
        with (
            frozen(self.model),
            torch.enable_grad(),
            traced(self.model, size) as trace,
            self._captured_units() as captured,
        ):
            # A clone: a model may work in place on its input, which a leaf does not allow.
            self.model(self._prepared(image.requires_grad_().clone()))
            output = captured.value
            if not self._reads_input:
                self._n_windows = len(output)
                one_token(output, self._token)
                self._layout = trace.layout(self._source, output) or Layout()
                if self._n_windows == 1 and self._layout.has_positions(output):
                    return MapSource(self._source, self._layout, "output")
            units = self._as_units(output)
            if _is_flat(units):
                return find_source(trace, units.flatten(1))
            # Windows, and tokens without a plane: where what they were made of counts.
            return find_gradient_source(trace, units.mean(1)) if units.ndim == 3 else None

    def _check_windows(self, example: Tensor) -> None:
        """Refuse rows of which those of an image do not follow each other."""
        with frozen(self.model), torch.no_grad(), self._captured_units() as captured:
            self.model(self._prepared(example[:2]))
            both = captured.value
            self.model(self._prepared(example[:1]))
            one, n_rows = captured.value, self._n_windows
        if self._token != "mean":
            raise ValueError(f"token={self._token!r}, expected 'mean' for a layer of windows")
        if len(both) != 2 * n_rows or not is_close(both[:n_rows], one):
            raise ValueError(
                f"the layer's output has shape {tuple(one.shape)} for a single image, expected "
                "one row, or several that follow each other: choose a layer outside of folded "
                "batches"
            )

    def _captured_units(self) -> AbstractContextManager[Captured]:
        return (captured_input if self._reads_input else captured_untouched)(self._source)

    def _as_units(self, output: Tensor) -> Tensor:
        if self._n_windows > 1:
            return _tokens(output, self._layout).unflatten(0, (-1, self._n_windows)).flatten(1, 2)
        if output.ndim == 3:
            return one_token(output, self._token)
        return self._layout.maps(output) if output.ndim == 4 else output

    def _maps_of(
        self, images: Tensor, units: Tensor, plain: Captured | None
    ) -> Tensor | UnitMaps | None:
        if self._maps is None or plain is not None:
            return None if plain is None else plain.value
        if self._maps.kind == "output" and units.ndim == 4 and not self._before:
            return units
        return partial(self._maps_later, self._maps, images.detach())

    def _maps_later(self, source: MapSource, images: Tensor, neurons: Tensor) -> Tensor:
        """Maps ``(N, h, w)`` by one more pass over the images."""
        with (
            frozen(self.model),
            torch.set_grad_enabled(source.kind == "gradient"),
            self._captured_maps(source) as output,
            self._captured_units() as units,
        ):
            self.model(self._prepared(images.requires_grad_().clone()))
            values = self._as_units(units.value)
            values = values.mean(1) if values.ndim == 3 else values
            return source.maps(output.value, values, neurons).detach()

    def _captured_maps(self, source: MapSource) -> AbstractContextManager[Captured]:
        if self._before and source.kind in ("output", "mean"):
            return captured_before_rectifier(source.module)
        return captured_output(source.module)

    def _prepared(self, images: Tensor) -> Tensor:
        images = images if self._preprocess is None else self._preprocess(images)
        return as_input(self.model, images)


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


def _tokens(windows: Tensor, layout: Layout) -> Tensor:
    """Windows ``(M, T, D)``, ``(M, D)`` or maps of them, as ``(M, T, D)``."""
    if windows.ndim == 4:
        return layout.maps(windows).flatten(2).transpose(1, 2)
    return windows.unsqueeze(1) if windows.ndim == 2 else windows


def _is_flat(units: Tensor) -> bool:
    """Whether there is one number per unit, (N, F) or (N, F, 1, 1)."""
    return units.ndim in (2, 4) and units[0, 0].numel() == 1
