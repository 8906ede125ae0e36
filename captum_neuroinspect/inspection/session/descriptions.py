"""Words for neurons, kept like all that takes long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from captum_neuroinspect._core.kinds import check_kinds
from captum_neuroinspect.describe import Descriptions, UnitDescription, describe_neurons
from captum_neuroinspect.encoders.by_name import LazyEncoder
from captum_neuroinspect.inspection.data.parts import PhotoSet
from captum_neuroinspect.inspection.session.evidence import (
    EvidenceSource,
    background_of,
    pictures_of,
)
from captum_neuroinspect.optvis import Illusions


def kept_descriptions(
    source: EvidenceSource,
    part: PhotoSet,
    neurons: Sequence[int],
    illusions: Illusions | None,
    encoder: LazyEncoder,
    *,
    class_names: Sequence[str],
    n_phrases: int,
    seed: int,
    progress: bool,
) -> Descriptions:
    """``describe_neurons`` on crops and illusions, against some photos of the part."""

    def make() -> list[dict[str, Any]]:
        found = describe_neurons(
            pictures_of(source, part, neurons, illusions),
            encoder,
            class_names=class_names,
            n_phrases=n_phrases,
            background=background_of(part, seed),
            progress=progress,
        )
        return [asdict(one) for one in found]

    key = {
        **source.key,
        "photos": part.fingerprint,
        "neurons": list(neurons),
        "illusions": illusions and [illusions.settings, illusions.neurons, illusions.classes],
        "encoder": encoder.key,
        "class_names": list(class_names),
        "n_phrases": n_phrases,
        "seed": seed,
    }

    def check(rows: list[dict[str, Any]]) -> None:
        found = [one.unit for one in _restored(rows)]
        if found != list(neurons):
            raise ValueError(f"it is about the neurons {found}, expected {list(neurons)}")

    return _restored(source.work.json("descriptions", key, make, check=check, fresh=source.fresh))


def _restored(rows: list[dict[str, Any]]) -> Descriptions:
    found = []
    for row in rows:
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in row.items()}
        check_kinds(values, UnitDescription)
        found.append(UnitDescription(**values))
    return Descriptions(found)
