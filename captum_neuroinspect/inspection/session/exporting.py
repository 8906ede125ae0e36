"""A session's findings as tables, heat maps and a data set for FiftyOne."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.export import (
    blame_rows,
    prediction_rows,
    slice_rows,
    to_fiftyone,
    word_rows,
    write_heat_maps,
    write_table,
)
from captum_neuroinspect.export.heat_maps import HEAT_MAPS
from captum_neuroinspect.export.records import BLAME, PREDICTIONS, SLICES, WORDS, HasWords
from captum_neuroinspect.export.tables import FORMATS
from captum_neuroinspect.inspection.data.parts import InspectionData
from captum_neuroinspect.inspection.report.findings import NeuronEvidence

_ROLES = ("train", "deployment", "validation", "test")


def check_format(table: str) -> None:
    """Refuse an unknown kind of table.

    Raises:
        ValueError: when it is none of :data:`FORMATS`.
    """
    if table not in FORMATS:
        raise ValueError(f"table={table!r}, expected one of {FORMATS}")


def export_found(
    folder: Path,
    data: InspectionData,
    found: Explanation,
    evidence: NeuronEvidence | None,
    descriptions: Iterable[HasWords],
    *,
    table: str,
    fiftyone: bool,
    progress: bool,
) -> list[Path]:
    """Write the tables of ``NeuroInspect.export``; returns what was written.

    Raises:
        ValueError: for an unknown kind of table, before anything is written.
    """
    check_format(table)
    described = list(descriptions)
    parts = [(role, getattr(data, role)) for role in _ROLES]
    inspected = data.inspected
    heat = []
    if evidence is not None:
        heat = write_heat_maps(
            evidence.saliency,
            evidence.neurons,
            folder / "heat_maps",
            indices=evidence.mistakes.indices.tolist(),
            photos=inspected.names(evidence.mistakes),
            size=inspected.photos.view.size,
        )
    tables = {
        "predictions": (
            PREDICTIONS,
            [
                row
                for role, part in parts
                for row in prediction_rows(part.features, part.names(part.features), part=role)
            ],
        ),
        "blame": (BLAME, blame_rows(found)),
        "slices": (SLICES, slice_rows(found, inspected.names(found.mistakes))),
        "words": (WORDS, word_rows(described)),
        "heat_maps": (HEAT_MAPS, heat),
    }
    written = [
        write_table(rows, folder / f"{name}.{table}", columns)
        for name, (columns, rows) in tables.items()
    ]
    if fiftyone:
        features = inspected.features
        written.append(
            to_fiftyone(
                folder / "fiftyone",
                features,
                inspected.photos.image,
                photos=inspected.names(features),
                explanation=found,
                maps=None if evidence is None else evidence.saliency,
                map_of=None if evidence is None else evidence.mistakes,
                neurons=() if evidence is None else evidence.neurons,
                descriptions=described,
                tags=_roles(data),
                progress=progress,
            )
        )
    return written


def _roles(data: InspectionData) -> list[str]:
    """The role of each photo of ``data``."""
    indices = data.inspected.features.indices
    roles = [""] * len(indices)
    for role in _ROLES:
        if role in data.given:
            continue  # photos of their own, with numbers of their own
        is_in = torch.isin(indices, getattr(data, role).features.indices)
        for row in is_in.nonzero()[:, 0].tolist():
            roles[row] = role
    return roles
