"""What the loss of a batch of (neuron, class) pairs is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect._core.modules import device_of, logits_of
from captum_neuroinspect.optvis._rendering.memory_format import format_for
from captum_neuroinspect.optvis._rendering.precision import bfloat16_pays
from captum_neuroinspect.optvis._shortcuts.separate_rows import separate_rows
from captum_neuroinspect.optvis._shortcuts.shortened import shortened
from captum_neuroinspect.optvis.illusion_options import Precision
from captum_neuroinspect.optvis.units.image_targets import ImageTargets
from captum_neuroinspect.optvis.units.reader import Reader, Reading

if TYPE_CHECKING:
    from captum_neuroinspect.encoders import ImageTextEncoder


class Scores(NamedTuple):
    """One value per image, each of shape ``(N,)`` and float32."""

    activation: Tensor
    logit: Tensor | None
    similarity: Tensor | None
    negative: Tensor | None = None

    def cpu(self) -> Scores:
        rest = (None if value is None else value.cpu() for value in self[1:])
        return Scores(self.activation.cpu(), *rest)

    @staticmethod
    def joined(parts: Sequence[Scores]) -> Scores:
        """The scores of several batches, which have the same values."""
        first, *rest = (joined(values) for values in zip(*parts, strict=True))
        assert first is not None  # every score has an activation
        return Scores(first, *rest)


class LowPrecision(NamedTuple):
    """Which networks run under bfloat16 autocast."""

    model: bool
    encoder: bool


FULL_PRECISION = LowPrecision(model=False, encoder=False)


def _outputs(reader: Reader, images: Tensor) -> list[Tensor]:
    reading = reader(images)
    maps = [reading.maps] if isinstance(reading.maps, Tensor) else []
    return [reading.units, logits_of(reading.output), *maps]


def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Tensors one after the other, or ``None`` when there are none."""
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


@dataclass(frozen=True, eq=False)
class PairScorer:
    """Scores image i for (neuron, class) pair i.

    Attributes:
        reader: runs the classifier.
        targets: a unit or direction for each of the N images.
        classes: a class for each image, int64 ``(N,)`` on the model's device, or
            ``None`` to leave the logit out.
        encoder: image-text encoder, or ``None`` to leave the similarity out.
        text: embedding of each image's class, ``(N, D)``, when there is an encoder.
        negative: embeddings ``(K, D)`` of what should be in no image, or ``None``.
        low_precision: which networks run under bfloat16 autocast.
        memory_format: of the images that both networks take.
    """

    reader: Reader
    targets: ImageTargets
    classes: Tensor | None = None
    encoder: ImageTextEncoder | None = None
    text: Tensor | None = None
    negative: Tensor | None = None
    low_precision: LowPrecision = FULL_PRECISION
    memory_format: torch.memory_format = torch.contiguous_format

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, rows: slice) -> PairScorer:
        """The scorer of some images."""
        return replace(
            self,
            targets=self.targets.rows(rows),
            classes=None if self.classes is None else self.classes[rows],
            text=None if self.text is None else self.text[rows],
        )

    def __call__(self, images: Tensor, redirected: Tensor | None = None) -> Scores:
        """Score images ``(N, C, H, W)`` in 0..1.

        Args:
            images: images on the model's device.
            redirected: images whose gradient may pass closed rectifiers of the
                classifier, bool ``(N,)``.
        """
        return self.with_reading(images, redirected)[0]

    def with_reading(
        self, images: Tensor, redirected: Tensor | None = None
    ) -> tuple[Scores, Reading]:
        """The scores and the classifier's pass that they come from."""
        device, low = images.device.type, self.low_precision
        with (
            torch.autocast(device, torch.bfloat16, enabled=low.model),
            self._redirect(redirected),
        ):
            reading = self.reader(images)
        with torch.autocast(device, torch.bfloat16, enabled=low.encoder):
            embedding = self._embedding(images)
        activation = self.targets.activation(reading.units)
        return Scores(activation, self._logit(reading.output), *self._likeness(embedding)), reading

    @contextmanager
    def shortened(self, example: Tensor) -> Iterator[None]:
        """Compute both networks with less work, and each image by itself, inside the block.

        Args:
            example: images ``(N, C, H, W)`` in 0..1 to try shortcuts with.
        """
        with ExitStack() as stack:
            reader, encoder = self.reader, self.encoder
            run = partial(_outputs, reader, example)
            stack.enter_context(shortened(reader.model, run, reader.layers))
            stack.enter_context(separate_rows(reader.model))
            if encoder is not None:
                run = partial(self._embeddings, example)
                stack.enter_context(shortened(encoder.network, run))
                stack.enter_context(separate_rows(encoder.network))
            yield

    def in_format(self, example: Tensor) -> PairScorer:
        """The scorer with the order of memory in which its networks are fast, tried on images."""

        def run(images: Tensor) -> list[Tensor]:
            return [*_outputs(self.reader, images), *self._embeddings(images)]

        return replace(self, memory_format=format_for(run, example))

    def in_precision(self, precision: Precision, example: Tensor) -> PairScorer:
        """The scorer with its networks in a precision; ``"auto"`` times them on an example."""
        if precision != "auto":
            low = precision == "bfloat16"
            return replace(self, low_precision=LowPrecision(low, low))
        example = example.contiguous(memory_format=self.memory_format)
        model = bfloat16_pays(lambda images: logits_of(self.reader(images).output), example)
        encoder = self.encoder is not None and bfloat16_pays(
            lambda images: torch.cat(self._embeddings(images)), example
        )
        return replace(self, low_precision=LowPrecision(model, encoder))

    def _embeddings(self, images: Tensor) -> list[Tensor]:
        embedding = self._embedding(images)
        return [] if embedding is None else [embedding]

    def _redirect(self, images: Tensor | None) -> AbstractContextManager[object]:
        if images is None or not images.any():
            return nullcontext()
        return self.targets.redirect(images)

    def _logit(self, output: object) -> Tensor | None:
        if self.classes is None:
            return None
        return logits_of(output).gather(1, self.classes.unsqueeze(1)).squeeze(1).float()

    def _embedding(self, images: Tensor) -> Tensor | None:
        if self.encoder is None:
            return None
        if images.shape[1] == 1:  # encoders know colours only
            images = images.expand(-1, 3, -1, -1).contiguous()
        embedding = self.encoder.encode_image(images.to(device_of(self.encoder.network)))
        return embedding.float().to(images.device)

    def _likeness(self, embedding: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Similarity to the class, and to the most similar of what is not wanted."""
        if embedding is None or self.text is None:
            return None, None
        similarity = F.cosine_similarity(embedding, self.text.to(embedding.device), dim=-1)
        if self.negative is None:
            return similarity, None
        unwanted = self.negative.to(embedding.device).unsqueeze(0)
        return similarity, F.cosine_similarity(embedding.unsqueeze(1), unwanted, dim=-1).amax(1)
