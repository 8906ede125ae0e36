"""The results of an edit as a table that people can read."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captum_neuroinspect.edit._result import HeadEdit

Row = tuple[str, float, float]

_MAX_ROWS = 20  # of classes, groups or neurons each


def rows_of(edit: HeadEdit) -> Iterator[Row]:
    """Name, before and after, of all that was measured; long parts are cut short."""
    before, after = edit.before, edit.after
    yield "accuracy", before.accuracy, after.accuracy
    if before.adjusted_accuracy is not None and after.adjusted_accuracy is not None:
        yield "adjusted accuracy", before.adjusted_accuracy, after.adjusted_accuracy
    if before.worst_group_accuracy is not None and after.worst_group_accuracy is not None:
        yield "worst group", before.worst_group_accuracy, after.worst_group_accuracy
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
    lines = [_title(edit), "", f"{'':{width}}  before   after  change"]
    lines += [f"{name:{width}}  {a:6.3f}  {b:6.3f}  {b - a:+6.3f}" for name, a, b in rows]
    n_hidden = _n_present(edit) - len(classes_to_show(edit))
    if n_hidden:
        lines.append(f"({n_hidden} classes that changed less are not shown)")
    return "\n".join(lines)


def as_html(edit: HeadEdit) -> str:
    """The table for notebooks; names are escaped."""
    body = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td>{a:.3f}</td><td>{b:.3f}</td><td>{b - a:+.3f}</td></tr>"
        for name, a, b in rows_of(edit)
    )
    head = "<tr><th></th><th>before</th><th>after</th><th>change</th></tr>"
    return f"<p>{html.escape(_title(edit))}</p><table>{head}{body}</table>"


def _title(edit: HeadEdit) -> str:
    diff = edit.diff()
    names = ", ".join(edit.class_name(target) for target in edit.targets)
    return (
        f"Edit of {names}: {sum(map(len, edit.targets.values()))} neurons, scope {edit.scope}, "
        f"strength {edit.strength:g}, epoch {edit.best_epoch}; {diff.n_changed} of "
        f"{diff.d_weight.numel()} coefficients changed, by {diff.norm:.4g} in norm"
    )


def _n_present(edit: HeadEdit) -> int:
    return sum(not math.isnan(value) for value in edit.before.class_accuracy)
