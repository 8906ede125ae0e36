"""``neuroinspect demo``: the main job on weights and photos that come with the install."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import safely, say


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FOLDER",
            help="Folder with train/, validation/ and test/, each with one subfolder of photos a "
            "class. Without it: handwritten digits on photos of textures.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(parser=options.user_path, metavar="FOLDER", help="Where to write."),
    ] = Path("neuroinspect-demo"),
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Run the whole path on real weights and photos, with nothing to download.

    Trains a new decision layer on EfficientNet-Lite0's features, takes its mistakes on
    one class, ranks the neurons behind them, renders what these look for, edits the
    layer, and writes report.html, result.json and the pictures.
    """
    with safely(debug):
        # Imported here: --help must not wait for torch.
        from captum_neuroinspect.inspection.demo.output import write_demo
        from captum_neuroinspect.inspection.demo.run import run_demo

        report = write_demo(run_demo(data, seed=seed, progress=not quiet), out)
        say(f"Done. Open {report}")
