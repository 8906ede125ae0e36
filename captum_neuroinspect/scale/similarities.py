"""Similarities of many photos to phrases: collected like features, by an image-text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect.describe._embedding import embed_phrases
from captum_neuroinspect.describe.matching import TEMPLATES
from captum_neuroinspect.describe.vocabulary import without_repeats, word_list
from captum_neuroinspect.encoders import find_encoder
from captum_neuroinspect.encoders.protocol import ImageTextEncoder
from captum_neuroinspect.models import load_model
from captum_neuroinspect.scale._model_identity import ModelIdentity, encoder_fingerprint
from captum_neuroinspect.scale._plan import refuse_pickled
from captum_neuroinspect.scale.features import (
    Collecting,
    FeatureParts,
    MakeCollecting,
    as_text,
    collect_parts,
)
from captum_neuroinspect.scale.options import ScaleOptions
from captum_neuroinspect.scale.photo_lists import PhotoList


def collect_similarities_at_scale(
    spec: str,
    source: str | Path,
    out: str | Path,
    *,
    encoder: str,
    phrases: Sequence[str] | None = None,
    templates: Sequence[str] = TEMPLATES,
    weights: str | Path | None = None,
    options: ScaleOptions | None = None,
) -> FeatureParts:
    """Collect the cosines of many photos and phrases into a folder, by many processes.

    The folder is like that of :func:`collect_features_at_scale`, and is finished in the same way
    through faults: its ``logits`` are the cosines ``(N, P)``, its ``class_names`` the phrases, its
    ``features`` the photos' embeddings. Labels play no role: all are 0.

    Args:
        spec: of the model whose units are to be described: photos are seen as it sees them.
        source: photos, as :meth:`PhotoList.of` takes them; for descriptions the same.
        out: a folder of the work alone.
        encoder: by the name that ``find_encoder`` takes, such as ``"openclip"``. Every worker
            loads it.
        phrases: what may be said. None: the built-in words and the model's class names.
        templates: sentences in which ``{}`` stands for the phrase.
        weights: of the model, as in :func:`collect_features_at_scale`.
        options: pieces and workers.

    Returns:
        The finished folder.

    Raises:
        ImportError: when a package is missing; says how to install it.
        TypeError: for phrases that are no strings.
        ValueError: for fewer than two phrases, no or an unknown encoder, and as in
            :func:`collect_features_at_scale`.
        RuntimeError: as there, and so
        OSError: is raised.
    """
    options = options or ScaleOptions()
    refuse_pickled(weights)
    loaded = load_model(spec, weights=weights)
    class_names, identity = loaded.class_names, ModelIdentity.of(loaded, spec)
    del loaded
    names = word_list(class_names=class_names or ())
    if phrases is not None:
        names = without_repeats(check_texts("phrases", phrases))
    if len(names) < 2:
        raise ValueError(f"phrases has {len(names)} different ones, expected at least 2")
    device = "auto" if options.gpus else "cpu"
    named = find_encoder(encoder)
    if named is None:
        raise ValueError(f"encoder={encoder!r} is none, expected one that compares with phrases")
    listed = PhotoList.of(source, class_names)
    name, of_encoder = named.name, encoder_fingerprint(named)
    del named
    made = _MakeSimilarities(
        str(out), str(listed.root.resolve()), listed.kind, spec, weights, None, names,
        options.batch_size, device, identity.fingerprint, name, tuple(templates),
    )  # fmt: skip
    asked = {
        "model": as_text(spec=spec, weights=weights),
        "encoder": encoder,
        "templates": list(templates),
        "encoder_fingerprint": of_encoder,
        **asdict(identity),
    }  # fmt: skip
    return collect_parts(made, listed, asked, options)


@dataclass(frozen=True)
class _MakeSimilarities(MakeCollecting):
    """What is sent to a worker; ``class_names`` are the phrases."""

    encoder: str
    templates: tuple[str, ...]

    def __call__(self) -> Collecting:
        named = find_encoder(self.encoder, self.device)
        assert named is not None
        assert self.class_names is not None
        texts = embed_phrases(self.class_names, named.encoder, self.templates, progress=False)
        model = _PhraseModel(named.encoder, texts)
        seen = replace(self.loaded(), model=model, preprocess=nn.Identity())
        return Collecting(self, seen, is_labelled=False)


class _PhraseModel(nn.Module):
    """An encoder as a classifier: its logits are the cosines with phrases."""

    def __init__(self, encoder: ImageTextEncoder, texts: Tensor) -> None:
        super().__init__()
        self.network = encoder.network
        self._encoder = encoder
        self.head = nn.utils.skip_init(nn.Linear, texts.shape[1], len(texts), bias=False)
        device = next(encoder.network.parameters(), texts).device
        with torch.no_grad():
            self.head.weight.copy_(texts)
        self.head.to(device)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(F.normalize(self._encoder.encode_image(images).float(), dim=-1))
        return found
