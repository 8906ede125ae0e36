"""Loaders on files that are no longer, or never were, what they should be."""

from __future__ import annotations

import contextlib
import json
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from captum_neuroinspect import FeatureSet, HeadEdit, Illusions
from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect.edit import Judged, compare_heads
from captum_neuroinspect.inspection import Selection
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.inspection.commands._run_folder import RunSettings
from captum_neuroinspect.inspection.commands.inspect import file_of_names
from captum_neuroinspect.inspection.preflight_checks.preprocessing import PreprocessingCheck
from captum_neuroinspect.inspection.report.edit_notes import notes_of, with_notes
from captum_neuroinspect.inspection.session.evidence import restored_check
from captum_neuroinspect.models import save_model
from captum_neuroinspect.models._checkpoints import fill, read_checkpoint, weights_for
from captum_neuroinspect.photos._reading import check_file as check_picture
from captum_neuroinspect.photos._reading import file_digest, naming, read_file
from captum_neuroinspect.photos._table import photos_in_table


def _feature_set() -> FeatureSet:
    generator = torch.Generator().manual_seed(0)
    z, logits = torch.rand(6, 3, generator=generator), torch.rand(6, 2, generator=generator)
    return FeatureSet(
        z, logits, torch.arange(6) % 2, torch.arange(6) % 3, ("ä", "b"), head_fingerprint="abc"
    )


def _edit() -> HeadEdit:
    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    edit = compare_heads(one, other, _feature_set(), {1: [0, 2]})
    z = torch.rand(30, 3)
    labels, groups = torch.arange(30) % 2, torch.arange(30) % 3
    judge = FeatureSet(z, one(z).detach(), labels, groups, ("ä", "b"))
    judged = edit.judge(judge)
    assert judged.judged is not None
    # Which heads gave the logits is known from the edit's own heads, and not kept.
    before, after = (
        replace(part, head_fingerprint=None) for part in (judged.judged.before, judged.judged.after)
    )
    return replace(judged, seen=torch.arange(6), judged=Judged(before, after, judged.judged.how))


def _illusions() -> Illusions:
    numbers = torch.arange(2.0)
    return Illusions(
        torch.full((2, 3, 4, 4), 0.5), None, numbers, numbers, None, (1, 2), (0, 1), ("a", "b")
    )


