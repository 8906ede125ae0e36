"""A verdict in words: its sentence, what the neurons add, and its table."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple

from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.edit.judged import n_photos

if TYPE_CHECKING:
    from captum_neuroinspect.edit.controls import Control
    from captum_neuroinspect.edit.judged import Estimate
    from captum_neuroinspect.edit.verdict import ClassChange, Verdict

VerdictRow = tuple[str, str, str, str, str]

_COLUMNS = ("", "class", "all photos", "corrected", "broken")


def p_text(p_value: float) -> str:
    """A p-value with two significant digits; a very small one as a bound."""
    return "p < 0.0001" if p_value < 1e-4 else f"p = {p_value:.2g}"


def loss_text(one: ClassChange) -> str:
    """How far a class fell, with its counts."""
    return (
        f"from {100 * one.before:.1f} to {100 * one.after:.1f} % ({n_photos(one.n_judged)}, "
        f"{one.n_corrected} corrected, {one.n_broken} broken)"
    )


def points(value: float | None) -> str:
    """A change in percentage points, with its sign."""
    if value is None:
        return "-"
    text = f"{100 * value:+.1f}"
    return "0.0" if not float(text) else text


def interval(estimate: Estimate) -> str:
    return (
        f"{points(estimate.value)} points (95 % interval {points(estimate.low)} to "
        f"{points(estimate.high)})"
    )


def about_neurons(found: Verdict) -> str:
    """What the chosen neurons add to the same fit."""
    if not found.controls or found.overall_change is None:
        return ""
    if found.is_original:
        return "The fit gave no other head, so that there is nothing to compare with its controls."
    best = max(found.controls, key=lambda control: control.score)
    mine, theirs = points(found.overall_change.value), points(best.overall_change)
    words = _WORDS[best.of]
    if found.neurons_matter:
        others = " and ".join(f"{points(c.overall_change)} {c.name}" for c in found.controls)
        return (
            f"{words.matter}: {mine} points over all photos with {words.them}, and by the same "
            f"fit {others}."
        )
    if found.neurons_matter is None:
        return (
            f"{words.do} better than the same fit {best.name}, {mine} points over all "
            f"photos against {theirs}, but the difference is within chance."
        )
    with_them = "" if mine == theirs else f", against {mine} with {words.chosen}"
    return (
        f"The same fit {_plainly(best)} does as well: {theirs} points over all photos{with_them}; "
        f"{words.nothing} here."
    )


class _Words(NamedTuple):
    matter: str
    them: str
    do: str
    chosen: str
    nothing: str


_WORDS = {
    "neurons": _Words(
        "The chosen neurons matter",
        "them",
        "The chosen neurons do",
        "the chosen ones",
        "the chosen neurons add nothing",
    ),
    "direction": _Words(
        "The direction of the cue matters",
        "it",
        "The direction of the cue does",
        "that of the cue",
        "the direction of the cue adds nothing",
    ),
}


def _plainly(control: Control) -> str:
    return "without any neurons" if control.name == "without neurons" else control.name


def verdict_lines(found: Verdict) -> list[str]:
    """The numbers behind a verdict in plain text; its sentence stands elsewhere."""
    if found.overall_change is None or found.p_value is None:
        return []
    lines = [f"The verdict rests on {found.rests_on}.", *_changes(found)]
    rows = control_rows(found)
    if rows:
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
        for first, *cells in (_COLUMNS, *rows):
            numbers = "  ".join(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))
            lines.append(f"{first:{widths[0]}}  {numbers}")
        lines.append(found.about_neurons)
    return lines


def _changes(found: Verdict) -> list[str]:
    assert found.overall_change is not None
    assert found.p_value is not None
    gain = "no photo judges it"
    if found.target_gain is not None:
        gain = interval(found.target_gain)
    lines = [
        f"{found.n_corrected} corrected, {found.n_broken} broken of {n_photos(found.n_judged)} "
        f"(exact McNemar test, {p_text(found.p_value)})",
        f"the class: {gain}",
        f"all photos: {interval(found.overall_change)}",
    ]
    if found.max_cost is not None and found.others_change is not None:
        cap = f"{points(-found.max_cost)} points allowed"
        lines.append(f"all other classes: {interval(found.others_change)}, {cap}")
    return lines


def control_rows(found: Verdict) -> list[VerdictRow]:
    """The edit and its controls: name, points of the class and of all, corrected, broken."""
    if not found.controls or found.overall_change is None:
        return []
    gain = None if found.target_gain is None else found.target_gain.value
    counts = str(found.n_corrected), str(found.n_broken)
    rows = [("this edit", points(gain), points(found.overall_change.value), *counts)]
    for control in found.controls:
        name = f"the same {control.name}"
        if control.n_draws > 1:
            name += f" (mean of {control.n_draws} draws)"
        changes = points(control.target_change), points(control.overall_change)
        rows.append((name, *changes, f"{control.n_corrected:g}", f"{control.n_broken:g}"))
    return rows


def verdict_as_html(found: Verdict) -> str:
    """The sentence, the numbers and the controls; whatever comes from outside stays text."""
    parts = [f"<p><strong>{html.escape(shown(found.sentence))}</strong></p>"]
    if found.overall_change is not None:
        lines = [f"The verdict rests on {found.rests_on}.", *_changes(found)]
        parts.append(f"<p>{'<br>'.join(map(html.escape, lines))}</p>")
    if rows := control_rows(found):
        parts.append(html_table(_COLUMNS, rows))
        parts.append(f"<p>{html.escape(found.about_neurons)}</p>")
    return "".join(parts)
