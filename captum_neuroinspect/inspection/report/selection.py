"""The choice a reader made in a report: ``selection.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captum_neuroinspect._files import write_text

_FORMAT = 1
_REQUIRED = ("format", "run", "target", "neurons")
_OPTIONAL = ("notes", "note")


@dataclass(frozen=True)
class Selection:
    """Neurons that someone picked for an edit, and why.

    Attributes:
        run: name of the run whose report it was.
        target: the class to mend.
        neurons: indices of features, each once.
        notes: what was written about single neurons, picked or not.
        note: what was written about the whole.
    """

    run: str
    target: int
    neurons: tuple[int, ...]
    notes: Mapping[int, str] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def load(cls, path: str | Path) -> Selection:
        """Read a file that a report's download button wrote.

        Raises:
            FileNotFoundError: when there is none.
            ValueError: when it is not JSON, of another format, or holds something else
                than it should; the message names file and field.
        """
        try:
            return _parsed(json.loads(Path(path).read_text(encoding="utf-8-sig")))
        except FileNotFoundError:
            raise
        # A JSONDecodeError and a UnicodeDecodeError are ValueErrors too.
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no selection: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write a file that :meth:`load` reads."""
        record = {
            "format": _FORMAT,
            "run": self.run,
            "target": self.target,
            "neurons": list(self.neurons),
            "notes": {str(neuron): text for neuron, text in sorted(self.notes.items())},
            "note": self.note,
        }
        return write_text(path, json.dumps(record, indent=2) + "\n")


def _parsed(record: Any) -> Selection:
    if not isinstance(record, dict):
        raise ValueError(f"it holds {_kind(record)}, expected an object")
    # The format first: of another one nothing else is known.
    if "format" in record and (record["format"] != _FORMAT or isinstance(record["format"], bool)):
        raise ValueError(f"`format` is {record['format']!r}, expected {_FORMAT}")
    missing = [name for name in _REQUIRED if name not in record]
    if missing:
        raise ValueError(f"`{missing[0]}` is missing")
    unknown = sorted(set(record) - {*_REQUIRED, *_OPTIONAL})
    if unknown:
        raise ValueError(f"`{unknown[0]}` is unknown, expected {', '.join(_REQUIRED + _OPTIONAL)}")
    return Selection(
        run=_text("run", record["run"]),
        target=_index("target", record["target"]),
        neurons=_neurons(record["neurons"]),
        notes=_notes(record.get("notes", {})),
        note=_text("note", record.get("note", "")),
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is {_kind(value)}, expected a text")
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
