"""Lucent's objectives as units: one forward pass gives the value of each for each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_neuroinspect._core.head_watch import check_belongs
from captum_neuroinspect._core.layout import Trace, traced
from captum_neuroinspect._core.modules import (
    Captured,
    as_input,
    as_layer,
    captured_output,
    frozen,
    is_close,
    logits_of,
)
from captum_neuroinspect.optvis._lucent_words import LUCENT_NAMES, Objective, description
from captum_neuroinspect.optvis.units.maps import Kind, MapSource, find_gradient_source
from captum_neuroinspect.optvis.units.reader import Preprocess, Reading, captured_untouched

# No objective is asked whether it means more images than this.
_MOST_IMAGES = 64


class UnknownLayerError(ValueError):
    """An objective asks for a layer that the model does not have."""


class ObjectiveReader:
    """Runs a classifier on images in 0..1 and reads objectives, each a unit ``-value``.

    An objective is a mean over a batch. Where the mean over images by themselves is the same,
    each image gets its own value, and does not notice who shares its batch. Else (a term
    of diversity, a part ``batch=1``) the objective *ties* its images: all get the value of
    all, and they go through the networks together.

    ``"labels"`` are the logits, ``"input"`` is the image that the model sees, before
    ``preprocess``; in Lucent these are the output of the module registered last, and the
    image before the transforms. Channels are second in what an objective is given.

    Args:
        model: the classifier.
        objectives: functions of a function that gives a layer's output by its name.
        head: the decision layer, whose outputs are the logits; ``None``: the model's output.
        preprocess: applied to the images before the model.
        example: two images ``(2, C, H, W)`` in 0..1 on the model's device.

    Attributes:
        model: the classifier.
        place: what the units are, in words.
        maps_are: the kind of the maps.
        n_needed: images that the objective speaks of, at least 1.
        is_tied: whether images are tied.
        n_tied: how many.
        read: int64 ``(K, 2)``: the channel that each objective reads, and of how many; ``(0, 0)``
            for one that reads several. As of a unit, its closed rectifier is passed at first.

    Raises:
        UnknownLayerError: when a layer is not in the model.
        ValueError: when an objective gives no number; or one of several ties images.
    """

    def __init__(
        self,
        model: nn.Module,
        objectives: Sequence[Objective],
        head: nn.Linear | None,
        preprocess: Preprocess | None,
        example: Tensor,
    ) -> None:
        self.model, self._objectives, self._head = model, tuple(objectives), head
        self._preprocess = preprocess
        if head is not None:
            check_belongs(model, head, self._prepared(example))
        self.place = "objectives"
        self._layers: dict[str, nn.Module] = {}
        self._channels_last: set[str] = set()
        self.is_tied, self.n_needed, self.n_tied = False, 1, 1
        self.read: Tensor | None = None
        self._sources = self._explore(example)
        self.maps_are: Kind | None = "gradient" if any(self._sources) else None

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers that are read: their outputs must stay what they are."""
        sources = [source.module for source in self._sources if source is not None]
        return (*self._layers.values(), *sources)

    def __call__(self, images: Tensor) -> Reading:
        """The units ``(N, K)``, one for each objective."""
        if self.is_tied and len(images) != self.n_tied:
            # Asked for only when memory ran out; it is what is said if it does.
            raise MemoryError(f"the objective ties {self.n_tied} images, which stay together")
        units, output = self._pass(images)
        maps = partial(self._maps, images.detach()) if self.maps_are else None
        return Reading(units, output, maps)

    def _explore(self, example: Tensor) -> list[MapSource | None]:
        """Look at one pass: which layers are asked for, what is tied, and where the maps are."""
        size = (example.shape[-2], example.shape[-1])
        with frozen(self.model), torch.enable_grad(), traced(self.model, size) as trace:
            images = example.detach().requires_grad_()
            with self._captured_logits() as logits:
                output = self.model(self._prepared(images.clone()))
                output = output if logits is None else logits.value
            outputs = _Asked(self.model, trace, {"input": images, "labels": output})
            for number, objective in enumerate(self._objectives):
                self._look_at(number, objective, outputs)
            read = [(0, 0) if self.is_tied else _channel(one, outputs) for one in self._objectives]
            self.read = torch.tensor(read, dtype=torch.int64)
            self._layers, self._channels_last = outputs.layers, outputs.channels_last
        n_images = max(self.n_needed, len(example))
        images = example.detach().repeat(n_images, 1, 1, 1)[:n_images].requires_grad_()
        # Once more as `_pass` reads it: behind a layer that is read, others get a copy, which
        # an objective does not depend on.
        with frozen(self.model), torch.enable_grad(), traced(self.model, size) as trace:
            units, _ = self._pass(images.clone())
            return [find_gradient_source(trace, one) for one in units.split(1, dim=1)]

    def _look_at(self, number: int, objective: Objective, outputs: _Asked) -> None:
        """Find out whether it ties images, and how many; refuse what cannot be rendered."""
        together = _attempt(objective, outputs)
        alone = [_attempt(objective, partial(_row, outputs, row)) for row in range(2)]
        if together is not None and None not in alone:
            mean = torch.stack([value for value in alone if value is not None]).mean()
            if is_close(mean, together):
                return
        counts = range(1, _MOST_IMAGES + 1)
        has_value = (_attempt(objective, partial(_copies, outputs, n)) is not None for n in counts)
        n_needed = next((n for n, has in zip(counts, has_value, strict=False) if has), None)
        if n_needed is None:
            raise _no_value(objective, outputs)
        if len(self._objectives) > 1:
            raise ValueError(
                f"neurons: objective {number} ({description(objective)}) speaks of several "
                "images at once, expected it alone, with param=lambda: param.image(size, batch=n)"
            )
        self.is_tied, self.n_needed, self.n_tied = True, n_needed, n_needed

    def _pass(self, images: Tensor) -> tuple[Tensor, Any]:
        with ExitStack() as stack:
            captured = {
                name: stack.enter_context(captured_untouched(layer))
                for name, layer in self._layers.items()
            }
            logits = stack.enter_context(self._captured_logits())
            output = self.model(self._prepared(images))
            output = output if logits is None else logits.value
            values = {name: self._shown(name, one.value) for name, one in captured.items()}
        given = {"input": images, **values}
        return self._units(partial(_given, given, output), len(images)), output

    def _units(self, outputs: Callable[[str], Tensor], n_images: int) -> Tensor:
        if self.is_tied:
            return -_number(self._objectives[0](outputs)).expand(n_images, 1)
        rows = [
            torch.stack([_number(one(partial(_row, outputs, row))) for one in self._objectives])
            for row in range(n_images)
        ]
        return -torch.stack(rows)

    def _shown(self, name: str, output: Tensor) -> Tensor:
        return output.movedim(-1, 1) if name in self._channels_last else output

    @contextmanager
    def _captured_logits(self) -> Iterator[Captured | None]:
        if self._head is None:
            yield None
            return
        with captured_untouched(self._head) as captured:
            yield captured

    def _maps(self, images: Tensor, neurons: Tensor) -> Tensor:
        """Maps ``(N, h, w)`` by one more pass for each layer that they come from."""
        parts = []
        for number, source in enumerate(self._sources):
            rows = (neurons == number).nonzero().flatten()
            if len(rows):
                parts.append((rows, self._maps_from(source, images, neurons)[rows]))
        size = [max(part.shape[i] for _, part in parts) for i in (1, 2)]
        maps = images.new_zeros(len(images), *size)
        for rows, part in parts:
            enlarged = F.interpolate(part.unsqueeze(1).float(), size, mode="bilinear")
            maps[rows] = enlarged.squeeze(1)
        return maps

    def _maps_from(self, source: MapSource | None, images: Tensor, neurons: Tensor) -> Tensor:
        if source is None:
            return images.new_zeros(len(images), 1, 1)
        with frozen(self.model), torch.enable_grad(), captured_output(source.module) as output:
            units, _ = self._pass(images.requires_grad_().clone())
            return source.maps(output.value, units, neurons).detach()

    def _prepared(self, images: Tensor) -> Tensor:
        images = images if self._preprocess is None else self._preprocess(images)
        return as_input(self.model, images)


