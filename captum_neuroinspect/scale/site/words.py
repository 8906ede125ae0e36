"""Phrases of neurons, from the table that ``neuroinspect describe`` writes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from captum_neuroinspect._core.files import read_text, write_text

_WORDS = "words.json"
_UNIT, _PHRASE = "unit", "description"

Words = dict[int, list[str]]


def read_table(path: str | Path) -> Words:
    """The phrases of each neuron in a CSV with the columns ``unit`` and ``description``.

    Raises:
        OSError: when there is none.
        ValueError: for other columns, or a unit that is no whole number.
    """
    rows = csv.DictReader(io.StringIO(read_text(path)))
    if not {_UNIT, _PHRASE} <= set(rows.fieldnames or ()):
        raise ValueError(
            f"{str(path)!r} has the columns {rows.fieldnames}, expected {_UNIT!r} and {_PHRASE!r} "
            "among them, as `neuroinspect describe` writes descriptions.csv"
        )
    words = Words()
    for row in rows:
        unit, phrase = row[_UNIT] or "", (row[_PHRASE] or "").strip()
        if not unit.isdecimal():
            raise ValueError(
                f"{str(path)!r}, line {rows.line_num}: {_UNIT}={unit!r}, expected a whole number"
            )
        if phrase and phrase not in words.setdefault(int(unit), []):
            words[int(unit)].append(phrase)
    return words


def keep(words: Words, folder: Path) -> None:
    """Write phrases into an atlas's folder, where its page finds them."""
    write_text(folder / _WORDS, json.dumps(words, ensure_ascii=False, indent=1) + "\n")


def kept(folder: Path) -> Words:
    """What :func:`keep` wrote; nothing where it wrote none."""
    path = folder / _WORDS
    found = json.loads(read_text(path)) if path.exists() else {}
    return {int(neuron): phrases for neuron, phrases in found.items()}
