"""``neuroinspect demo``: an inspection and an edit of what comes with the install."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_neuroinspect._core.files import write_text
from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import caution, finish, safely
from captum_neuroinspect.inspection.commands._run_lock import writing_together

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.commands._run_folder import RunSettings
    from captum_neuroinspect.inspection.demo import Digits

_SIZE = 192  # smaller than the photos: three quarters of the time, and what is looked for shows


def demo(
    out: Annotated[
        Path,
        typer.Option(parser=options.user_path, metavar="FOLDER", help="Where to write."),
    ] = Path("neuroinspect-demo"),
    steps: options.Steps = 120,
    seed: options.Seed = 0,
    fresh: options.Fresh = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Inspect and edit a model that has learnt a false correlation, with nothing to download.

    Makes photos of handwritten digits on textures and trains a new decision layer on
    EfficientNet-Lite0's features: the digit 4 always stood on grass. Then does what `inspect`
    and `edit` do, says in a sentence what was found, and writes OUT/report.html and
    OUT/result.json. OUT is a run: tick neurons in the report, download selection.json, and
    give it to `neuroinspect edit`.
    """
    with safely(debug):
        # Imported here: --help must not wait for torch.
        from captum_neuroinspect.experiments.digits_on_textures import DigitsOnTexturesConfig
        from captum_neuroinspect.inspection import demo as digits
        from captum_neuroinspect.inspection.commands import _run_folder as runs

        made = digits.make_digits(
            out / f"digits-{seed}",
            DigitsOnTexturesConfig(seed=seed),
            fresh=fresh,
            progress=not quiet,
        )
        settings = _settings(made, steps, seed)
        session = runs.open_session(settings, out, fresh=fresh, progress=not quiet)
        for text in runs.look_before(session, settings, clock=None).warnings:
            caution(text)
        runs.retrace(session, settings)
        verdict = session.edit().verdict
        with writing_together(out):
            runs.save_edit(session, out)
        report = runs.save_run(session, settings, out)
        found = {"report": str(report), **digits.finding(session)}
        write_text(out / "result.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
        lines = (
            f"{found['sentence']}\n\n{verdict.sentence}\n{verdict.about_neurons}\n\nOpen {report}. "
            "To edit by your own choice of neurons, tick them there, download selection.json, and "
            f"give its place:\n  {runs.next_command(out)}"
        )
        finish(found, lines, as_json=as_json)


def _settings(made: Digits, steps: int, seed: int) -> RunSettings:
    """The same as arguments of `neuroinspect inspect`."""
    from captum_neuroinspect.inspection.commands._run_folder import RunSettings
    from captum_neuroinspect.inspection.demo import BACKBONE, N_NEURONS, RESIZE

    return RunSettings(
        model=BACKBONE,
        weights=str(made.model.absolute()),
        data=str(Path(made.split("deployment")).absolute()),
        train=str(Path(made.split("train")).absolute()),
        test=str(Path(made.split("test")).absolute()),
        class_names=made.class_names,
        image_size=None,
        resize=RESIZE,
        device="cpu",
        encoder="label-space",
        guide=False,
        target=made.target,
        predicted=None,
        slices=None,
        n_neurons=N_NEURONS,
        n_steps=steps,
        size=_SIZE,
        held_out=0.5,
        skip_unreadable=False,
        by_position=False,
        seed=seed,
    )
