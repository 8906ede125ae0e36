"""The inspection report: data in, one HTML file out, with a folder of pictures if it is large."""

from __future__ import annotations

import base64
import hashlib
import shlex
from pathlib import Path
from types import CodeType
from typing import ClassVar

from jinja2 import BytecodeCache, Environment
from jinja2.bccache import Bucket
from markupsafe import Markup

from captum_neuroinspect._core.page_templates import page_templates
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.edit._verdict_text import control_rows, p_text
from captum_neuroinspect.inspection.report import number_formats
from captum_neuroinspect.inspection.report._data_checks import check_data
from captum_neuroinspect.inspection.report._page_values import page_values_of
from captum_neuroinspect.inspection.report._picture_folder import folder_of, write_page
from captum_neuroinspect.inspection.report.pictures import PagePictures, thumbnail
from captum_neuroinspect.inspection.report.report_data import ReportData

_MAX_BYTES = 30_000_000


def write_report(data: ReportData, path: str | Path, *, max_bytes: int = _MAX_BYTES) -> Path:
    """Write a report that opens anywhere: no network, and as a rule no file beside it.

    The same data give the same bytes. Readers tick neurons, write notes and download a
    ``selection.json`` that :meth:`Selection.load` reads.

    A page that would be larger than ``max_bytes`` has its pictures in a folder beside it
    (``report_files`` for ``report.html``), says so, and loads nothing but them. Pictures that an
    earlier page of this name left there are removed; other files stay.

    Args:
        data: what to show.
        path: the HTML file; replaced in one go.
        max_bytes: size of a page that holds its pictures itself, at most.

    Returns:
        ``path``.

    Raises:
        TypeError: for a picture that is neither a PIL image nor a tensor.
        ValueError: for data that contradict themselves, a picture of a wrong shape, or
            ``max_bytes`` below 0.
        OSError: when it cannot be written, or a link or a file stands in the folder's place.
    """
    if max_bytes < 0:
        raise ValueError(f"max_bytes={max_bytes}, expected 0 or more")
    check_data(data)
    path, pictures = Path(path), PagePictures()
    page = _render(data, pictures)
    if len(page) > max_bytes and pictures.n_pictures:
        pictures.folder = folder_of(path)
        page = _render(data, pictures)
    return write_page(path, page, pictures.files)


def _render(data: ReportData, pictures: PagePictures) -> bytes:
    environment = _environment()
    environment.filters["thumbnail"] = pictures
    script = environment.get_template("report.js.j2").render()
    page = environment.get_template("report.html.j2").render(
        data=data,
        view=page_values_of(data),
        pictures=pictures,
        style=Markup(environment.get_template("report.css.j2").render()),
        script=Markup(script),
        script_hash=_hash(script),
    )
    # Names of files that are not UTF-8 hold surrogates, which no page can carry.
    return page.encode("utf-8", errors="replace")


def _hash(script: str) -> str:
    """What the page's policy lets run: this script and no other, should a name slip through."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


class _Compiled(BytecodeCache):
    """Templates compiled once a process: that takes as long as filling them for a small page."""

    codes: ClassVar[dict[str, tuple[str, CodeType]]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        checksum, code = self.codes.get(bucket.key, ("", None))
        if checksum == bucket.checksum:
            bucket.code = code

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self.codes[bucket.key] = (bucket.checksum, bucket.code)


def _environment() -> Environment:
    environment = page_templates(
        "captum_neuroinspect.inspection.report", bytecode_cache=_Compiled()
    )
    environment.filters.update(
        percent=number_formats.percent,
        share=number_formats.share,
        points=number_formats.points,
        number=number_formats.number,
        signed=number_formats.signed,
        shell=shlex.join,
        p_value=p_text,
        thumbnail=thumbnail,
        shown=shown,
    )
    environment.globals.update(count=number_formats.count, control_rows=control_rows)
    return environment
