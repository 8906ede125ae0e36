"""Images of any sizes and long lists of phrases through an image-text encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect.encoders.prompts import class_embeddings
from captum_neuroinspect.encoders.protocol import ImageTextEncoder

_PHRASES_PER_CALL = 256


def embed_phrases(
    phrases: Sequence[str], encoder: ImageTextEncoder, templates: Sequence[str], progress: bool
) -> Tensor:
    """Embed P phrases as ``(P, D)`` of length 1, float32 on the CPU."""
    parts = []
    with tqdm(desc="phrases", total=len(phrases), disable=not progress) as bar:
        for start in range(0, len(phrases), _PHRASES_PER_CALL):
            part = phrases[start : start + _PHRASES_PER_CALL]
            with torch.no_grad():
                found = class_embeddings(encoder, part, templates).float().cpu()
            parts.append(_checked(found, len(part), "phrases"))
            bar.update(len(part))
    return torch.cat(parts)


def embed_images(
    images: Sequence[Tensor], encoder: ImageTextEncoder, batch_size: int, progress: bool
) -> Tensor:
    """Embed N images as ``(N, D)`` of length 1, float32 on the CPU, in their order."""
    row2embedding: dict[int, Tensor] = {}
    with tqdm(desc="images", total=len(images), disable=not progress) as bar:
        for rows in _batches(images, batch_size):
            with torch.no_grad():
                embeddings = encoder.encode_image(torch.stack([images[row] for row in rows]))
            found = _checked(embeddings.float().cpu(), len(rows), "images")
            row2embedding.update(zip(rows, found, strict=True))
            bar.update(len(rows))
    return F.normalize(torch.stack([row2embedding[row] for row in range(len(images))]), dim=-1)


def _checked(embeddings: Tensor, n: int, what: str) -> Tensor:
    """Refuse what would be taken for words that are merely unlikely."""
    if embeddings.ndim != 2 or len(embeddings) != n:
        raise ValueError(
            f"the encoder gave {tuple(embeddings.shape)} for {n} {what}, expected ({n}, D)"
        )
    if not all_finite(embeddings):
        raise ValueError(f"the encoder gave NaN or infinite embeddings of {what}")
    return embeddings


def _batches(images: Sequence[Tensor], batch_size: int) -> list[list[int]]:
    """Rows of images of one size each."""
    size2rows: dict[torch.Size, list[int]] = {}
    for row, image in enumerate(images):
        size2rows.setdefault(image.shape, []).append(row)
    return [
        rows[start : start + batch_size]
        for rows in size2rows.values()
        for start in range(0, len(rows), batch_size)
    ]
