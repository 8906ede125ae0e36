"""``neuroinspect report``: a run's report once more."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import finish, safely


def report(
    run: options.Run,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FILE",
            help="Where to write. Default: RUN/report.html.",
        ),
    ] = None,
    trust: options.Trust = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Write the report of a run again, with its edit if there is one.

    Takes what the run keeps; what is missing there is computed. A run whose model is a Python
    file RUNS that file, if you ran it before or give --trust.
    """
    with safely(debug):
        from captum_neuroinspect.inspection.commands import _run_folder as runs

        settings = runs.RunSettings.load(run)
        if out is None:
            runs.check_place_of_report(run)
        with runs.names_record(run):
            session = runs.open_session(settings, run, progress=not quiet, trust=trust)
        runs.retrace(session, settings)
        # A report elsewhere leaves the run as it is, which may be one that may only be read.
        with nullcontext() if out is not None else runs.changing_run(settings, run):
            if out is None:
                runs.warn_of_two_inspections(settings, run)
            is_edited = runs.restore_edit(session, run)
            path = runs.write_report(session, settings, run, out)
        finish({"report": str(path), "has_edit": is_edited}, f"Open {path}", as_json=as_json)