class _Asked:
    """Gives outputs of a pass by Lucent's names, and remembers which were asked for."""

    def __init__(self, model: nn.Module, trace: Trace, own: Mapping[str, Any]) -> None:
        self._model, self._trace, self._own = model, trace, own
        self.layers: dict[str, nn.Module] = {}
        self.channels_last: set[str] = set()

    def __call__(self, name: str) -> Tensor:
        if name in LUCENT_NAMES:
            return _given(self._own, self._own["labels"], name)
        try:
            layer = as_layer(self._model, name, "the objective's layer")
        except (TypeError, ValueError) as error:
            raise UnknownLayerError(str(error)) from None
        if layer not in self._trace.outputs:
            raise UnknownLayerError(f"the objective's layer={name!r} is not run by the model")
        self.layers[name], output = layer, self._trace.outputs[layer]
        if output.ndim == 0 or len(output) != len(self._own["input"]):
            raise UnknownLayerError(
                f"the objective's layer={name!r} gives shape {tuple(output.shape)} for "
                f"{len(self._own['input'])} images, expected one row for each"
            )
        if self._trace.has_channels_last(layer, output):
            self.channels_last.add(name)
            return output.movedim(-1, 1)
        return output


def _given(outputs: Mapping[str, Tensor], model_output: Any, name: str) -> Tensor:
    if name == "labels":
        return logits_of(model_output)
    if name not in outputs:
        raise UnknownLayerError(f"the objective asks for {name!r}, for which it did not at first")
    return outputs[name]


