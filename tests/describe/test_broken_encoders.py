"""Encoders and evidence that have no words: refused, not called unlikely."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_neuroinspect.describe import SeenPhotos, describe_neurons

PICTURES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Encoder:
    """A space of three numbers, in which something may be wrong."""

    network = nn.Identity()

    def __init__(self, *, factor: float = 1.0, n_lost: int = 0) -> None:
        self.factor, self.n_lost = factor, n_lost

    def encode_image(self, images: Tensor) -> Tensor:
        found = nn.functional.normalize(images.mean((2, 3)), dim=1) * self.factor
        return found[: len(found) - self.n_lost]

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[float(w in text) for w in ("red", "green")] + [1] for text in texts])


def described(encoder: object = None, **others: object) -> object:
    given: dict[str, object] = {"phrases": ["red", "green"], **others}
    evidence = given.pop("evidence", {1: PICTURES})
    return describe_neurons(evidence, encoder or Encoder(), **given)  # type: ignore[arg-type]


def test_embeddings_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="the encoder gave NaN or infinite embeddings of images"):
        described(Encoder(factor=float("nan")))
    with pytest.raises(ValueError, match="the encoder gave NaN or infinite embeddings of images"):
        SeenPhotos.of(PICTURES, Encoder(factor=float("nan")))
    with pytest.raises(ValueError, match="background has NaN or infinite embeddings"):
        described(background=torch.full((2, 3), torch.nan))


def test_an_encoder_that_loses_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gave \(2, 3\) for 3 images, expected \(3, D\)"):
        described(Encoder(n_lost=1))


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(TypeError, match="encoder is str, expected an object with encode_image"):
        described("label-space")


def test_neurons_and_numbers_are_whole() -> None:
    with pytest.raises(TypeError, match=r"neuron=1\.7, expected a whole number"):
        described(evidence={1.7: PICTURES[:1], 1.2: PICTURES[1:]})
    for name in ("n_phrases", "batch_size"):
        with pytest.raises(TypeError, match=rf"{name}=1\.5, expected a whole number"):
            described(**{name: 1.5})
