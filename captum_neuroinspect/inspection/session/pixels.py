"""A few photos as the model sees them, looked at once and kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from captum_neuroinspect._core.kinds import check_kinds
from captum_neuroinspect.inspection.data.parts import Part
from captum_neuroinspect.inspection.preflight_checks.preprocessing import (
    PreprocessingCheck,
    check_preprocessing,
)
from captum_neuroinspect.inspection.session.evidence import Source

_N_PHOTOS = 32


def kept_preprocessing_check(source: Source, part: Part, *, compare: bool) -> PreprocessingCheck:
    """:func:`check_preprocessing` on photos spread evenly over the part, as classes lie in order.

    Args:
        source: the model.
        part: its photos.
        compare: try other normalisations.
    """
    n_rows = len(part.features)
    rows = torch.linspace(0, n_rows - 1, min(n_rows, _N_PHOTOS)).round().long()
    chosen = part.features.subset(rows)

    def make() -> dict[str, Any]:
        images, model = part.images(chosen), source.model
        found = check_preprocessing(
            model.model,
            images,
            chosen.labels,
            model.preprocess,
            head=source.head,
            compare=compare,
        )
        return asdict(found)

    key = {**source.key, "photos": part.fingerprint, "n_photos": len(rows), "compare": compare}
    kept = source.work.json("preprocessing", key, make, check=restored, fresh=source.fresh)
    return restored(kept)


def restored(kept: dict[str, Any]) -> PreprocessingCheck:
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in kept.items()}
    check_kinds(values, PreprocessingCheck)
    return PreprocessingCheck(**values)