def _row(outputs: Callable[[str], Tensor], row: int, name: str) -> Tensor:
    return outputs(name)[row : row + 1]


def _copies(outputs: Callable[[str], Tensor], n_images: int, name: str) -> Tensor:
    """The first image, several times: enough to see whether an objective has a value."""
    first = outputs(name)[:1]
    return first.expand(n_images, *first.shape[1:])


def _attempt(objective: Objective, outputs: Callable[[str], Tensor]) -> Tensor | None:
    """The value, or ``None`` where there is none for so many images."""
    try:
        with np.errstate(all="ignore"):  # Lucent divides by the number of images less 1
            value = _number(objective(outputs)).detach()
    except UnknownLayerError:
        raise
    except Exception:  # whatever an objective says of images that are not there
        return None
    return value if bool(value.isfinite()) else None


def _channel(objective: Objective, outputs: Callable[[str], Tensor]) -> tuple[int, int]:
    """The one channel that an objective reads, and how many its layer has, or ``(0, 0)``."""
    leaves: dict[str, Tensor] = {}

    def leaf(name: str) -> Tensor:
        if name not in leaves:
            leaves[name] = _row(outputs, 0, name).detach().float().requires_grad_()
        return leaves[name]

    value = _number(objective(leaf))
    if len(leaves) != 1 or not value.requires_grad:
        return 0, 0
    ((name, read),) = leaves.items()
    if name in LUCENT_NAMES or read.ndim < 2:
        return 0, 0
    (gradient,) = torch.autograd.grad(value, read)
    channels = gradient.movedim(-1 if gradient.ndim == 3 else 1, 0)
    moving = channels.flatten(1).any(1).nonzero()[:, 0].tolist()
    return (moving[0], len(channels)) if len(moving) == 1 else (0, 0)


def _no_value(objective: Objective, outputs: Callable[[str], Tensor]) -> ValueError:
    why = "it is not finite"
    try:
        _number(objective(outputs))
    except Exception as error:  # the objective's own
        why = str(error)
    return ValueError(f"neurons: the objective {description(objective)} has no value: {why}")


def _number(value: Any) -> Tensor:
    value = torch.as_tensor(value)
    if value.numel() != 1:
        raise ValueError(f"the objective gives shape {tuple(value.shape)}, expected one number")
    return value.reshape(()).float()
