"""The results of an edit as a table that people can read."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from captum_neuroinspect._html import html_table
from captum_neuroinspect.edit._steps_table import steps_as_html, steps_as_text
from captum_neuroinspect.edit._verdict_text import verdict_lines

if TYPE_CHECKING:
    from captum_neuroinspect.edit._result import HeadEdit

Row = tuple[str, float, float]

_MAX_ROWS = 20  # of classes, groups or neurons each
_HELD_OUT = {
    "target": "target, held out",
    "mistakes": "target's mistakes, held out",
    "others": "other classes, held out",
    "mean": "mean over classes, held out",
}


def rows_of(edit: HeadEdit) -> Iterator[Row]:
    """Name, before and after, of all that was measured; long parts are cut short."""
    before, after = edit.before, edit.after
    yield "accuracy", before.accuracy, after.accuracy
    if before.adjusted_accuracy is not None and after.adjusted_accuracy is not None:
        yield "adjusted accuracy", before.adjusted_accuracy, after.adjusted_accuracy
    if before.worst_group_accuracy is not None and after.worst_group_accuracy is not None:
        yield "worst group", before.worst_group_accuracy, after.worst_group_accuracy
    yield from _held_out(edit)
    yield "worst class", before.worst_class_accuracy, after.worst_class_accuracy
    yield "calibration error", before.calibration_error, after.calibration_error
    for index in classes_to_show(edit):
        name = edit.class_name(index) + (" (target)" if index in edit.targets else "")
        yield name, before.class_accuracy[index], after.class_accuracy[index]
    groups = list(zip(before.group_accuracy or (), after.group_accuracy or (), strict=True))
    for number, (old, new) in enumerate(groups[:_MAX_ROWS]):
        yield f"group {number}", old, new
    ratios = list(edit.neuron_ratios().items())
    for (target, neuron), (old, new) in ratios[:_MAX_ROWS]:
        yield f"ratio of neuron {neuron}, {edit.class_name(target)}", old, new


def _held_out(edit: HeadEdit) -> Iterator[Row]:
    """What was kept from the choice of settings, where something was."""
    for key, name in _HELD_OUT.items():
        before, after = (edit.settings.get(f"held_out_{key}_{w}") for w in ("before", "after"))
        if isinstance(before, float) and isinstance(after, float):
            yield name, before, after


def classes_to_show(edit: HeadEdit) -> list[int]:
    """All classes, or of many the targets and those whose accuracy changed most."""
    before, after = edit.before.class_accuracy, edit.after.class_accuracy
    present = [i for i, value in enumerate(before) if not math.isnan(value)]
    present.sort(key=lambda i: (i not in edit.targets, -abs(after[i] - before[i])))
    return sorted(present[:_MAX_ROWS])


def as_text(edit: HeadEdit) -> str:
    """The table in plain text."""
    rows = list(rows_of(edit))
    width = max(len(name) for name, _, _ in rows)
    lines = [_title(edit), edit.verdict.sentence, *verdict_lines(edit.verdict)]
    lines += ["", f"{'':{width}}  before   after  change"]
    lines += [f"{name:{width}}  {a:6.3f}  {b:6.3f}  {b - a:+6.3f}" for name, a, b in rows]
    return "\n".join([*lines, *_hidden(edit), *steps_as_text(edit)])


def as_html(edit: HeadEdit) -> str:
    """The table for notebooks; names are escaped."""
    rows = ((name, f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}") for name, a, b in rows_of(edit))
    table = html_table(("", "before", "after", "change"), rows)
    hidden = "".join(f"<p>{html.escape(line)}</p>" for line in _hidden(edit))
    title = f"<p>{html.escape(_title(edit))}</p>"
    return f"{title}{edit.verdict._repr_html_()}{table}{hidden}{steps_as_html(edit)}"


def _title(edit: HeadEdit) -> str:
    diff = edit.diff()
    names = ", ".join(edit.class_name(target) for target in edit.targets)
    how = f"scope {edit.scope}, strength {edit.strength:g}, epoch {edit.best_epoch}"
    if edit.settings.get("method") == "mend":
        how = f"mend, {edit.best_epoch} round{'' if edit.best_epoch == 1 else 's'}"
    change = (
        f"{diff.n_changed} of {diff.d_weight.numel()} coefficients changed, by {diff.norm:.4g} "
        "in norm"
    )
    if not (diff.n_changed or diff.d_bias.any()):
        change = "the original head stayed"
    n_neurons = sum(map(len, edit.targets.values()))
    return f"Edit of {names}: {n_neurons} neurons, {how}; {change}"


def _hidden(edit: HeadEdit) -> Iterator[str]:
    """What the table leaves out."""
    counts = {
        "classes that changed less": _n_present(edit) - len(classes_to_show(edit)),
        "groups": len(edit.before.group_accuracy or ()) - _MAX_ROWS,
        "ratios of neurons": len(edit.before.ratios) - _MAX_ROWS,
    }
    return (f"({n} {what} are not shown)" for what, n in counts.items() if n > 0)


def _n_present(edit: HeadEdit) -> int:
    return sum(not math.isnan(value) for value in edit.before.class_accuracy)
