"""The edit in a report: before and after, and the photos that changed sides."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from captum_neuroinspect.inspection._session.material import Part
from captum_neuroinspect.inspection.comparing import Comparison
from captum_neuroinspect.inspection.report.data import Change, ChangedPhoto, EditResult

if TYPE_CHECKING:
    from captum_neuroinspect.edit import HeadEdit
    from captum_neuroinspect.inspection.session import NeuroInspect

_MAX_PHOTOS = 48
_MAX_CLASSES = 30
_SHOWN_SETTINGS = ("method", "scope", "strength", "target_weight", "seed")


def edit_result(session: NeuroInspect) -> EditResult | None:
    """The session's last edit, judged on its test photos; ``None`` without an edit."""
    if session.last_edit is None:
        return None
    found, judge = session.compare(), session.material.judge
    before, after = found.edit.before, found.edit.after
    n_photos = len(found.before)
    return EditResult(
        summary=_summary(session, found),
        overall=Change("all photos", before.accuracy, after.accuracy, n_photos),
        classes=tuple(_classes(found)),
        groups=tuple(_groups(found)),
        calibration=Change("calibration", before.calibration_error, after.calibration_error),
        settings=tuple(_settings(found.edit)),
        neurons=tuple(n for neurons in found.edit.targets.values() for n in neurons),
        photos=tuple(_photos(found, judge)),
        n_mended=len(found.rows("mended")),
        n_broken=len(found.rows("broken")),
        note=str(found.edit.settings.get("note", "")),
        notes=tuple(_notes(found.edit)),
    )


def _summary(session: NeuroInspect, found: Comparison) -> str:
    edit = found.edit
    names = ", ".join(edit.class_name(target) for target in edit.targets)
    if edit.best_epoch == 0:
        return f"The edit of {names} was not worth its cost: the original head stays."
    (target,) = list(edit.targets)[:1]
    old, new = (e.class_accuracy[target] for e in (edit.before, edit.after))
    gain = f"{100 * (new - old):+.1f} points" if not math.isnan(new - old) else "not judged"
    all_gain = 100 * (edit.after.accuracy - edit.before.accuracy)
    where = "test photos that served for nothing else"
    if session.material.test is None:
        where = "held-out photos, which also decided whether to keep it"
    return f"{names}: {gain}; all photos: {all_gain:+.1f} points. Judged on {where}."


def _classes(found: Comparison) -> Iterator[Change]:
    table = found.before.labels.bincount(minlength=found.before.n_classes).tolist()
    old, new = found.edit.before.class_accuracy, found.edit.after.class_accuracy
    present = [i for i, n in enumerate(table) if n]
    # Of many classes those that changed most.
    present.sort(key=lambda i: (i not in found.edit.targets, -abs(new[i] - old[i]), i))
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


def _settings(edit: HeadEdit) -> Iterator[tuple[str, str]]:
    known = {"scope": edit.scope, "strength": f"{edit.strength:g}", **edit.settings}
    if known.get("method") == "mend":  # which knows no lambda
        known.pop("strength")
    for name in _SHOWN_SETTINGS:
        if name in known:
            yield name.replace("_", " "), str(known[name])


def _notes(edit: HeadEdit) -> Iterator[tuple[int, str]]:
    """What the reader wrote about neurons, as ``neuroinspect edit`` keeps it."""
    for neuron, text in json.loads(str(edit.settings.get("notes", "[]"))):
        yield int(neuron), str(text)


def _photos(found: Comparison, judge: Part) -> Iterator[ChangedPhoto]:
    kinds = (found.rows("mended"), found.rows("broken"), found.rows("still wrong"))
    rows = torch.cat(kinds).tolist()
    for row in rows[:_MAX_PHOTOS]:
        index = int(found.before.indices[row])
        yield ChangedPhoto(
            picture=judge.photos.image(index),
            file=judge.photos.name(index),
            label=int(found.before.labels[row]),
            before=int(found.before.predictions[row]),
            after=int(found.after.predictions[row]),
        )
