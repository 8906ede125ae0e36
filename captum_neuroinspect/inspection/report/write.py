"""The inspection report: data in, one self-contained HTML file out."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

from captum_neuroinspect._files import write_atomically
from captum_neuroinspect.inspection.report._checks import check_data
from captum_neuroinspect.inspection.report._view import view_of
from captum_neuroinspect.inspection.report.data import ReportData
from captum_neuroinspect.inspection.report.environment import page_environment


def write_report(data: ReportData, path: str | Path) -> Path:
    """Write a report that opens anywhere: no file beside it, no network.

    The same data give the same bytes. Readers tick neurons, write notes and download a
    ``selection.json`` that :meth:`Selection.load` reads.

    Args:
        data: what to show.
        path: the HTML file; replaced in one go.

    Returns:
        ``path``.

    Raises:
        TypeError: for a picture that is neither a PIL image nor a tensor.
        ValueError: for data that contradict themselves, or a picture of a wrong shape.
    """
    check_data(data)
    # Names of files that are not UTF-8 hold surrogates, which no page can carry.
    page = _render(data).encode("utf-8", errors="replace")
    return write_atomically(path, lambda temporary: temporary.write_bytes(page))


def _render(data: ReportData) -> str:
    environment = page_environment("captum_neuroinspect.inspection.report")
    script = environment.get_template("report.js.j2").render()
    return environment.get_template("report.html.j2").render(
        data=data,
        view=view_of(data),
        style=Markup(environment.get_template("report.css.j2").render()),
        script=Markup(script),
        script_hash=_hash(script),
    )


def _hash(script: str) -> str:
    """What the page's policy lets run: this script and no other, should a name slip through."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
