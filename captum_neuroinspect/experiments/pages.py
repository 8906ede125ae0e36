"""Results of an experiment as JSON, as a Markdown page and as a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_neuroinspect._core.files import write_atomically, write_text
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.experiments.experiment import (
    Cell,
    Experiment,
    Results,
    ResultTable,
)
from captum_neuroinspect.experiments.values import MeanWithInterval, as_json

_DPI = 130
QUICK = "**Made with `--quick`: this shows that everything works. Its numbers say nothing.**"
_BASIS = {
    "t": "Intervals are 95 % of Student's t over {n} {over}",
    "bootstrap": "One seed: intervals are 95 % of a bootstrap over the test photos, and do not "
    "hold the luck of the seed",
    "none": "One seed, and no photos to draw again: no intervals",
}


def write_pages(
    experiment: Experiment, results: Results, identity: Mapping[str, Any], out: Path
) -> Path:
    """Write ``results.json``, ``results.md`` and ``results.png``, each whole or not at all.

    Returns:
        The Markdown page.
    """
    tables = experiment.tables(results)
    write_text(out / "results.json", _json(experiment, results, identity, tables))
    figure = experiment.figure(results)
    write_atomically(
        out / "results.png",
        # Without the date and the version of matplotlib: the same numbers, the same bytes.
        lambda path: figure.savefig(path, dpi=_DPI, metadata={"Software": None}),
    )
    return write_text(out / "results.md", page_of(experiment, results, identity, tables))


def page_of(
    experiment: Experiment,
    results: Results,
    identity: Mapping[str, Any],
    tables: list[ResultTable],
) -> str:
    """The page as Markdown."""
    seeds = sorted({part.seed for part in results})
    lines = [f"# {experiment.name}", "", experiment.summary, ""]
    lines += [f"In the paper: {experiment.source}. Seeds: {', '.join(map(str, seeds))}.", ""]
    if experiment.is_quick:
        lines += [QUICK, ""]
    for table in tables:
        lines += [markdown(table), ""]
    published = experiment.published()
    if published is not None:
        lines += ["## The paper's numbers", "", markdown(published), ""]
    lines += ["![The same as a figure](results.png)", ""]
    if notes := experiment.notes():
        lines += ["## What differs from the paper", "", *(f"- {note}" for note in notes), ""]
    lines += ["## Made with", "", "```json", _lines(identity), "```", ""]
    return "\n".join(lines)


def markdown(table: ResultTable) -> str:
    """A table with a sentence on what its intervals are."""
    estimates = [cell for row in table.rows for cell in row if isinstance(cell, MeanWithInterval)]
    lines = [f"### {_text(table.title)}", ""]
    lines.append("| " + " | ".join(map(_text, table.columns)) + " |")
    lines.append("| --- |" + " --- |" * (len(table.columns) - 1))
    for row in table.rows:
        cells = (
            _cell(cell, column not in table.plain)
            for cell, column in zip(row, table.columns, strict=True)
        )
        lines.append("| " + " | ".join(cells) + " |")
    said = list(
        dict.fromkeys(
            _BASIS[one.basis].format(n=one.n, over=one.over) for one in estimates if one.n
        )
    )
    photos = [one.n_photos for one in estimates if one.n_photos]
    if photos:
        least, most = min(photos), max(photos)
        said.append(f"Each seed judges {least if least == most else f'{least} to {most}'} photos")
    if _goes_beyond_shares(table):
        said.append("An interval that goes beyond 100 % rests on too few to tell anything")
    if said or table.note:
        unit = [_unit(table)] if estimates and _has_shares(table) else []
        text = "".join(f"{one}. " for one in unit + said) + table.note
        lines += ["", text.strip()]
    return "\n".join(lines)


def _has_shares(table: ResultTable) -> bool:
    return not set(table.columns[1:]) <= set(table.plain)


def _goes_beyond_shares(table: ResultTable) -> bool:
    """Whether a Student's t, which does not know that shares end, goes where no share is."""
    return any(
        isinstance(cell, MeanWithInterval)
        and cell.basis == "t"
        and column not in table.plain
        and (cell.high > 1 or cell.low < -1)
        for row in table.rows
        for cell, column in zip(row, table.columns, strict=True)
    )


def _unit(table: ResultTable) -> str:
    plain = [column for column in table.columns if column in table.plain]
    return f"In %, but {', '.join(plain)}" if plain else "In %"


def _json(
    experiment: Experiment, results: Results, identity: Mapping[str, Any], tables: list[ResultTable]
) -> str:
    record = {
        "experiment": experiment.name,
        "made_with": dict(identity),
        "parts": [
            {
                "scenario": part.scenario,
                "seed": part.seed,
                "numbers": {
                    row: {measure: as_json(value) for measure, value in values.items()}
                    for row, values in numbers.items()
                },
            }
            for part, numbers in results.items()
        ],
        "tables": [_table_record(table) for table in tables],
        "notes": experiment.notes(),
    }
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def _table_record(table: ResultTable) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [
            [cell.as_dict() if isinstance(cell, MeanWithInterval) else cell for cell in row]
            for row in table.rows
        ],
        "note": table.note,
        "plain": list(table.plain),
    }


def _lines(identity: Mapping[str, Any]) -> str:
    """JSON with a line a setting."""
    config = identity["config"]
    inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in config.items())
    rest = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in identity.items() if k != "config"]
    return "{\n" + ",\n".join([*rest, ' "config": {\n' + inner + "\n }"]) + "\n}"


def _cell(cell: Cell, is_percent: bool) -> str:
    if not isinstance(cell, MeanWithInterval):
        return _text(cell)
    if not math.isfinite(cell.mean):
        return "-"
    scale, digits = (100, 1) if is_percent else (1, 3)
    # Rounded first, and a zero added: no "-0.0".
    mean, low, high = (
        f"{round(scale * one, digits) + 0.0:.{digits}f}" for one in (cell.mean, cell.low, cell.high)
    )
    return f"{mean} [{low}, {high}]" if math.isfinite(cell.low) else mean


def _text(text: str) -> str:
    """A name as it may stand in a cell of a page."""
    escaped = shown(text).replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("<", "&lt;").replace("`", "\\`")
