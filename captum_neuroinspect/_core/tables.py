"""Tables for notebooks: whatever comes from outside stays text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from captum_neuroinspect._core.texts import shown


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table whose first column names the rows; numbers arrive as finished texts.

    Examples::

        >>> html_table(["class", "photos"], [["<b>", 3]])  # doctest: +ELLIPSIS
        "<table><thead>...<th style='text-align:left'>&lt;b&gt;</th><td>3</td></tr></tbody></table>"
    """
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    about = html.escape(shown(caption))
    title = f"<caption style='text-align:left'>{about}</caption>" if caption else ""
    body = "".join(_row(row) for row in rows)
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(cells: Sequence[object]) -> str:
    first, *others = (html.escape(shown(cell)) for cell in cells)
    numbers = "".join(f"<td>{cell}</td>" for cell in others)
    return f"<tr><th style='text-align:left'>{first}</th>{numbers}</tr>"
