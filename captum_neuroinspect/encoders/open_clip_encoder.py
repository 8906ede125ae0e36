"""CLIP in any of OpenCLIP's versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.modules import device_of, frozen
from captum_neuroinspect.encoders import _open_clip_weights as open_clip_weights
from captum_neuroinspect.encoders._resize import fit
from captum_neuroinspect.encoders._text_cache import TextCache
from captum_neuroinspect.encoders.protocol import check_images

# Thousands of prompts at once would fill the memory.
_TEXTS_PER_BATCH = 256


class OpenCLIPEncoder:
    """Images and texts through a CLIP model of OpenCLIP, in float32 and eval mode.

    Weights that are not in the cache are downloaded. Even for cached ones the hub
    is asked whether they are up to date, and without a network its retries take
    close to a minute: ``HF_HUB_OFFLINE=1`` skips them.

    More details: https://github.com/mlfoundations/open_clip

    Args:
        name: one of ``open_clip.list_models()``, or ``"hf-hub:ORGANISATION/MODEL"``,
            or ``"local-dir:FOLDER"`` (a folder with ``open_clip_config.json`` and
            weights).
        pretrained: a tag of ``open_clip.list_pretrained_tags_by_model(name)``, or
            the path of a checkpoint file. A file says nothing of the mean and the
            standard deviation that the model wants: OpenCLIP's usual ones are
            taken; a folder has them. Not used with ``hf-hub:`` and ``local-dir:``.
        device: where the model shall be. Default: torch's default device.
        cache_dir: where downloads are kept. Default: the Hugging Face cache.

    Raises:
        TypeError: for a name that is not a string.
        ValueError: for an unknown model, tag, file or folder (the message lists
            the nearest ones), for weights that do not fit the model, and for
            ``pretrained=None`` where it would mean random weights.
        RuntimeError: when the weights are not in the cache and cannot be
            downloaded; the message says how to get them.

    Example:
        >>> encoder = OpenCLIPEncoder("ViT-B-32", "laion2b_s34b_b79k")  # doctest: +SKIP
        >>> images, texts = torch.rand(4, 3, 224, 224), ["a cat", "a dog"]
        >>> cosines = encoder.encode_image(images) @ encoder.encode_text(texts).T  # doctest: +SKIP
        >>> cosines.shape  # doctest: +SKIP
        torch.Size([4, 2])
    """

    def __init__(
        self,
        name: str = open_clip_weights.DEFAULT_NAME,
        pretrained: str | Path | None = open_clip_weights.DEFAULT_TAG,
        *,
        device: torch.device | str | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        self.name, self.pretrained = open_clip_weights.check_source(name, pretrained)
        self._model, self._tokenizer = open_clip_weights.load(
            self.name,
            self.pretrained,
            torch.get_default_device() if device is None else torch.device(device),
            None if cache_dir is None else str(cache_dir),
        )
        self._preprocess: dict[str, Any] = self._model.visual.preprocess_cfg
        self._text_cache = TextCache(self._embed_texts)

    def __repr__(self) -> str:
        return f"OpenCLIPEncoder(name={self.name!r}, pretrained={self.pretrained!r})"

    @property
    def network(self) -> nn.Module:
        """The image tower."""
        return self._model.visual

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, in pixels, to which images are resized."""
        size = self._preprocess["size"]
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed images, resized and normalised as the model was trained.

        Args:
            images: (N, 3, H, W) in 0..1.

        Returns:
            Embeddings (N, D) of length 1, differentiable with respect to ``images``,
            on the model's device.

        Raises:
            TypeError: for images that are not floating point.
            ValueError: for another shape, NaN or values outside 0..1.
        """
        check_images(images)
        images = images.to(next(self.network.parameters()))
        with frozen(self.network):
            embeddings = self._model.encode_image(self._normalise(images))
        return F.normalize(embeddings.to(images.dtype), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (N, D) of length 1, on the model's device; remembered.

        Raises:
            TypeError: for a single string or an item that is not a string.
            ValueError: for no texts.
        """
        return self._text_cache(texts).to(device_of(self._model))

    def _normalise(self, images: Tensor) -> Tensor:
        config = self._preprocess
        # OpenCLIP reads every other word ("random") as bicubic too.
        bilinear = config["interpolation"] == "bilinear"
        images = fit(images, self.image_size, config["resize_mode"], bicubic=not bilinear)
        mean, std = (images.new_tensor(config[key]).view(-1, 1, 1) for key in ("mean", "std"))
        return (images - mean) / std

    def _embed_texts(self, texts: list[str]) -> Tensor:
        device = device_of(self._model)
        with exclusive(self._model):  # a tokenizer refuses to be used by two threads at once
            tokens = self._tokenizer(texts).to(device)
        # What is kept must not depend on the autocast of whoever asks first.
        with torch.autocast(device.type, enabled=False), frozen(self._model):
            parts = [self._model.encode_text(part) for part in tokens.split(_TEXTS_PER_BATCH)]
        return torch.cat(parts)
