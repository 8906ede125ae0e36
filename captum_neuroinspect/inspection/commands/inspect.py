"""``neuroinspect inspect``: from photos to a report of the neurons behind their mistakes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_neuroinspect._core.files import read_text
from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import (
    caution,
    finish,
    names_option,
    safely,
    say,
)

if TYPE_CHECKING:
    from captum_neuroinspect.analysis.explanation import Explanation
    from captum_neuroinspect.describe import UnitDescription
    from captum_neuroinspect.inspection.preflight_checks.preflight import Preflight
    from captum_neuroinspect.inspection.session.session import NeuroInspect


def inspect(
    model: options.Model,
    data: Annotated[
        Path,
        typer.Option(
            parser=options.user_path,
            metavar="PHOTOS",
            help="Folder with one subfolder of labelled photos a class, or a table (.csv, "
            ".parquet) of paths and labels.",
        ),
    ],
    weights: options.Weights = None,
    target: Annotated[
        str | None,
        typer.Option("--class", help="Class to inspect, by name or number. Default: the worst."),
    ] = None,
    predicted: Annotated[
        str | None, typer.Option(help="Only mistakes that were taken for this class.")
    ] = None,
    slices: Annotated[
        str,
        typer.Option(
            help="Part the mistakes by their causes, and explain each slice by itself: 'auto', or "
            "how many. Default: 'off'."
        ),
    ] = "off",
    out: Annotated[
        Path,
        typer.Option(
            parser=options.user_path,
            metavar="FOLDER",
            help="Folder for report, results and kept work.",
        ),
    ] = Path("neuroinspect-run"),
    train: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FOLDER",
            help="Photos that the decision layer was trained on.",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FOLDER",
            help="Photos that judge an edit and are used for nothing else.",
        ),
    ] = None,
    class_names: options.ClassNames = None,
    n_neurons: Annotated[int, typer.Option("--neurons", min=1, help="How many to show.")] = 6,
    steps: options.Steps = 150,
    size: options.Size = None,
    encoder: options.Encoder = "auto",
    guide: options.Guide = None,
    held_out: Annotated[
        float,
        typer.Option(
            help="Share of the photos that is not explained: half of it chooses an edit, half "
            "judges it; with --test all of it chooses."
        ),
    ] = 0.5,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out photos that cannot be read.")
    ] = False,
    by_position: Annotated[
        bool,
        typer.Option(
            "--by-position",
            help="Take the photos' classes in their order (folders: sorted) as the model's, "
            "whatever they are called.",
        ),
    ] = False,
    image_size: options.ImageSize = None,
    resize: options.Resize = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    fresh: options.Fresh = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Find the neurons behind the mistakes on a class, and show what they look for.

    Says first whether labels, class order and pixels look right, how many mistakes are
    explained, and how long the illusions take. Writes OUT/report.html; tick neurons there,
    download selection.json, and give it to `neuroinspect edit`: the command stands at the end.
    What takes long is kept in OUT/work: the same command goes on after an interrupt, and a
    second one takes moments.
    """
    with safely(debug):
        # Imported here: --help must not wait for torch.
        from captum_neuroinspect.inspection.commands import _run_folder as runs

        runs.check_place_of_report(out)
        settings = runs.RunSettings(
            model=_absolute_model(model),
            weights=_absolute_weights(weights),
            data=str(data.absolute()),
            train=None if train is None else str(train.absolute()),
            test=None if test is None else str(test.absolute()),
            class_names=file_of_names(class_names),
            image_size=image_size,
            resize=resize,
            device=device,
            encoder=encoder,
            guide=guide,
            target=target,
            predicted=predicted,
            slices=None if runs.number_of_slices(slices) is None else slices,
            n_neurons=n_neurons,
            n_steps=steps,
            size=size,
            held_out=held_out,
            skip_unreadable=skip_unreadable,
            by_position=by_position,
            seed=seed,
        )
        # The user named the model just now: their file may run.
        session = runs.open_session(settings, out, fresh=fresh, progress=not quiet, trust=True)
        # Programs get the same record from every run: without times.
        found = runs.look_before(session, settings, clock=None if as_json else time.perf_counter)
        if not as_json:
            say(f"{session.worst_classes(5)}\n\n" + "\n".join(found.lines) + "\n")
        for text in found.warnings:
            caution(text)
        runs.retrace(session, settings)
        report = runs.save_run(session, settings, out)
        lines = (
            f"{session.explanation}\n\nOpen {report}, tick the neurons that should not matter, "
            f"download selection.json, and give its place:\n  {runs.next_command(out)}"
        )
        finish(_record(session, found, report), lines, as_json=as_json)


def _absolute_model(spec: str) -> str:
    """A file's function is found again from another folder."""
    path, _, function = spec.rpartition(":")
    if path.endswith(".py"):
        return f"{Path(path).expanduser().absolute()}:{function}"
    folder = Path(function).expanduser()
    return f"hf:{folder.absolute()}" if path == "hf" and folder.is_dir() else spec


def _absolute_weights(weights: str | None) -> str | None:
    from captum_neuroinspect.models._checkpoints import split_weights

    path, part = split_weights(weights or "")
    if not path.is_file():
        return weights
    return str(path.absolute()) if part is None else f"{path.absolute()}::{part}"


def file_of_names(path: Path | None, option: str = "--class-names") -> tuple[str, ...] | None:
    """The lines of a text file that are not empty.

    Args:
        path: of the file, if one was given.
        option: that named it.

    Raises:
        OSError: when there is no such file, or it may not be read.
        ValueError: when it is no file, or no UTF-8 text.
    """
    if path is None:
        return None
    with names_option(option, path):
        text = read_text(path)
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _slices(found: Explanation) -> dict[str, Any] | None:
    """Where they were looked for: why so many, and the neurons of each."""
    if found.slices is None:
        return None
    parts = [
        {"n_mistakes": len(one.mistakes), "neurons": list(one.neurons(20))}
        for one in found.of_slices()
    ]
    return {"reason": found.slices.reason, "slices": parts}


def _said(words: UnitDescription | None) -> dict[str, Any]:
    """Phrases, of which only the first may be certain."""
    if words is None:
        return {"phrases": [], "is_certain": False}
    return {"phrases": list(words.phrases), "is_certain": words.is_certain}


def _record(session: NeuroInspect, looked: Preflight, report: Path) -> dict[str, Any]:
    found, features = session.explanation, session.data.inspected.features
    assert found is not None
    words = {d.unit: d for d in session.descriptions or ()}
    return {
        "report": str(report),
        "accuracy": features.accuracy(),
        "n_photos": len(features),
        "preflight": looked.record(),
        "worst_classes": session.worst_classes().rows(),
        "confusions": session.confusions().rows(),
        "target": {"index": found.target, "name": features.class_name(found.target)},
        "n_explained": len(found.mistakes),
        "slices": _slices(found),
        "neurons": [{**row, **_said(words.get(int(row["neuron"])))} for row in found.rows()[:20]],
    }
