"""Classifier and encoder as one model, so that Lucent shows both the same image."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from captum_neuroinspect._modules import as_layer, device_of, frozen, logits_of
from captum_neuroinspect.optvis._reader import Preprocess, UnitReader, captured_untouched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from captum_neuroinspect.encoders import ImageTextEncoder


class GuidedModel(nn.Module):
    """A classifier and an image-text encoder that look at one image, for Lucent.

    In Lucent's ``render_vis`` the name ``"input"`` means the image *before* the
    transforms. An objective that gave it to an encoder would compare a picture that
    the classifier never sees, and the transforms would no longer keep the encoder
    from being fooled. This model is run on the transformed image, gives it to both
    networks and exposes what they compute as layers:

    * ``features``: the input of the decision layer, ``(N, F)``;
    * ``logits``: ``(N, C)``, also the model's output;
    * ``embedding``: the encoder's embedding of the image, ``(N, D)``;
    * one for each name in ``layers``, with ``_`` for ``.`` as Lucent has it.

    The networks are kept outside of the module tree: Lucent hooks every submodule
    and never removes a hook, so it must not reach them. They run frozen and in eval
    mode, on the devices where they are, and are left as they were.

    Args:
        model: the classifier.
        encoder: the image-text encoder; it gets the image clamped to 0..1, since
            transforms may leave that range.
        head: the decision layer; found when not given.
        preprocess: turns images in 0..1 into the classifier's input; ``None`` when it
            normalises by itself. Pass ``preprocess=False`` to ``render_vis``.
        example: images ``(N, 3, H, W)`` in 0..1 to find the head with; noise of 224
            pixels when not given.
        layers: dotted names of further layers of ``model`` to expose.

    Raises:
        TypeError: when ``head`` is not linear.
        ValueError: when no head is found, or a name in ``layers`` is unknown or taken.

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
        if example is None:
            example = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        with frozen(model):
            reader = UnitReader(model, None, head, preprocess, example.to(device_of(model)))
        # In tuples they are no submodules: Lucent's hooks stay off them.
        self._networks = (model, encoder)
        self._reader = reader
        self._inner = tuple((name.replace(".", "_"), as_layer(model, name)) for name in layers)
        # Lucent's "labels" is the output of the last module: the logits.
        for name in ("features", "embedding", *(name for name, _ in self._inner), "logits"):
            if name in self._modules:
                raise ValueError(f"layers has {name!r}, which is the name of another layer here")
            self.add_module(name, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        """Run both networks on images ``(N, 3, H, W)`` and return the logits ``(N, C)``."""
        model, encoder = self._networks
        with frozen(model, encoder.network), ExitStack() as stack:
            captured = [
                (name, stack.enter_context(captured_untouched(module)))
                for name, module in self._inner
            ]
            reading = self._reader(images)
            for name, output in captured:
                self._show(name, output.value)
            self._show("features", reading.units)
            self._show("embedding", encoder.encode_image(images.clamp(0, 1)))
            return self._show("logits", logits_of(reading.output))

    def _show(self, name: str, value: Tensor) -> Tensor:
        """Pass a value through its layer, where Lucent's hook reads it."""
        return self.get_submodule(name)(value)
