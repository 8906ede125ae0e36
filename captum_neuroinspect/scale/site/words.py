"""Phrases of neurons, from the table that ``neuroinspect describe`` writes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import NamedTuple

from captum_neuroinspect._core.files import read_text, write_text

_WORDS = "words.json"
_UNIT, _PHRASE, _CERTAIN = "unit", "description", "is_certain"
_DIGITS = 9  # of a unit's number
_SAID = {"true": True, "false": False}


class UnitWords(NamedTuple):
    """What a table says of one neuron.

    Attributes:
        phrases: the likeliest first.
        is_certain: whether the first is more than a guess; None where the table does not say.
    """

    phrases: list[str]
    is_certain: bool | None


Words = dict[int, UnitWords]


def read_table(path: str | Path) -> Words:
    """The phrases of each neuron in a CSV with the columns ``unit`` and ``description``.

    A column ``is_certain`` says which of them are more than guesses.

    Raises:
        OSError: when there is none.
        ValueError: for other columns, or a unit that is no whole number.
    """
    try:
        return _words(path, csv.DictReader(io.StringIO(read_text(path))))
    except csv.Error as error:  # such as a quote that is not closed
        raise ValueError(f"{str(path)!r} is no CSV of phrases: {error}") from None


def _words(path: str | Path, rows: csv.DictReader[str]) -> Words:
    if not {_UNIT, _PHRASE} <= set(rows.fieldnames or ()):
        raise ValueError(
            f"{str(path)!r} has the columns {rows.fieldnames}, expected {_UNIT!r} and {_PHRASE!r} "
            "among them, as `neuroinspect describe` writes descriptions.csv"
        )
    words, seen = Words(), set[tuple[int, str]]()
    for row in rows:
        unit, phrase = row[_UNIT] or "", (row[_PHRASE] or "").strip()
        if not unit.isdecimal() or len(unit) > _DIGITS:
            raise ValueError(
                f"{str(path)!r}, line {rows.line_num}: {_UNIT}={unit!r}, expected a whole number"
            )
        if phrase:
            certain = _SAID.get((row.get(_CERTAIN) or "").lower())
            found = words.setdefault(int(unit), UnitWords([], certain))
            if (int(unit), phrase) not in seen:
                seen.add((int(unit), phrase))
                found.phrases.append(phrase)
    return words


def keep(words: Words, folder: Path) -> None:
    """Write phrases into an atlas's folder, where its page finds them."""
    record = {neuron: one._asdict() for neuron, one in words.items()}
    write_text(folder / _WORDS, json.dumps(record, ensure_ascii=False, indent=1) + "\n")


def kept(folder: Path) -> Words:
    """What :func:`keep` wrote; nothing where it wrote none."""
    path = folder / _WORDS
    found = json.loads(read_text(path)) if path.exists() else {}
    return {int(neuron): UnitWords(**one) for neuron, one in found.items()}
