"""How an edit came about, as a table: the candidates that competed."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from captum_neuroinspect._core.tables import html_table

if TYPE_CHECKING:
    from captum_neuroinspect.edit._mend_choice import MendCandidate
    from captum_neuroinspect.edit._result import HeadEdit

Cells = tuple[str, ...]

_OF_CANDIDATES = ("head", "target, kept from the fit", "mean over classes, kept from it", "")


def steps_as_text(edit: HeadEdit) -> list[str]:
    """Lines of the table; none for an edit in one step."""
    lines: list[str] = []
    for title, rows in _tables(edit):
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["", title]
        for row in rows:
            cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
    return lines


def steps_as_html(edit: HeadEdit) -> str:
    """The same for notebooks."""
    return "".join(
        f"<p>{html.escape(title)}</p>{html_table(head, rows)}"
        for title, (head, *rows) in _tables(edit)
    )


def _tables(edit: HeadEdit) -> list[tuple[str, list[Cells]]]:
    if not edit.candidates:
        return []
    title = f"Candidates, with a cap of {edit.settings['max_cost']:g} on the cost in the mean:"
    return [(title, [_OF_CANDIDATES, *map(_candidate, edit.candidates)])]


def _candidate(one: MendCandidate) -> Cells:
    return (
        one.name,
        f"{one.held_out_target:.3f}",
        f"{one.held_out_mean:.3f}",
        "chosen" if one.is_chosen else "",
    )
