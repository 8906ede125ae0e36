"""``neuroinspect questionnaire``: pictures for people, blind, and what they chose."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import finish, safely

app = typer.Typer(
    no_args_is_help=True,
    help="The paper's Table I for people: make a blind questionnaire, read answers.",
)


@app.command()
def make(
    out: Annotated[
        Path,
        typer.Option(parser=options.user_path, metavar="FOLDER", help="Where to write."),
    ] = Path("questionnaire"),
    questions: Annotated[
        int | None, typer.Option(min=1, help="Random classes, one question each. Default: 20.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimisation steps. Default: those of the options.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=32, help="Pixels a side of the pictures. Default: 224.")
    ] = None,
    paper: Annotated[
        bool | None,
        typer.Option(
            "--paper/--package",
            help="The authors' options of illusions (default), or those of this package.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small version, to see that everything works.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Another model with ImageNet's classes, as in `neuroinspect inspect`."),
    ] = None,
    weights: options.Weights = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Make the paper's Table I for people: a blind questionnaire in one HTML file.

    Renders a neuron of each of some random classes alone (FV), in its class, and guided by the
    encoder. Writes OUT/questionnaire.html, which is sent to participants and works without a
    network, and OUT/key/questionnaire-key.json, which says which picture is which and is not.
    Give the CSV files that they send back to `neuroinspect questionnaire read`.
    """
    with safely(debug):
        from captum_neuroinspect.experiments import Setup
        from captum_neuroinspect.experiments.human_proxy import make_questionnaire

        asked = {
            "n_questions": questions,
            "n_steps": steps,
            "size": size,
            "options": None if paper is None else "paper" if paper else "package",
        }
        setup = Setup(out, model=model, weights=weights, device=device, progress=not quiet)
        page, key, made = make_questionnaire(
            setup,
            seed=seed,
            quick=quick,
            settings={name: value for name, value in asked.items() if value is not None},
        )
        record = {"page": str(page), "key": str(key), "questions": len(made.rows)}
        finish(
            record,
            f"{len(made.rows)} questions.\nSend {page} to participants.\nKeep {key}: it says "
            f"which picture is which.\nRead their answers with\n  neuroinspect questionnaire read "
            f"{key} answers-*.csv",
            as_json=as_json,
        )


@app.command()
def read(
    key: Annotated[
        Path,
        typer.Argument(
            parser=options.user_path, metavar="KEY", help="The key of `questionnaire make`."
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            parser=options.user_path, metavar="CSV", help="The answers, a file each participant."
        ),
    ],
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Say which pictures people chose: shares with exact tests, and pairs.

    Refuses a file that is broken, incomplete or of another questionnaire, and the answers of one
    participant given twice.
    """
    with safely(debug):
        from captum_neuroinspect.experiments.questionnaire import QuestionnaireKey
        from captum_neuroinspect.experiments.questionnaire_answers import read_answers

        found = read_answers(QuestionnaireKey.load(key), files)
        record = {
            "participants": len(found.chosen),
            "untold": found.n_untold,
            "shares": [asdict(row) for row in found.shares()],
            "pairs": [asdict(row) for row in found.pairs()],
        }
        finish(record, found.markdown().rstrip("\n"), as_json=as_json)
