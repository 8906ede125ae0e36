"""What the loss of a batch of (neuron, class) pairs is made of."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect._modules import device_of, logits_of
from captum_neuroinspect.optvis._reader import Reading, UnitReader
from captum_neuroinspect.optvis.redirect import RedirectedReLU
from captum_neuroinspect.optvis.units import unit_activation

if TYPE_CHECKING:
    from captum_neuroinspect.encoders import ImageTextEncoder


class Scores(NamedTuple):
    """One value per image, each of shape ``(N,)`` and float32."""

    activation: Tensor
    logit: Tensor | None
    similarity: Tensor | None

    def cpu(self) -> Scores:
        logit = None if self.logit is None else self.logit.cpu()
        similarity = None if self.similarity is None else self.similarity.cpu()
        return Scores(self.activation.cpu(), logit, similarity)


@dataclass(frozen=True, eq=False)
class PairScorer:
    """Scores image i for (neuron, class) pair i.

    Attributes:
        reader: runs the classifier.
        neurons: a unit for each image, int64 ``(N,)`` on the model's device.
        n_units: how many units there are.
        classes: a class for each image, or ``None`` to leave the logit out.
        encoder: image-text encoder, or ``None`` to leave the similarity out.
        text: embedding of each image's class, ``(N, D)``, when there is an encoder.
        low_precision: run both networks under bfloat16 autocast.
    """

    reader: UnitReader
    neurons: Tensor
    n_units: int
    classes: Tensor | None = None
    encoder: ImageTextEncoder | None = None
    text: Tensor | None = None
    low_precision: bool = False

    def __len__(self) -> int:
        return len(self.neurons)

    def rows(self, start: int, stop: int) -> PairScorer:
        """The scorer of pairs ``start`` to ``stop - 1``."""
        return replace(
            self,
            neurons=self.neurons[start:stop],
            classes=None if self.classes is None else self.classes[start:stop],
            text=None if self.text is None else self.text[start:stop],
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
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.low_precision):
            with self._redirect(redirected):
                reading = self.reader(images)
            similarity = self._similarity(images)
        activation = unit_activation(reading.units, self.neurons).float()
        return Scores(activation, self._logit(reading.output), similarity), reading

    def _redirect(self, images: Tensor | None) -> AbstractContextManager[object]:
        if images is None or not images.any():
            return nullcontext()
        return RedirectedReLU(images, self.neurons, self.n_units)

    def _logit(self, output: object) -> Tensor | None:
        if self.classes is None:
            return None
        return logits_of(output).gather(1, self.classes.unsqueeze(1)).squeeze(1).float()

    def _similarity(self, images: Tensor) -> Tensor | None:
        if self.encoder is None or self.text is None:
            return None
        embedding = self.encoder.encode_image(images.to(device_of(self.encoder.network)))
        embedding = embedding.float().to(images.device)
        return F.cosine_similarity(embedding, self.text.to(images.device), dim=-1)
