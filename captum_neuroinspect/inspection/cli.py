"""The ``neuroinspect`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captum_neuroinspect import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find the neurons behind a classifier's mistakes, see what they look for, mend the head.",
)


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
    # A callback keeps `demo` a subcommand while it is the only one.
    del version


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with train/, validation/ and test/, each with one subfolder of photos a "
            "class. Without it: handwritten digits on photos of textures."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("neuroinspect-demo"),
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same numbers.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Run the whole path on real weights and photos, with nothing to download.

    Trains a new decision layer on EfficientNet-Lite0's features, takes its mistakes on
    one class, ranks the neurons behind them, renders what these look for, edits the
    layer, and writes report.html, result.json and the pictures.
    """
    try:
        # Imported here: --help must not wait for torch.
        from captum_neuroinspect.inspection.demo import run_demo
        from captum_neuroinspect.inspection.demo_output import write_demo

        report = write_demo(run_demo(data, seed=seed, progress=not quiet), out)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        if debug:
            raise
        typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None
    typer.echo(f"Done. Open {report}")


def main() -> None:
    """Entry point of the command."""
    app()
