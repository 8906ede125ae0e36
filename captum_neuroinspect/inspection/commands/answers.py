"""``neuroinspect answers``: what people chose in a blind questionnaire."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import finish, safely


def answers(
    key: Annotated[
        Path,
        typer.Argument(
            parser=options.user_path, metavar="KEY", help="The key of `neuroinspect questionnaire`."
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
