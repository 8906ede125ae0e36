"""What a model is beside its name: a path may hold other weights later, and a file other code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from captum_neuroinspect._core.files import checksum
from captum_neuroinspect._core.fingerprint import (
    backbone_fingerprint,
    tensor_fingerprint,
    text_fingerprint,
)
from captum_neuroinspect.encoders.by_name import LazyEncoder
from captum_neuroinspect.models import LoadedModel

_IN_FILE = re.compile(r"(.+\.py):\w+")


@dataclass(frozen=True)
class ModelIdentity:
    """What results depend on, as far as a call does not say it.

    Attributes:
        fingerprint: of all weights.
        preprocessing: of how photos are resized, and what becomes of grey pixels.
        model_file: digest of the Python file that made the model; ``None`` for a library's. What
            the file imports does not count.
    """

    fingerprint: str
    preprocessing: str
    model_file: str | None

    @classmethod
    def of(cls, loaded: LoadedModel, spec: str) -> ModelIdentity:
        """Of a model, and of the text that it was loaded by."""
        greys = torch.linspace(0, 1, 5).reshape(5, 1, 1, 1).expand(5, 3, *loaded.view.size)
        made = loaded.preprocess(greys.clone())
        text = f"{loaded.view!r} {tensor_fingerprint(made) if isinstance(made, Tensor) else ''}"
        in_file = _IN_FILE.fullmatch(spec)
        return cls(
            backbone_fingerprint(loaded.model),
            text_fingerprint(text),
            checksum(Path(in_file[1]).expanduser()) if in_file else None,
        )


def encoder_fingerprint(named: LazyEncoder) -> str:
    """Of an encoder, which is loaded for it: ``"auto"`` may find another one the next time."""
    return f"{named.name}:{backbone_fingerprint(named.encoder.network)}"


def check_same(loaded: LoadedModel, fingerprint: str) -> LoadedModel:
    """The model that a worker loaded.

    Raises:
        RuntimeError: when it is not the one that the call began with.
    """
    if backbone_fingerprint(loaded.model) != fingerprint:
        raise RuntimeError(
            "a worker loaded different weights: give weights= or a seed, so that the model is the "
            "same each time it is loaded"
        )
    return loaded
