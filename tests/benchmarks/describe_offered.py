"""The phrases that `describe_units.py` offers, and synthetic units, from the numbers it keeps."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from describe_units import Unit, _different, synthetic_units
from safetensors.torch import load_file
from torch import Tensor

from captum_neuroinspect.describe import ATTRIBUTES, word_list
from captum_neuroinspect.describe._embedding import embed_phrases
from captum_neuroinspect.describe.matching import TEMPLATES
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.models import imagenet_class_names


class Offered:
    """What is offered on the photos whose numbers are kept.

    Attributes:
        scores: ``(N, P)``.
        names: of the P phrases.
        embeddings: ``(N, D)`` of the photos, of length 1.
        texts: ``(W, D)`` of the words, which are the last W phrases.
    """

    def __init__(self, keep: Path) -> None:
        self._kept = load_file(keep)
        words = word_list(class_names=list(dict.fromkeys(imagenet_class_names())))
        texts = self._kept.get("texts")
        if texts is None:
            start = time.perf_counter()
            texts = embed_phrases(words, LabelSpaceEncoder.pretrained(), TEMPLATES, progress=False)
            print(f"{len(words)} words embedded in {time.perf_counter() - start:.0f} s")
        self.texts = texts
        self.embeddings = self._kept["embeddings"]
        self.scores: Tensor = torch.cat([self._kept["attributes"], self.embeddings @ texts.T], 1)
        self.names = _different([*ATTRIBUTES, *words])

    def units(self, seed: int) -> list[Unit]:
        """Eighty units of rules."""
        name = "logits1" if "logits1" in self._kept else "logits"
        return synthetic_units(self._kept[name], self._kept["attributes"], ATTRIBUTES, seed)
