"""How pages are made from templates: everything is escaped, and nothing may be missing."""

from __future__ import annotations

import shlex

from jinja2 import Environment, PackageLoader, StrictUndefined

from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.edit._verdict_text import control_rows, p_text
from captum_neuroinspect.inspection.report import number_formats
from captum_neuroinspect.inspection.report.pictures import thumbnail


def page_environment(package: str) -> Environment:
    """An environment for the folder ``templates`` of a package."""
    environment = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
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
