"""The ``neuroinspect`` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from captum_neuroinspect._core.version import __version__
from captum_neuroinspect.inspection.commands._output import (
    FAILED,
    INTERRUPTED,
    say_interrupted,
    say_traceback,
    was_interrupted,
)
from captum_neuroinspect.inspection.commands.atlas import atlas
from captum_neuroinspect.inspection.commands.clean import clean
from captum_neuroinspect.inspection.commands.demo import demo
from captum_neuroinspect.inspection.commands.describe import describe
from captum_neuroinspect.inspection.commands.doctor import doctor
from captum_neuroinspect.inspection.commands.edit import edit
from captum_neuroinspect.inspection.commands.experiment import experiment
from captum_neuroinspect.inspection.commands.inspect import inspect
from captum_neuroinspect.inspection.commands.questionnaire import app as questionnaire
from captum_neuroinspect.inspection.commands.report import report
from captum_neuroinspect.inspection.commands.visualize import visualize

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find the neurons behind a classifier's mistakes, see what activates them, edit the head.",
)

for command in (
    demo, inspect, describe, edit, report, visualize, atlas, experiment, doctor, clean,
):  # fmt: skip
    app.command()(command)
app.add_typer(questionnaire, name="questionnaire")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"captum-neuroinspect {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Entry point of the command."""
    try:
        app()
    except SystemExit as end:
        # Before a command begins and after it ended, typer takes the interrupt, without a word.
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            say_interrupted()
        raise
    except Exception as error:  # with --debug, or before a command began
        if was_interrupted(error):
            say_interrupted()
            sys.exit(INTERRUPTED)
        say_traceback(error)
        sys.exit(FAILED)
