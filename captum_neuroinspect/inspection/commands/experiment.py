"""``neuroinspect experiment``: one of the paper's tables or figures, computed here."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import (
    FAILED,
    caution,
    complain,
    finish,
    safely,
    say,
)

if TYPE_CHECKING:
    from captum_neuroinspect.experiments import ExperimentRun

_DEFAULT_OUT = "experiment-NAME"


def experiment(
    name: Annotated[
        str | None, typer.Argument(help="Which one. Without it all are listed, a line each.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FOLDER",
            help=f"Where to write. Default: {_DEFAULT_OUT}.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small version, to see that everything works.")
    ] = False,
    seeds: Annotated[str, typer.Option(help="Seeds; means are over them.")] = "0 1 2",
    data: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FOLDER",
            help="The data set. Without it some experiments say what they need and from where.",
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the data set into --data if it is absent.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Another backbone, as in `neuroinspect inspect`.")
    ] = None,
    weights: options.Weights = None,
    image_size: options.ImageSize = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another value of a setting, as JSON, such as --set n_neurons=3. May be repeated.",
        ),
    ] = None,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Repeat one of the paper's experiments: a table with intervals, and a figure.

    Defaults are the paper's. Writes OUT/results.md, OUT/results.json and OUT/results.png. Each
    scenario with each seed is kept in OUT as soon as it is done: the same command goes on after
    an interrupt, and computes only what is missing.
    """
    with safely(debug):
        from captum_neuroinspect.experiments import NAMES, Setup, list_experiments, run_experiment

        if name not in NAMES:
            if name is not None:
                close = get_close_matches(name, NAMES, n=1)
                hint = f": is {close[0]!r} meant?" if close else ""
                complain(f"experiment {name!r} is unknown{hint}")
            say(f"Experiments:\n{list_experiments()}")
            raise typer.Exit(FAILED if name is not None else 0)
        place = out if out is not None else Path(_DEFAULT_OUT.replace("NAME", name))
        setup = Setup(
            place,
            data=data,
            model=model,
            weights=weights,
            image_size=image_size,
            device=device,
            download=download,
            progress=not quiet,
        )
        run = run_experiment(
            name,
            setup,
            seeds=_numbers(seeds),
            quick=quick,
            settings=_settings(set_ or []),
            say=caution if as_json else say,
        )
        finish(_record(run), _text(run), as_json=as_json)


def _numbers(text: str) -> list[int]:
    """Whole numbers with spaces or commas between."""
    try:
        return [int(one) for one in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"--seeds={text!r}, expected whole numbers such as '0 1 2'") from None


def _settings(given: list[str]) -> dict[str, Any]:
    """Each ``NAME=VALUE``; a value that is no JSON is a text."""
    found = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not (name and sign):
            raise ValueError(f"--set {one!r}, expected NAME=VALUE such as n_neurons=3")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _record(run: ExperimentRun) -> dict[str, Any]:
    return {
        "experiment": run.experiment.name,
        "page": str(run.page),
        "n_parts": len(run.results),
        "n_reused": run.n_reused,
        "n_other": run.n_other,
    }


def _text(run: ExperimentRun) -> str:
    from captum_neuroinspect.experiments.pages import QUICK, markdown

    first = run.experiment.tables(run.results)[0]
    quick = f"{QUICK.strip('*')}\n\n" if run.experiment.is_quick else ""
    return f"\n{quick}{markdown(first)}\n\n{run}"
