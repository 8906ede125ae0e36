"""Classifier and encoder as one model, so that Lucent shows both the same image."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.head import find_head
from captum_neuroinspect._core.layout import traced
from captum_neuroinspect._core.modules import as_layer, device_of, frozen
from captum_neuroinspect.optvis.units.reader import Preprocess, UnitReader, captured_untouched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from captum_neuroinspect.encoders import ImageTextEncoder

# What Lucent answers by itself, whatever layers there are.
_LUCENT_NAMES = ("input", "labels")


class GuidedModel(nn.Module):
    """A classifier and an image-text encoder that look at one image, for Lucent.

    Two names that Lucent has for every model do not serve here. ``"input"`` is the image
    *before* the transforms: an objective that gave it to an encoder would compare a
    picture that the classifier never sees, and the transforms would no longer keep the
    encoder from being fooled. ``"labels"`` is whatever the module that was registered
    last gives: often the logits, but probabilities after a softmax (Lucent's
    ``InceptionV1``), and any inner layer where the order of registration is another
    than that of the forward pass.

    This model is run on the transformed image, gives it to both networks and exposes
    what they compute as layers:

    * ``features``: the input of the decision layer, ``(N, F)``;
    * ``logits``: the output of the decision layer, ``(N, C)``, which the model returns;
    * ``embedding``: the encoder's embedding of the image, ``(N, D)``;
    * one for each name in ``layers``, with ``_`` for ``.`` as Lucent has it, read before an
      operation that works in place can change it, and with its channels second: Lucent
      would take the rows of Swin's ``(N, H, W, C)`` for channels.

    The networks are kept outside of the module tree: Lucent hooks every submodule
    and never removes a hook, so it must not reach them (``clean_hooks`` is for models
    that it does reach). They run frozen and in eval mode, on the devices where they
    are, and are left as they were. Pass ``preprocess=False`` to ``render_vis``: images
    stay in 0..1 for the encoder.

    Args:
        model: the classifier.
        encoder: the image-text encoder; it gets the image clamped to 0..1, since
            transforms may leave that range.
        head: the decision layer; found when not given.
        preprocess: turns images in 0..1 into the classifier's input; ``None`` when it
            normalises by itself.
        example: images ``(N, 3, H, W)`` in 0..1 to find the head with; noise of 224
            pixels when not given.
        layers: dotted names of further layers of ``model`` to expose.

    Raises:
        TypeError: when ``head`` is not linear, or ``layers`` is one string.
        ValueError: when no head is found, its outputs are not as many as the model's,
            or a name in ``layers`` is unknown or taken: ``a_b.c`` and ``a.b_c`` are one
            name for Lucent, ``input`` and ``labels`` are its own.

    Examples::

        >>> from captum_neuroinspect.optvis import GuidedModel, clip_illusion
        >>> classifier = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 2))
        >>> class Encoder:
        ...     network = nn.Identity()
        ...     def encode_image(self, images):
        ...         return nn.functional.normalize(images.mean((2, 3)), dim=-1)
        >>> images = torch.rand(2, 3, 2, 2)
        >>> guided = GuidedModel(classifier, Encoder(), example=images)
        >>> guided(images).shape, [name for name, _ in guided.named_children()]
        (torch.Size([2, 2]), ['features', 'embedding', 'logits'])
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: ImageTextEncoder,
        head: nn.Linear | None = None,
        preprocess: Preprocess | None = None,
        example: Tensor | None = None,
        *,
        layers: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if isinstance(layers, str):
            raise TypeError(f"layers={layers!r}, expected a sequence of names")
        example = _example(example).to(device_of(model))
        head, self._reader = _reader_of(model, head, preprocess, example)
        # In tuples they are no submodules: Lucent's hooks stay off them.
        self._networks = (model, encoder)
        inner = [(name.replace(".", "_"), as_layer(model, name)) for name in layers]
        self._inner = (*inner, ("logits", head))
        self._channels_last = _channels_last(model, self._reader, example) if layers else ()
        # "logits" is last, so that Lucent's "labels" means it too.
        for name in ("features", "embedding", *(name for name, _ in self._inner)):
            self._add_layer(name)

    @property
    def networks_beside(self) -> tuple[nn.Module, nn.Module]:
        """What runs although it is no submodule: to be held with the model by one thread."""
        model, encoder = self._networks
        return model, encoder.network

    def forward(self, images: Tensor) -> Tensor:
        """Run both networks on images ``(N, 3, H, W)`` and return the logits ``(N, C)``."""
        model, encoder = self._networks
        with frozen(model, encoder.network), ExitStack() as stack:
            captured = [
                (name, module, stack.enter_context(captured_untouched(module)))
                for name, module in self._inner
            ]
            self._show("features", self._reader(images).units)
            seen = encoder.encode_image(images.clamp(0, 1).to(device_of(encoder.network)))
            self._show("embedding", seen.to(images.device))
            shown = [
                self._show(name, self._channels_second(module, output.value))
                for name, module, output in captured
            ]
        return shown[-1]

    def _add_layer(self, name: str) -> None:
        """Make a layer for a value, unless the name would mean two things."""
        if not name or name in _LUCENT_NAMES or hasattr(self, name):
            raise ValueError(
                f"layers has {name!r}, which is taken: Lucent, or another layer, has this name"
            )
        self.add_module(name, nn.Identity())

    def _channels_second(self, module: nn.Module, output: Tensor) -> Tensor:
        return output.movedim(-1, 1) if module in self._channels_last else output

    def _show(self, name: str, value: Tensor) -> Tensor:
        """Pass a value through its layer, where Lucent's hook reads it."""
        return self.get_submodule(name)(value)


def _example(example: Tensor | None) -> Tensor:
    if example is not None:
        return example
    return torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def _reader_of(
    model: nn.Module, head: nn.Linear | None, preprocess: Preprocess | None, example: Tensor
) -> tuple[nn.Linear, UnitReader]:
    """The decision layer, and what runs the classifier and reads its features."""
    with frozen(model), torch.no_grad():
        if head is None:
            head = find_head(model, example if preprocess is None else preprocess(example))
        return head, UnitReader(model, None, head, preprocess, example)


def _channels_last(model: nn.Module, reader: UnitReader, example: Tensor) -> frozenset[nn.Module]:
    """Layers that certainly give ``(N, H, W, C)``."""
    height, width = example.shape[-2:]
    with frozen(model), torch.no_grad(), traced(model, (height, width)) as trace:
        reader(example)
    return frozenset(
        module
        for module, output in trace.outputs.items()
        if trace.has_channels_last(module, output)
    )
