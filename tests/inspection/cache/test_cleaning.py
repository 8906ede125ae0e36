"""What is found and removed, what is left, and attempts to have other files removed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_neuroinspect._core.files import partial_folder
from captum_neuroinspect._core.kept_file import write_kept
from captum_neuroinspect._core.locks import locked
from captum_neuroinspect.inspection.cache import cleaning
from captum_neuroinspect.inspection.cache.cleaning import (
    UNFINISHED,
    find_removable,
    is_in_use,
    remove,
)
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    made = WorkFolder(tmp_path / "run" / "work")
    for seed in range(2):
        made.tensors("features", {"seed": seed}, lambda: {"x": torch.ones(4)})
    made.json("words", {"seed": 0}, lambda: {"n": 1})
    return made


def _files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir() and path.suffix != ".lock"
    }


def _remove_all(folder: Path) -> int:
    return sum(remove(one) is not None for one in find_removable(folder))


def test_kept_results_are_found_and_removed(work: WorkFolder, tmp_path: Path) -> None:
    found = find_removable(tmp_path)
    assert sorted(one.kind for one in found) == ["features", "features", "words"]
    assert all(one.is_current and one.top == work.path.resolve() for one in found)
    sizes = {path.name: path.stat().st_size for path in work.path.rglob("*") if path.is_file()}
    for one in found:
        assert one.n_bytes == sum(sizes[name] for name in one.names)
        assert remove(one) == one.n_bytes
        assert remove(one) is None  # gone
    assert _files(tmp_path) == set()
    assert find_removable(tmp_path) == []


def test_what_was_removed_is_made_again(work: WorkFolder, tmp_path: Path) -> None:
    assert _remove_all(tmp_path) == 3
    assert work.json("words", {"seed": 0}, lambda: {"n": 2}) == {"n": 2}


def test_other_files_stay(work: WorkFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "report.html").write_text("page")
    (run / "run.json").write_text("{}")
    write_kept(run / "edit.safetensors", "HeadEdit", {"x": torch.ones(1)}, {})
    names = (
        "mine.txt",
        "0123456789abcdef.00112233.safetensors",  # a value's name, but no lock of ours
        "0123456789abcdef.entry.json",
        "0123456789abcdez.entry.json",
        "other.entry.json",
    )
    for name in names:
        (work.path / "features" / name).write_text("{}")
    _remove_all(tmp_path)
    kept = {f"work/features/{name}" for name in names}
    assert _files(run) == kept | {"report.html", "run.json", "edit.safetensors"}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "photos"},
        {"file": "../../../precious.txt"},
        {"file": "precious.txt"},
        {"file": "0000000000000000.00000000.safetensors"},
        {"file": 3},
        {"made_by": "another program"},
        {"made_by": None},
    ],
)
def test_a_record_leads_to_no_file_that_is_not_its_own(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    work = WorkFolder(tmp_path / "work")
    work.json("words", {"seed": 0}, lambda: 1)
    precious = [tmp_path / "precious.txt", work.path / "words" / "precious.txt"]
    precious.append(work.path / "words" / "0000000000000000.00000000.safetensors")
    for path in precious:
        path.write_text("precious")
    (record,) = work.path.rglob("*.entry.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    _remove_all(tmp_path)
    assert all(path.read_text() == "precious" for path in precious)
    assert record.exists()


@pytest.mark.parametrize("text", ["", "[]", "null", '{"kind": "words"', "[" * 100_000])
def test_a_damaged_record_is_left(tmp_path: Path, text: str) -> None:
    work = WorkFolder(tmp_path / "work")
    work.json("words", {"seed": 0}, lambda: 1)
    (record,) = work.path.rglob("*.entry.json")
    record.write_text(text)
    assert _remove_all(tmp_path) == 0
    assert len(list((work.path / "words").glob("*.json"))) == 2


def test_a_value_without_its_record_is_an_orphan(work: WorkFolder, tmp_path: Path) -> None:
    for record in work.path.glob("features/*.entry.json"):
        record.unlink()
    found = find_removable(tmp_path)
    assert sorted((one.kind, one.is_current) for one in found) == [
        ("features", False),
        ("features", False),
        ("words", True),
    ]
    assert _remove_all(tmp_path) == 3
    assert _files(tmp_path) == set()


def test_results_of_another_version_are_told(
    work: WorkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "MADE_BY", "captum-neuroinspect 9.9.9, method 1")
    assert not any(one.is_current for one in find_removable(tmp_path))


def test_links_are_not_followed(work: WorkFolder, tmp_path: Path) -> None:
    elsewhere = WorkFolder(tmp_path / "elsewhere" / "work")
    elsewhere.json("words", {"seed": 1}, lambda: 1)
    before = _files(elsewhere.path)
    here = tmp_path / "here"
    here.mkdir()
    (here / "work").symlink_to(elsewhere.path)
    (here / "kept").symlink_to(elsewhere.path / "words")
    for path in elsewhere.path.rglob("*.json"):
        (here / path.name).symlink_to(path)
    assert find_removable(here) == []
    assert _files(elsewhere.path) == before


def test_a_link_that_takes_a_folders_place_is_not_followed(
    work: WorkFolder, tmp_path: Path
) -> None:
    """Between the list and the removal the folder is moved, and a link put where it was."""
    found = [one for one in find_removable(tmp_path) if one.kind == "words"]
    aside = tmp_path / "aside"
    for folder in (work.path / "words", work.path):
        os.replace(folder, aside)
        folder.symlink_to(aside)
        assert [remove(one) for one in found] == [None]
        folder.unlink()
        os.replace(aside, folder)
    assert [remove(one) is not None for one in found] == [True]


def test_a_result_that_is_being_made_is_left(work: WorkFolder, tmp_path: Path) -> None:
    found = [one for one in find_removable(tmp_path) if one.kind == "words"]
    with locked(found[0].lock):
        assert is_in_use(work.path)
        assert remove(found[0]) is None
    assert not is_in_use(work.path)
    assert remove(found[0]) is not None


def test_a_run_that_writes_is_in_use(work: WorkFolder) -> None:
    with locked(work.path / ".locks" / "run.lock"):
        assert is_in_use(work.path)
    with partial_folder(work.path / "features"):
        assert is_in_use(work.path)
    assert not is_in_use(work.path)


def _kept_of_experiment(out: Path) -> Path:
    write_kept(out / "kept" / "lite0-a-0.safetensors", "features", {"f": torch.ones(3)}, {})
    write_kept(out / "kept" / "trained.safetensors", "network", {"w": torch.ones(3)}, {})
    write_kept(out / "kept" / "edit.safetensors", "HeadEdit", {"w": torch.ones(3)}, {})
    (out / "kept" / "other.safetensors").write_bytes(b"no safetensors file")
    (out / "parts").mkdir()
    (out / "parts" / "seed0-0123456789ab.json").write_text("{}")
    (out / "results.md").write_text("page")
    return out


def test_kept_features_of_an_experiment(tmp_path: Path) -> None:
    out = _kept_of_experiment(tmp_path / "experiment-gamma")
    found = find_removable(tmp_path)
    assert sorted(one.kind for one in found) == [
        "features of an experiment",
        "network of an experiment",
    ]
    assert {one.top for one in found} == {out.resolve()}
    with partial_folder(out):
        assert is_in_use(out)
    assert not is_in_use(out)
    assert _remove_all(tmp_path) == 2
    assert _files(out) == {
        "kept/edit.safetensors",
        "kept/other.safetensors",
        "parts/seed0-0123456789ab.json",
        "results.md",
    }


def test_the_same_files_in_another_folder_stay(tmp_path: Path) -> None:
    write_kept(tmp_path / "mine" / "a.safetensors", "features", {"f": torch.ones(3)}, {})
    assert find_removable(tmp_path) == []


def test_what_a_killed_process_left(tmp_path: Path) -> None:
    with partial_folder(tmp_path) as living:
        (living / "new.safetensors").write_bytes(b"1234")
        assert find_removable(tmp_path) == []
        (tmp_path / ".neuroinspect-0123456789abcdef.lock").touch()
        dead = tmp_path / ".neuroinspect-0123456789abcdef.partial"
        (dead / "sub").mkdir(parents=True)
        (dead / "sub" / "new.safetensors").write_bytes(b"123")
        (found,) = find_removable(tmp_path)
        assert (found.kind, found.n_bytes) == (UNFINISHED, 3)
        assert remove(found) == 3
        assert not dead.exists()
        assert living.exists()


def test_ages(work: WorkFolder, tmp_path: Path) -> None:
    long_ago = time.time() - 7200
    for path in work.path.glob("words/*.json"):
        os.utime(path, (long_ago, long_ago))
    ages = {one.kind: one.age for one in find_removable(tmp_path)}
    assert 7100 < ages["words"] < 7300
    assert ages["features"] < 60


@pytest.mark.parametrize(
    ("make", "error"),
    [(lambda path: None, FileNotFoundError), (lambda path: path.touch(), NotADirectoryError)],
)
def test_what_is_no_folder(
    tmp_path: Path, make: Callable[[Path], object], error: type[OSError]
) -> None:
    make(tmp_path / "x")
    with pytest.raises(error):
        find_removable(tmp_path / "x")


def test_a_folder_that_may_not_be_read_is_told(work: WorkFolder, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (work.path / "features").chmod(0)
    told: list[OSError] = []
    try:
        assert [one.kind for one in find_removable(tmp_path, told.append)] == ["words"]
    finally:
        (work.path / "features").chmod(0o755)
    assert len(told) == 1
