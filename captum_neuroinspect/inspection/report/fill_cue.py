"""The cue in a report: the photos at both ends of the direction that the mistakes give."""

from __future__ import annotations

from captum_neuroinspect.analysis.top_photos import top_photos
from captum_neuroinspect.attr import Direction
from captum_neuroinspect.inspection.data.parts import PhotoSet
from captum_neuroinspect.inspection.report.findings import Findings
from captum_neuroinspect.inspection.report.report_data import CueCard, TopPhoto

_N_PHOTOS = 8
_N_NEURONS = 10


def cue_card(findings: Findings) -> CueCard | None:
    """Of the inspected class; ``None`` where no cue was located."""
    cue, found = findings.cue, findings.explanation
    if cue is None:
        return None
    raised = findings.head_weight.float().cpu() @ cue.shift
    others = (raised.sum() - raised[found.target]) / max(len(raised) - 1, 1)
    part = findings.data.inspected
    return CueCard(
        n_mistakes=0 if cue.located_by is None else len(cue.located_by),
        raised=float(raised[found.target] - others),
        most=_farthest(part, cue, 1),
        least=_farthest(part, -cue, -1),
        neurons=cue.neurons(_N_NEURONS),
    )


def _farthest(part: PhotoSet, cue: Direction, sign: int) -> tuple[TopPhoto, ...]:
    top = top_photos(part.features, cue, _N_PHOTOS)
    rows, positions = top.rows[0].tolist(), (sign * top.activations[0]).tolist()
    photos = []
    for row, index, position in zip(rows, top.indices[0].tolist(), positions, strict=True):
        label = int(part.features.labels[row])
        photos.append(TopPhoto(part.photos.image(index), part.photos.name(index), label, position))
    return tuple(photos)
