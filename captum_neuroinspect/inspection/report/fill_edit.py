"""The edit in a report: before and after, and the photos that changed sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from captum_neuroinspect.analysis.comparison import Comparison
from captum_neuroinspect.inspection.data.parts import InspectionData, PhotoSet
from captum_neuroinspect.inspection.report.edit_notes import notes_of
from captum_neuroinspect.inspection.report.fill_groups import group_changes
from captum_neuroinspect.inspection.report.report_data import Change, ChangedPhoto, EditResult

_MAX_PHOTOS = 24  # that are corrected or still wrong, each; of those that are broken none is hidden
_MAX_CLASSES = 30


def edit_result(found: Comparison | None, data: InspectionData) -> EditResult | None:
    """An edit, judged on the test photos; ``None`` without one."""
    if found is None:
        return None
    before, after = found.edit.before, found.edit.after
    n_photos = len(found.before)
    judged = found.before, found.after, data.inspected.features
    groups = tuple(group_changes(*judged))
    of_class = tuple(group_changes(*judged, list(found.edit.targets)))
    return EditResult(
        verdict=found.edit.verdict,
        overall=Change("all photos", before.accuracy, after.accuracy, n_photos),
        is_kept=found.edit.is_kept,
        classes=tuple(_classes(found)),
        groups=groups,
        groups_of_class=of_class if _across_classes(of_class, groups) else (),
        calibration=Change("calibration", before.calibration_error, after.calibration_error),
        settings=tuple(found.edit.method.facts().items()),
        neurons=tuple(n for neurons in found.edit.targets.values() for n in neurons),
        photos=tuple(_photos(found, data.test)),
        n_corrected=len(found.rows("corrected")),
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


def _across_classes(of_class: Sequence[Change], groups: Sequence[Change]) -> bool:
    """Whether a group has photos of the edited classes and of others."""
    sizes = {change.name: change.n_photos for change in groups}
    return any(change.n_photos != sizes[change.name] for change in of_class)


def _photos(found: Comparison, test: PhotoSet) -> Iterator[ChangedPhoto]:
    others = (found.rows(kind)[:_MAX_PHOTOS] for kind in ("corrected", "still wrong"))
    rows = torch.cat([found.rows("broken"), *others]).tolist()
    for row in rows:
        index = int(found.before.indices[row])
        yield ChangedPhoto(
            picture=test.photos.image(index),
            file=test.photos.name(index),
            label=int(found.before.labels[row]),
            before=int(found.before.predictions[row]),
            after=int(found.after.predictions[row]),
        )
