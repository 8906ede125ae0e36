"""How an edit came about, as a table: the candidates that competed, or the rounds."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from captum_neuroinspect._core.tables import html_table

if TYPE_CHECKING:
    from captum_neuroinspect.edit._candidates import Candidate, PlainRatio
    from captum_neuroinspect.edit._mend_rounds import MendRound
    from captum_neuroinspect.edit._result import HeadEdit

Cells = tuple[str, ...]

_MAX_CANDIDATES = 8
_OF_CANDIDATES = ("neurons", "strength", "ratio", "scope", "epoch", "target", "others", "")
_OF_ROUNDS = ("round", "neurons found", "target, kept from the fit", "mean, kept from it", "")


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
    tables = []
    if edit.candidates:
        best = sorted(edit.candidates, key=lambda one: one.rank, reverse=True)
        shown = [_candidate(one) for one in best[:_MAX_CANDIDATES]]
        title = f"{len(edit.candidates)} candidates, on the data that chose; the best {len(shown)}:"
        tables.append((title, [_OF_CANDIDATES, *shown]))
    if edit.rounds:
        shown = [_round(number, one) for number, one in enumerate(edit.rounds, start=1)]
        tables.append((f"Rounds, until: {edit.settings['stopped']}", [_OF_ROUNDS, *shown]))
    return tables


def _candidate(one: Candidate) -> Cells:
    return (
        str(one.n_neurons),
        f"{one.strength:.3g}",
        _ratio(one.ratio),
        one.scope,
        str(one.epoch),
        f"{one.target_accuracy:.3f}",
        f"{one.others_accuracy:.3f}",
        "" if one.epoch else "the original",
    )


def _ratio(ratio: PlainRatio) -> str:
    if isinstance(ratio, dict):
        return "one a class"
    return "one a neuron" if isinstance(ratio, tuple) else f"{ratio:.4g}"


def _round(number: int, one: MendRound) -> Cells:
    return (
        str(number),
        str(len(one.neurons)),
        f"{one.held_out_target:.3f}",
        f"{one.held_out_mean:.3f}",
        "kept" if one.kept else "not kept",
    )