_EDIT = _edit()
SETTINGS = RunSettings(
    model="m.py:net", weights=None, data="photos", train=None, test=None,
    class_names=("größe", "'\""), image_size=None, resize=None, device="cpu",
    encoder="none", guide=None, target=None, predicted=None, slices=None, n_neurons=3, n_steps=2,
    size=None, held_out=0.5, skip_unreadable=False, by_position=False, seed=0,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Something that is saved, and how it is read."""

    make: Callable[[], Any]
    load: Callable[[Path], Any]
    name: str
    kind: str = ""

    def save(self, folder: Path) -> Path:
        made = self.make()
        made.save(folder if self.name == "run.json" else folder / self.name)
        return folder / self.name


CASES = {
    "features": Case(_feature_set, FeatureSet.load, "x.safetensors", "FeatureSet"),
    "edit": Case(_edit, HeadEdit.load, "x.safetensors", "HeadEdit"),
    "illusions": Case(_illusions, Illusions.load, "x.safetensors", "Illusions"),
    "selection": Case(
        lambda: Selection("run", 1, (3, 1), {3: "ü\n"}, "note", "ab12"), Selection.load, "s.json"
    ),
    "run": Case(lambda: SETTINGS, lambda path: RunSettings.load(path.parent), "run.json"),
}
WITH_DIGEST = [name for name in CASES if name != "run"]
TENSORS = [name for name, case in CASES.items() if case.kind]


def _plain(value: Any) -> Any:
    """Equal content, equal text; NaN too."""
    if isinstance(value, Tensor):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, nn.Module):
        return {name: _plain(t) for name, t in value.state_dict().items()}
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return repr(value)


def _read(case: Case, path: Path) -> Any:
    """What is loaded, or ``None`` after an error that is promised and names the file."""
    try:
        return case.load(path)
    except (ValueError, OSError) as error:
        names_it = path.name in str(error)
    assert names_it
    return None


@pytest.fixture(scope="module", params=list(CASES))
def saved(request, tmp_path_factory) -> tuple[Case, Path, bytes]:
    case = CASES[request.param]
    path = case.save(tmp_path_factory.mktemp(request.param))
    return case, path, path.read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_the_same_content_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    assert len({CASES[name].save(tmp_path).read_bytes() for _ in range(8)}) == 1
    assert _plain(CASES[name].load(tmp_path / CASES[name].name)) == _plain(CASES[name].make())


@pytest.mark.parametrize("name", WITH_DIGEST)
def test_a_flipped_bit_is_found_or_changes_nothing(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = case.save(tmp_path)
    whole, expected = path.read_bytes(), _plain(case.make())
    step = max(1, len(whole) // 300)
    n_found = 0
    for at in range(0, len(whole), step):
        content = bytearray(whole)
        content[at] ^= 1 << at % 8
        path.write_bytes(content)
        found = _read(case, path)
        n_found += found is None
        assert found is None or _plain(found) == expected, at
    assert n_found > 100


@pytest.mark.parametrize("name", TENSORS)
def test_damage_is_called_damage_and_the_file_is_named(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = case.save(tmp_path)
    whole = path.read_bytes()
    for content in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], whole[:100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"x\.safetensors cannot be read as {case.kind}.*dam"):
            case.load(path)


def _mutated(whole: bytes, data: st.DataObject) -> bytes:
    content = bytearray(whole)
    how = data.draw(st.sampled_from(["cut", "flip", "insert", "random", "repeat"]))
    if how == "random":
        content = bytearray(data.draw(st.binary(max_size=200)))
    for _ in range(data.draw(st.integers(1, 4)) if how != "random" else 0):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        if how == "cut":
            del content[at:]
        elif how == "flip" and content:
            content[at] = data.draw(st.integers(0, 255))
        elif how == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        elif how == "repeat":
            content[at:at] = content[at : at + 50]
    return bytes(content)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_bytes_give_a_value_or_the_errors_that_are_promised(saved, data) -> None:
    case, path, whole = saved
    path.write_bytes(_mutated(whole, data))
    _read(case, path)


def _json(depth: int = 2) -> st.SearchStrategy[Any]:
    numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**70, math.nan, 1e308])
    plain = st.none() | st.booleans() | numbers | st.text(max_size=5)
    for _ in range(depth):
        plain = plain | st.lists(plain, max_size=3) | st.dictionaries(st.text(max_size=3), plain)
    return plain


def _places(record: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(record, (dict, list)):
        return [at]
    keys = list(record) if isinstance(record, dict) else range(len(record))
    return [at, *(place for key in keys for place in _places(record[key], (*at, key)))]


def _changed(record: Any, data: st.DataObject) -> Any:
    """The record with a part of it replaced, removed or added."""
    record = json.loads(json.dumps(record))
    at = data.draw(st.sampled_from(_places(record)))
    value = data.draw(_json())
    if not at:
        return value if isinstance(value, dict) else {**record, "new": value}
    part = record
    for key in at[:-1]:
        part = part[key]
    if data.draw(st.booleans()):
        part[at[-1]] = value
    else:
        del part[at[-1]]
    return record


@pytest.mark.parametrize("name", ["selection", "run"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_json_of_other_kinds(name: str, tmp_path_factory, data) -> None:
    case = CASES[name]
    path = case.save(tmp_path_factory.getbasetemp())
    record = json.loads(path.read_text("utf-8"))
    record.pop("checksum", None)  # a file of ill will has no damage
    path.write_text(json.dumps(_changed(record, data)))
    _read(case, path)


TENSORS_INSTEAD = (
    torch.zeros(0), torch.tensor(1.0), torch.zeros(6), torch.zeros(6, 2), torch.ones(2, 3).bool(),
    torch.full((6, 3), math.nan), torch.zeros(6, dtype=torch.int64), torch.zeros(3, 2).half(),
    torch.tensor([-1] * 6), torch.zeros(1, 2, 3, 4, 5),
)  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_files_whose_digest_is_right_and_whose_content_is_not(name, tmp_path_factory, data) -> None:
    case = CASES[name]
    path = case.save(tmp_path_factory.getbasetemp())
    version = 2 if name == "edit" else 1
    tensors, record = read_kept(path, case.kind, version=version)
    if data.draw(st.booleans()):
        record = _changed(record, data)
    for key in data.draw(st.lists(st.sampled_from([*tensors, "other"]), max_size=2)):
        tensors.pop(key, None)
        if data.draw(st.booleans()):
            tensors[key] = data.draw(st.sampled_from(TENSORS_INSTEAD))
    write_kept(path, case.kind, tensors, record, version=version)
    found = _read(case, path)
    if found is not None:
        assert str(found)
        repr(found)
    if isinstance(found, HeadEdit):
        assert found.summary()
        assert found._repr_html_()


def _assert_told_at_once(case: Any, kind: str, folder: Path) -> None:
    path = folder / case.name
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "nothing":
        path.symlink_to(path if kind == "loop" else kind)
    with pytest.raises((ValueError, OSError), match=path.name):
        case.load(path)


@pytest.mark.skipif(os.name == "nt", reason="files of POSIX")
@pytest.mark.parametrize("kind", ["nothing", "folder", "loop", "/dev/zero", "pipe"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_no_file_is_told_at_once(name: str, kind: str, tmp_path: Path) -> None:
    _assert_told_at_once(CASES[name], kind, tmp_path)


# What other programs write, and this one only reads.


@dataclass(frozen=True)
class Foreign:
    """A file of another program, and what reads it."""

    name: str
    write: Callable[[Path], object]
    load: Callable[[Path], Any]


def _photo(path: Path) -> None:
    Image.new("RGB", (9, 7), (200, 30, 90)).save(path)


def _weights(path: Path) -> None:
    state = _net().state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path, metadata={"format": "pt"})
    else:
        torch.save({"model": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, path)


def _net() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def _load_weights(path: Path) -> None:
    net, checkpoint = _net(), read_checkpoint(path)
    fill(net, weights_for(checkpoint, net), path, "this")


def _save_like(path: Path) -> None:
    save_model(_net(), path.with_name(f"new{path.suffix}"), like=path)


def _csv(path: Path) -> None:
    path.write_text("path,label,group\na.png,cat,0\nb.png,dog,1\n'c'.png,\"d\nog\",1\n", "utf-8")


def _parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"path": ["a.png", "b.png"], "label": ["cat", "dog"], "group": [0, 1]})
    pytest.importorskip("pyarrow.parquet").write_table(table, path)


def _load_table(path: Path) -> None:
    photos_in_table(path, None, (), must_exist=False)


def _load_photo(path: Path) -> None:
    with naming(path.name):
        read_file(str(path))
        check_picture(str(path))
        file_digest(str(path))


FOREIGN = {
    "checkpoint": Foreign("w.pt", _weights, _load_weights),
    "safetensors": Foreign("w.safetensors", _weights, _load_weights),
    "like": Foreign("w.pt", _weights, _save_like),
    "like safetensors": Foreign("w.safetensors", _weights, _save_like),
    "table": Foreign("t.csv", _csv, _load_table),
    "parquet": Foreign("t.parquet", _parquet, _load_table),
    "names": Foreign("n.txt", lambda path: path.write_text("ä\nb\n", "utf-8"), file_of_names),
    "photo": Foreign("p.png", _photo, _load_photo),
    "jpeg": Foreign("p.jpg", _photo, _load_photo),
}


def _try(foreign: Foreign, path: Path) -> None:
    try:
        foreign.load(path)
    except (ValueError, OSError) as error:
        text = str(error)
    else:
        return
    assert path.name in text
    assert text.isprintable() or "\n" in text


@pytest.fixture(scope="module", params=list(FOREIGN))
def foreign(request, tmp_path_factory) -> tuple[Foreign, Path, bytes]:
    made = FOREIGN[request.param]
    path = tmp_path_factory.mktemp("foreign") / made.name
    made.write(path)
    made.load(path)  # whole, it is read
    return made, path, path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_files_of_other_programs_give_the_errors_that_are_promised(foreign, data) -> None:
    made, path, whole = foreign
    path.write_bytes(_mutated(whole, data))
    _try(made, path)


@pytest.mark.skipif(os.name == "nt", reason="files of POSIX")
@pytest.mark.parametrize("kind", ["nothing", "folder", "loop", "/dev/zero", "pipe"])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_file_of_another_program_is_told_at_once(name, kind, tmp_path: Path) -> None:
    _assert_told_at_once(FOREIGN[name], kind, tmp_path)


HOSTILE = "x\x1b]0;owned\x07\u202e\n"


@pytest.mark.skipif(os.name == "nt", reason="names that Windows has not")
@pytest.mark.parametrize("name", [*CASES, *FOREIGN])
def test_a_name_does_not_steer_the_terminal_of_who_prints_the_message(name, tmp_path) -> None:
    known: Any = {**CASES, **FOREIGN}[name]
    folder = tmp_path / HOSTILE
    folder.mkdir()
    path = folder / known.name
    path = path if name == "run" else path.with_name(HOSTILE + path.suffix)
    if name == "parquet":
        pytest.importorskip("pyarrow")
    for make in (lambda: path.write_bytes(b"\x00\xff{"), lambda: (path.unlink(), path.mkdir())):
        make()
        with pytest.raises((ValueError, OSError)) as caught:
            known.load(path)
        assert str(caught.value).isprintable()
        assert r"\x1b]0;owned" in str(caught.value)


def test_tensors_that_cannot_be_compared_are_no_checkpoint_of_the_model(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pt", _net().state_dict()
    for odd in (state["weight"].to_sparse(), torch.zeros(2, 3, device="meta")):
        torch.save({**state, "weight": odd}, path)
        with pytest.raises(ValueError, match=r"w\.pt"):
            save_model(_net(), tmp_path / "new.pt", like=path)


def test_what_holds_itself_is_left_out_beside_the_weights(tmp_path: Path) -> None:
    path, endless = tmp_path / "w.pt", []
    endless.append(endless)
    torch.save({"model": _net().state_dict(), "log": endless, "epoch": 3}, path)
    saved = save_model(_net(), tmp_path / "new.pt", like=path)
    assert set(torch.load(saved.path)) == {"model", "epoch"}


# Kept in a work folder, with a record whose digests are right.


def _about(value: Any) -> PreprocessingCheck:
    return PreprocessingCheck(True, 3, (0.0, 1.0), 0.2, (-1.0, value))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_kept_json_of_other_kinds_is_made_again(tmp_path_factory, data) -> None:
    work = WorkFolder(tmp_path_factory.mktemp("work"))
    right = asdict(_about(1.0))
    record = _changed(json.loads(json.dumps(right)), data)
    work.json("preprocessing", {}, lambda: record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = work.json("preprocessing", {}, lambda: right, check=restored_check)
    assert isinstance(restored_check(kept), PreprocessingCheck)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_notes_of_an_edit_are_checked(data) -> None:
    edit = replace(_EDIT, remarks=with_notes({}, {0: "a", 2: "b"}))
    assert notes_of(edit) == ((0, "a"), (2, "b"))
    changed = _changed({"notes": json.loads(edit.remarks["notes"])}, data).get("notes")
    text = data.draw(st.sampled_from([json.dumps(changed), "[[1", "7", "[" * 9999, 7, None]))
    with contextlib.suppress(ValueError):
        found = notes_of(replace(edit, remarks={"notes": text}))
        assert all(0 <= neuron < 3 and isinstance(note, str) for neuron, note in found)
    for wrong in ("[[3, 'a']]", '[[3, "a"]]', '[[true, "a"]]', '[["0", "a"]]', "[[0]]", 7, "{}"):
        with pytest.raises(ValueError, match="`notes` in its remarks"):
            notes_of(replace(edit, remarks={"notes": wrong}))
