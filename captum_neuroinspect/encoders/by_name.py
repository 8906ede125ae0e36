"""Image-text encoders by a line of text, loaded when something needs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.fingerprint import backbone_fingerprint
from captum_neuroinspect._core.modules import device_of
from captum_neuroinspect.encoders._available import has_label_space, has_open_clip
from captum_neuroinspect.encoders.label_space_encoder import LabelSpaceEncoder
from captum_neuroinspect.encoders.open_clip_encoder import OpenCLIPEncoder
from captum_neuroinspect.encoders.protocol import ImageTextEncoder

__all__ = ["LazyEncoder", "find_encoder"]

_MEMBERS = ("network", "encode_image", "encode_text")
_SPECS = "'auto', 'none', 'label-space', 'openclip' or 'openclip:NAME/TAG'"


@dataclass(eq=False)
class LazyEncoder:
    """An :class:`ImageTextEncoder` that is loaded at its first use, and has a name before.

    Attributes:
        name: for people.
        load: makes it.
        known_as: names its weights, where a text does.
    """

    name: str
    load: Callable[[], ImageTextEncoder] = field(repr=False)
    known_as: str | None = None

    @cached_property
    def key(self) -> str:
        """Names it by its weights and answers, for caches."""
        return self.known_as or f"{self.name}:{_answers(self.encoder)}"

    @cached_property
    def encoder(self) -> ImageTextEncoder:
        return self.load()

    @cached_property
    def guide(self) -> LazyEncoder:
        """The same for guiding illusions: label space with flatter probabilities."""
        known_as = f"{self.known_as}, guide" if self.known_as else None
        return LazyEncoder(self.name, lambda: _as_guide(self.encoder), known_as)

    @property
    def network(self) -> nn.Module:
        return self.encoder.network

    def encode_image(self, images: Tensor) -> Tensor:
        return self.encoder.encode_image(images)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self.encoder.encode_text(texts)


def find_encoder(
    encoder: ImageTextEncoder | str | None, device: torch.device | str = "cpu"
) -> LazyEncoder | None:
    """Find an encoder by its name, or take the one that is given.

    Args:
        encoder: an encoder; ``None`` or ``"none"``; ``"label-space"``
            (:meth:`LabelSpaceEncoder.pretrained`, nothing to download); ``"openclip"`` or
            ``"openclip:NAME/TAG"`` (:class:`OpenCLIPEncoder`); or ``"auto"``: OpenCLIP when
            its weights are in the cache, else label space when its packages are
            installed, else none.
        device: for those that are loaded here.

    Raises:
        TypeError: for something that is no encoder.
        ValueError: for another text.

    Examples::

        >>> find_encoder("openclip:ViT-B-32/openai").name
        'openclip:ViT-B-32/openai'
    """
    if encoder is None:
        return None
    if isinstance(encoder, str):
        return _named(encoder, device)
    if isinstance(encoder, LazyEncoder):
        return encoder
    missing = [name for name in _MEMBERS if not hasattr(encoder, name)]
    if missing or isinstance(encoder, type):
        raise TypeError(
            f"encoder is {encoder!r}, expected {_SPECS}, or an object with {', '.join(_MEMBERS)}"
        )
    return LazyEncoder(type(encoder).__name__, lambda: encoder)


def _named(spec: str, device: torch.device | str) -> LazyEncoder | None:
    if spec == "auto":
        spec = "openclip" if has_open_clip() else "label-space" if has_label_space() else "none"
    if spec == "none":
        return None
    if spec == "label-space":
        return LazyEncoder(spec, lambda: _on(LabelSpaceEncoder.pretrained(), device), spec)
    if spec == "openclip":
        return LazyEncoder(spec, lambda: OpenCLIPEncoder(device=device), spec)
    name, _, tag = spec.removeprefix("openclip:").rpartition("/")
    if not spec.startswith("openclip:") or not name or not tag:
        raise ValueError(f"encoder={spec!r}, expected {_SPECS}")
    return LazyEncoder(spec, lambda: OpenCLIPEncoder(name, tag, device=device), spec)


def _answers(encoder: ImageTextEncoder) -> str:
    """What it makes of a picture and a text, beside its weights: two may share a network."""
    image = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    image = image.to(device_of(encoder.network))
    with torch.no_grad():
        found = [encoder.encode_image(image), encoder.encode_text(["a red bird"])]
    digest = hashlib.sha256(backbone_fingerprint(encoder.network).encode())
    for embedding in found:
        # Rounded, as the last digits depend on the number of threads.
        digest.update(repr([f"{x:.4g}" for x in _summary(embedding.float().cpu())]).encode())
    return digest.hexdigest()[:16]


def _as_guide(encoder: ImageTextEncoder) -> ImageTextEncoder:
    """Softened, unless its user chose a temperature."""
    if isinstance(encoder, LabelSpaceEncoder) and encoder.temperature == 1:
        return encoder.softened()
    return encoder


def _summary(embedding: Tensor) -> list[float]:
    weights = torch.arange(1, embedding.numel() + 1) / embedding.numel()
    flat = embedding.flatten()
    return [float(flat.abs().mean()), float((flat.abs() * weights).sum())]


def _on(encoder: Any, device: torch.device | str) -> Any:
    encoder.network.to(device)
    return encoder
