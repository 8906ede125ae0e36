"""The edit in a report: before and after, and the photos that changed sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from captum_neuroinspect.analysis.comparison import Comparison
from captum_neuroinspect.inspection.report.data import Change, ChangedPhoto, EditResult
from captum_neuroinspect.inspection.session.data_parts import Part
from captum_neuroinspect.inspection.session.edit_notes import notes_of

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.session.session import NeuroInspect

_MAX_PHOTOS = 24  # that are mended or still wrong, each; of those that are broken none is hidden
_MAX_CLASSES = 30


def edit_result(session: NeuroInspect) -> EditResult | None:
    """The session's last edit, judged on its test photos; ``None`` without an edit."""
    if session.last_edit is None:
        return None
    found, judge = session.compare(), session.material.test
    before, after = found.edit.before, found.edit.after
    n_photos = len(found.before)
    return EditResult(
        verdict=found.edit.verdict,
        overall=Change("all photos", before.accuracy, after.accuracy, n_photos),
        is_kept=found.edit.is_kept,
        classes=tuple(_classes(found)),
        groups=tuple(_groups(found)),
        calibration=Change("calibration", before.calibration_error, after.calibration_error),
        settings=tuple(found.edit.method.facts().items()),
        neurons=tuple(n for neurons in found.edit.targets.values() for n in neurons),
        photos=tuple(_photos(found, judge)),
        n_mended=len(found.rows("mended")),
        n_broken=len(found.rows("broken")),
        n_still_wrong=len(found.rows("still wrong")),
        note=str(found.edit.remarks.get("note", "")),
        notes=notes_of(found.edit),
    )


def _classes(found: Comparison) -> Iterator[Change]:
    table = found.before.labels.bincount(minlength=found.before.n_classes).tolist()
    old, new = found.edit.before.class_accuracy, found.edit.after.class_accuracy
    present = [i for i, n in enumerate(table) if n]
    # Of many classes the targets, the largest loss, and those that changed most.
    worst = min(present, key=lambda i: new[i] - old[i])
    first = {*found.edit.targets, worst}
    present.sort(key=lambda i: (i not in first, -abs(new[i] - old[i]), i))
    for i in present[:_MAX_CLASSES]:
        yield Change(found.edit.class_name(i), old[i], new[i], table[i])


def _groups(found: Comparison) -> Iterator[Change]:
    groups = found.before.groups
    if groups is None:
        return
    counts = groups.bincount().tolist()
    old, new = found.edit.before.group_accuracy or (), found.edit.after.group_accuracy or ()
    for i, (was, now) in enumerate(zip(old, new, strict=True)):
        if counts[i]:
            yield Change(f"group {i}", was, now, counts[i])


def _photos(found: Comparison, judge: Part) -> Iterator[ChangedPhoto]:
    others = (found.rows(kind)[:_MAX_PHOTOS] for kind in ("mended", "still wrong"))
    rows = torch.cat([found.rows("broken"), *others]).tolist()
    for row in rows:
        index = int(found.before.indices[row])
        yield ChangedPhoto(
            picture=judge.photos.image(index),
            file=judge.photos.name(index),
            label=int(found.before.labels[row]),
            before=int(found.before.predictions[row]),
            after=int(found.after.predictions[row]),
        )
