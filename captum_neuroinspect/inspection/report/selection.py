"""The choice a reader made in a report: ``selection.json``."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captum_neuroinspect._core.files import read_text, write_text
from captum_neuroinspect._core.texts import shown

_FORMAT = 1
_REQUIRED = ("format", "run", "target", "neurons")
_OPTIONAL = ("notes", "note", "report", "cue", "checksum")


@dataclass(frozen=True)
class Selection:
    """Neurons that someone picked for an edit, and why.

    Attributes:
        run: name of the run whose report it was.
        target: the class to edit.
        neurons: indices of features, each once.
        notes: what was written about single neurons, picked or not.
        note: what was written about the whole.
        report: names what the report was about; empty for a selection made by hand.
        cue: whether the cue is to be removed, in place of what neurons tell.
    """

    run: str
    target: int
    neurons: tuple[int, ...]
    notes: Mapping[int, str] = field(default_factory=dict)
    note: str = ""
    report: str = ""
    cue: bool = False

    @classmethod
    def load(cls, path: str | Path) -> Selection:
        """Read a file that a report's download button wrote.

        Raises:
            OSError: when there is none, or it may not be read.
            ValueError: when it is not JSON, of another format, damaged, or holds something
                else than it should; the message names file and field.
        """
        try:
            return _parsed(json.loads(read_text(path)))
        # A JSONDecodeError and a UnicodeDecodeError are ValueErrors too.
        except (ValueError, RecursionError) as error:
            raise ValueError(shown(f"{path} is no selection: {error}")) from error

    def save(self, path: str | Path) -> Path:
        """Write a file that :meth:`load` reads."""
        record = {
            "format": _FORMAT,
            "run": self.run,
            "report": self.report,
            "target": self.target,
            "neurons": list(self.neurons),
            "notes": {str(neuron): text for neuron, text in sorted(self.notes.items())},
            "note": self.note,
            "cue": self.cue,
            "checksum": self.checksum,
        }
        return write_text(path, json.dumps(record, indent=2) + "\n")

    @property
    def checksum(self) -> str:
        """CRC-32 of the content, as the report's page works it out too."""
        notes = [[str(neuron), text] for neuron, text in sorted(self.notes.items())]
        parts = [self.run, self.report, self.target, list(self.neurons), notes, self.note]
        # Added only where it is ticked: selections from before there was a cue stay whole.
        parts += [True] if self.cue else []
        text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
        # As browsers write halves of a character in JSON.
        text = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
        return f"{zlib.crc32(text.encode()):08x}"

    def check_report(self, report: str) -> None:
        """Refuse to take the choice made in one report for another's.

        Args:
            report: names what the run's report is about.

        Raises:
            ValueError: when the selection names something else. One that names nothing was
                made by hand, and passes.
        """
        if self.report not in ("", report):
            raise ValueError(
                f"the selection was made in another report than this run's now is, although its "
                f"run is called {self.run!r} too: of another model, other photos or other "
                "mistakes. Tick the neurons in this run's report and download it again"
            )


def _parsed(record: Any) -> Selection:
    if not isinstance(record, dict):
        raise ValueError(f"it holds {_kind(record)}, expected an object")
    # The format first: of another one nothing else is known.
    if "format" in record and (record["format"] != _FORMAT or isinstance(record["format"], bool)):
        raise ValueError(
            f"`format` is {record['format']!r}, expected {_FORMAT}: tick the neurons in a report "
            "that this version of captum_neuroinspect wrote"
        )
    missing = [name for name in _REQUIRED if name not in record]
    if missing:
        raise ValueError(f"`{missing[0]}` is missing")
    unknown = sorted(set(record) - {*_REQUIRED, *_OPTIONAL})
    if unknown:
        raise ValueError(f"`{unknown[0]}` is unknown, expected {', '.join(_REQUIRED + _OPTIONAL)}")
    found = Selection(
        run=_text("run", record["run"]),
        target=_index("target", record["target"]),
        neurons=_neurons(record["neurons"]),
        notes=_notes(record.get("notes", {})),
        note=_text("note", record.get("note", "")),
        report=_text("report", record.get("report", "")),
        cue=_truth("cue", record.get("cue", False)),
    )
    if record.get("checksum", found.checksum) != found.checksum:
        raise ValueError(
            "its content is not what its `checksum` says: it is damaged, or was edited by hand "
            "(then remove the `checksum`)"
        )
    return found


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is {_kind(value)}, expected a text")
    return value


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` is {_kind(value)}, expected true or false")
    return value


def _index(name: str, value: Any) -> int:
    # bool is an int to Python, not to a reader.
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"`{name}` is {value!r}, expected a whole number from 0 up")
    return value


def _neurons(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError(f"`neurons` is {_kind(value)}, expected a list of whole numbers")
    neurons = tuple(_index(f"neurons[{i}]", item) for i, item in enumerate(value))
    if len(set(neurons)) < len(neurons):
        raise ValueError(f"`neurons` is {list(neurons)}, expected each neuron once")
    return neurons


def _notes(value: Any) -> dict[int, str]:
    if not isinstance(value, dict):
        raise ValueError(f"`notes` is {_kind(value)}, expected an object of neurons and texts")
    for key in value:
        # "007" and "7" would be the same neuron.
        if not (key.isascii() and key.isdecimal() and str(int(key)) == key):
            raise ValueError(f"`notes` has the key {key!r}, expected the number of a neuron")
    return {int(key): _text(f"notes[{key}]", text) for key, text in value.items()}


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a bool", type(None): "null"}
    return names.get(type(value), "a number")
