"""``selection.json``: what is read, and what is said when it cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from captum_neuroinspect.inspection import Selection

GOOD: dict[str, Any] = {
    "format": 1,
    "run": "run-1",
    "target": 3,
    "neurons": [840, 12],
    "notes": {"12": "reeds", "7": "unsure"},
    "note": "both follow the water",
}


def _load(tmp_path: Path, record: object) -> Selection:
    path = tmp_path / "selection.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    return Selection.load(path)


def test_fields_arrive(tmp_path: Path) -> None:
    selection = _load(tmp_path, GOOD)
    assert selection == Selection(
        run="run-1",
        target=3,
        neurons=(840, 12),
        notes={12: "reeds", 7: "unsure"},
        note="both follow the water",
    )


def test_notes_may_be_left_out(tmp_path: Path) -> None:
    record = {name: GOOD[name] for name in ("format", "run", "target", "neurons")}
    assert _load(tmp_path, record) == Selection("run-1", 3, (840, 12))


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    selection = Selection("läuft </script>", 0, (5, 1), {5: "鳥\n\ud800"}, "")
    assert Selection.load(selection.save(tmp_path / "s.json")) == selection


def test_a_ticked_cue_is_kept(tmp_path: Path) -> None:
    selection = Selection("run", 0, (), cue=True)
    assert Selection.load(selection.save(tmp_path / "s.json")) == selection
    assert selection.checksum != Selection("run", 0, ()).checksum
    with pytest.raises(ValueError, match="`cue` is a text, expected true or false"):
        _load(tmp_path, GOOD | {"cue": "yes"})


def test_a_selection_belongs_to_its_report() -> None:
    made = Selection("run", 0, (5,), report="ab12")
    made.check_report("ab12")
    Selection("run", 0, (5,)).check_report("ab12")  # made by hand
    with pytest.raises(ValueError, match=r"made in another report .* its run is called 'run' too"):
        made.check_report("cd34")


@pytest.mark.parametrize(
    "change",
    [{"run": "r"}, {"report": "x"}, {"target": 1}, {"neurons": [5]}, {"neurons": [1, 5]},
     {"notes": {"5": "鳩"}}, {"notes": {}}, {"note": "!"}],
)  # fmt: skip
def test_what_was_changed_after_it_was_saved_is_told(tmp_path: Path, change) -> None:
    path = Selection("run", 0, (5, 1), {5: "鳥"}, "", "ab12").save(tmp_path / "selection.json")
    record = json.loads(path.read_text("utf-8"))
    with pytest.raises(ValueError, match="is no selection: its content is not what its `checksum`"):
        _load(tmp_path, record | change)
    del record["checksum"]
    _load(tmp_path, record | change)


def test_a_byte_order_mark_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert Selection.load(path).target == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "`format` is 2, expected 1"),
        ({"format": "1"}, "`format` is '1', expected 1"),
        ({"format": True}, "`format` is True, expected 1"),
        ({"run": 5}, "`run` is a number, expected a text"),
        ({"target": -1}, "`target` is -1, expected a whole number from 0 up"),
        ({"target": 1.0}, "`target` is 1.0, expected a whole number"),
        ({"target": True}, "`target` is True, expected a whole number"),
        ({"neurons": "12"}, "`neurons` is a text, expected a list"),
        ({"neurons": [1, "2"]}, "`neurons[1]` is '2', expected a whole number"),
        ({"neurons": [4, 4]}, "`neurons` is [4, 4], expected each neuron once"),
        ({"notes": []}, "`notes` is a list, expected an object"),
        ({"notes": {"a": "b"}}, "`notes` has the key 'a'"),
        ({"notes": {"07": "b"}}, "`notes` has the key '07'"),
        ({"notes": {"7": None}}, "`notes[7]` is null, expected a text"),
        ({"note": {}}, "`note` is an object, expected a text"),
        ({"neuron": 1}, "`neuron` is unknown, expected format, run"),
    ],
)
def test_wrong_fields_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"selection.json is no selection: {message}")):
        _load(tmp_path, {**GOOD, **change})


@pytest.mark.parametrize("name", ["format", "run", "target", "neurons"])
def test_missing_fields_are_named(tmp_path: Path, name: str) -> None:
    record = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ValueError, match=f"`{name}` is missing"):
        _load(tmp_path, record)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\xfa", b"[" * 100_000, b'{"target": ' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "no text", "deep", "huge number"],
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json is no selection"):
        Selection.load(path)


def test_a_list_is_no_selection(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it holds a list, expected an object"):
        _load(tmp_path, [1])


def test_no_file_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Selection.load(tmp_path / "none.json")
