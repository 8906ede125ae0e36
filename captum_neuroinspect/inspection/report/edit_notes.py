"""What a reader wrote about neurons, kept as a text among an edit's remarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from captum_neuroinspect.edit import HeadEdit

_KEY = "notes"  # in an edit's remarks, which are plain values only


def with_notes(remarks: Mapping[str, Any], notes: Mapping[int, str]) -> dict[str, Any]:
    """An edit's remarks with notes by neuron.

    Examples::

        >>> with_notes({}, {3: "grass"})
        {'notes': '[[3, "grass"]]'}
    """
    return {**remarks, _KEY: json.dumps(sorted(notes.items()))}


def notes_of(edit: HeadEdit) -> tuple[tuple[int, str], ...]:
    """The notes of an edit by neuron, in order; none where it has none.

    Raises:
        ValueError: when they are something else than neurons of the head and texts.
    """
    text = edit.remarks.get(_KEY, "[]")
    try:
        notes = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the `{_KEY}` in its remarks are no JSON ({error})") from None
    if not isinstance(notes, list) or not all(_is_note(one, edit) for one in notes):
        raise ValueError(
            f"the `{_KEY}` in its remarks are {str(text)[:80]!r}, expected pairs of a neuron of "
            "the head and a text"
        )
    return tuple((neuron, text) for neuron, text in notes)


def _is_note(value: Any, edit: HeadEdit) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    neuron, text = value
    is_neuron = isinstance(neuron, int) and not isinstance(neuron, bool)
    return is_neuron and 0 <= neuron < edit.head.in_features and isinstance(text, str)
