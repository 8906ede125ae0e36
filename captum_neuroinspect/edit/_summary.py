"""The results of an edit as a table and a picture that people can read."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from captum_neuroinspect._core.shares import FEW, share_with_interval
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.edit._verdict_text import verdict_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum_neuroinspect.edit._result import HeadEdit

_BEFORE, _AFTER = "#9aa5b1", "#1f77b4"


class Row(NamedTuple):
    """A number before and after, and of how many samples each is a share, where it is one."""

    name: str
    before: float
    after: float
    counts: tuple[int, int] | None = None

    @property
    def counted(self) -> str:
        """Both with their intervals, where they are of few samples."""
        if self.counts is None or min(self.counts) >= FEW or not all(self.counts):
            return ""
        return " \u2192 ".join(
            share_with_interval(round(value * n), n)
            for value, n in zip((self.before, self.after), self.counts, strict=True)
        )


_MAX_ROWS = 20  # of classes, groups or neurons each
_ABOUT_HELD_OUT = (
    "(kept from the fit: explained mistakes and photos that chose, each by a head that was not "
    "fitted to it; the verdict rests on others)"
)


def rows_of(edit: HeadEdit) -> Iterator[Row]:
    """Name, before and after, of all that was measured; long parts are cut short."""
    before, after = edit.before, edit.after
    # Of many labels it is the share of right decisions, which hang together.
    n = before.n_samples if before.class_samples else 0
    yield Row("accuracy", before.accuracy, after.accuracy, (n, n))
    if before.adjusted_accuracy is not None and after.adjusted_accuracy is not None:
        yield Row("adjusted accuracy", before.adjusted_accuracy, after.adjusted_accuracy)
    if before.worst_group_accuracy is not None and after.worst_group_accuracy is not None:
        counts = _of_worst(before.group_accuracy, after.group_accuracy, before.group_samples)
        yield Row("worst group", before.worst_group_accuracy, after.worst_group_accuracy, counts)
    for name, _, old, new, n_held_out in edit.method.held_out():
        yield Row(name, old, new, None if n_held_out is None else (n_held_out, n_held_out))
    counts = _of_worst(before.class_accuracy, after.class_accuracy, before.class_samples)
    yield Row("worst class", before.worst_class_accuracy, after.worst_class_accuracy, counts)
    yield Row("calibration error", before.calibration_error, after.calibration_error)
    for index in classes_to_show(edit):
        name = edit.class_name(index) + (" (target)" if index in edit.targets else "")
        counts = _twice(before.class_samples, index)
        yield Row(name, before.class_accuracy[index], after.class_accuracy[index], counts)
    groups = list(zip(before.group_accuracy or (), after.group_accuracy or (), strict=True))
    for number, (old, new) in enumerate(groups[:_MAX_ROWS]):
        yield Row(before.group_name(number), old, new, _twice(before.group_samples, number))
    ratios = list(edit.neuron_ratios().items())
    for (target, neuron), (old, new) in ratios[:_MAX_ROWS]:
        yield Row(f"ratio of neuron {neuron}, {edit.class_name(target)}", old, new)


def _twice(counts: tuple[int, ...] | None, index: int) -> tuple[int, int] | None:
    return (counts[index], counts[index]) if counts else None


def _of_worst(
    before: Sequence[float] | None, after: Sequence[float] | None, counts: tuple[int, ...] | None
) -> tuple[int, int] | None:
    """How many samples there are of the worst class or group, before and after."""
    if not before or not after or not counts:
        return None
    none = (math.nan, 0)
    one, other = (
        min(((v, counts[i]) for i, v in enumerate(values) if not math.isnan(v)), default=none)[1]
        for values in (before, after)
    )
    return one, other


def classes_to_show(edit: HeadEdit) -> list[int]:
    """All classes, or of many the targets and those whose accuracy changed most."""
    before, after = edit.before.class_accuracy, edit.after.class_accuracy
    present = [i for i, value in enumerate(before) if not math.isnan(value)]
    present.sort(key=lambda i: (i not in edit.targets, -abs(after[i] - before[i])))
    return sorted(present[:_MAX_ROWS])


def as_text(edit: HeadEdit) -> str:
    """The table in plain text."""
    rows = [row._replace(name=shown(row.name)) for row in rows_of(edit)]
    width = max(len(row.name) for row in rows)
    about = (_title(edit), edit.verdict.sentence, *verdict_lines(edit.verdict))
    lines = [shown(line) for line in about]
    lines += ["", f"{'':{width}}  before   after  change"]
    for row in rows:
        name, a, b, _ = row
        line = f"{name:{width}}  {a:6.3f}  {b:6.3f}  {b - a:+6.3f}  {row.counted}"
        lines.append(line.rstrip())
    return "\n".join([*lines, *_hidden(edit), *_table_as_text(edit)])


def as_html(edit: HeadEdit) -> str:
    """The table for notebooks; names are escaped."""
    cells = [
        (
            row.name,
            f"{row.before:.3f}",
            f"{row.after:.3f}",
            f"{row.after - row.before:+.3f}",
            row.counted,
        )
        for row in rows_of(edit)
    ]
    table = html_table(("", "before", "after", "change", "of few"), cells)
    hidden = "".join(f"<p>{html.escape(line)}</p>" for line in _hidden(edit))
    title = f"<p>{html.escape(shown(_title(edit)))}</p>"
    return f"{title}{edit.verdict._repr_html_()}{table}{hidden}{_table_as_html(edit)}"


def _table_as_text(edit: HeadEdit) -> list[str]:
    """Lines of what competed; none where nothing did."""
    table = edit.method.table()
    if table is None:
        return []
    widths = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    lines = ["", table.title]
    for row in table.rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _table_as_html(edit: HeadEdit) -> str:
    table = edit.method.table()
    if table is None:
        return ""
    return f"<p>{html.escape(table.title)}</p>{html_table(table.rows[0], table.rows[1:])}"


def _title(edit: HeadEdit) -> str:
    diff = edit.diff()
    names = ", ".join(edit.class_name(target) for target in edit.targets)
    change = (
        f"{diff.n_changed} of {diff.d_weight.numel()} coefficients changed, by {diff.norm:.4g} "
        "in norm"
    )
    if not (diff.n_changed or diff.d_bias.any()):
        change = "the original head stayed"
    n_neurons = sum(map(len, edit.targets.values()))
    how = shown(edit.method.describe(edit.head.out_features))
    return f"Edit of {names}: {n_neurons} neurons, {how}; {change}"


def _hidden(edit: HeadEdit) -> Iterator[str]:
    """What the table leaves out."""
    counts = {
        "classes that changed less": _n_present(edit) - len(classes_to_show(edit)),
        "groups": len(edit.before.group_accuracy or ()) - _MAX_ROWS,
        "ratios of neurons": len(edit.before.ratios) - _MAX_ROWS,
    }
    if edit.method.held_out():
        yield _ABOUT_HELD_OUT
    yield from (f"({n} {what} are not shown)" for what, n in counts.items() if n > 0)


def _n_present(edit: HeadEdit) -> int:
    return sum(not math.isnan(value) for value in edit.before.class_accuracy)


def edit_figure(edit: HeadEdit) -> Figure:
    """Accuracy by class before and after, beside the course of the training or the candidates."""
    from matplotlib.figure import Figure  # an import that takes long, for those who draw

    classes = classes_to_show(edit)
    figure = Figure((10, max(3.0, 0.3 * len(classes) + 1)), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_classes(left, edit, classes)
    edit.method.draw(right)
    return figure


def _draw_classes(axes: Axes, edit: HeadEdit, classes: list[int]) -> None:
    places = range(len(classes))
    for offset, evaluation, colour, label in (
        (-0.2, edit.before, _BEFORE, "before"),
        (0.2, edit.after, _AFTER, "after"),
    ):
        values = [evaluation.class_accuracy[index] for index in classes]
        axes.barh([p + offset for p in places], values, 0.4, color=colour, label=label)
    axes.set_yticks(list(places), [edit.class_name(index) for index in classes])
    for index, tick in zip(classes, axes.get_yticklabels(), strict=True):
        tick.set_fontweight("bold" if index in edit.targets else "normal")
        tick.set_parse_math(False)  # a name with two dollars is no formula
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="accuracy", title="classes (bold: target)")
    # Outside, for inside there are bars anywhere.
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
