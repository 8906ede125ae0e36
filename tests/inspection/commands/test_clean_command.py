"""``neuroinspect clean``: what it says, asks and removes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from captum_neuroinspect._core.locks import locked
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.inspection.commands.cli import app


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    made = WorkFolder(tmp_path / "run" / "work")
    made.json("words", {"seed": 0}, lambda: list(range(200)))
    return made


def _clean(*words: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["clean", *map(str, words)], input=answer)


def _n_files(work: WorkFolder) -> int:
    return len(list(work.path.rglob("*.json")))


def test_list_removes_nothing(work: WorkFolder, tmp_path: Path) -> None:
    result = _clean(tmp_path, "--list")
    assert result.exit_code == 0
    assert f"{work.path}: 1 result, 1." in result.output
    assert "1 words, 1." in result.output
    assert "kB, last written less than an hour ago" in result.output
    assert _n_files(work) == 2


def test_yes_removes_and_says_how_much(work: WorkFolder, tmp_path: Path) -> None:
    result = _clean(tmp_path, "--yes")
    assert result.exit_code == 0
    assert "removed 1 result, 1." in result.output
    assert _n_files(work) == 0
    assert _clean(tmp_path, "--yes").output == "There is nothing to remove.\n"


@pytest.mark.parametrize(("answer", "n_left"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_it_asks_before(
    work: WorkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, n_left: int
) -> None:
    monkeypatch.setattr("captum_neuroinspect.inspection.commands.clean._can_ask", lambda: True)
    result = _clean(tmp_path, answer=answer)
    assert result.exit_code == 0
    assert "Remove 1 result, 1." in result.output
    assert _n_files(work) == n_left


def test_where_nobody_can_be_asked_an_option_is_asked_for(work: WorkFolder, tmp_path: Path) -> None:
    for words in ((), ("--json",)):
        result = _clean(tmp_path, *words, answer="y\n")
        assert result.exit_code == 1
        assert "give --yes to remove, or --list to look" in result.output
    assert _n_files(work) == 2


def test_as_json(work: WorkFolder, tmp_path: Path) -> None:
    record = json.loads(_clean(tmp_path, "--list", "--json").stdout)
    (folder,) = record.pop("folders")
    assert folder["folder"] == str(work.path)
    assert (folder["n_results"], folder["kinds"]) == (1, {"words": 1})
    assert not folder["is_in_use"]
    assert record["n_removable"] == 1
    assert (
        record["n_bytes"]
        == folder["n_bytes"]
        == sum(path.stat().st_size for path in work.path.rglob("*.json"))
    )
    assert record["n_removed"] == record["n_bytes_removed"] == 0
    removed = json.loads(_clean(tmp_path, "--yes", "--json").stdout)
    assert (removed["n_removed"], removed["n_bytes_removed"]) == (1, record["n_bytes"])


def test_a_folder_in_which_a_command_runs_is_left(work: WorkFolder, tmp_path: Path) -> None:
    other = WorkFolder(tmp_path / "other" / "work")
    other.json("words", {"seed": 1}, lambda: 1)
    with locked(work.path / ".locks" / "run.lock"):
        result = _clean(tmp_path, "--yes")
    assert "a command runs there: it is left alone" in result.output
    assert (_n_files(work), _n_files(other)) == (2, 0)


def test_a_folder_given_twice_is_counted_once(work: WorkFolder, tmp_path: Path) -> None:
    assert "removed 1 result," in _clean(tmp_path, work.path, tmp_path, "--yes").output


def test_filters(work: WorkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("--older-than", "1h"), ("--other-versions",)):
        assert "nothing to remove" in _clean(tmp_path, "--yes", *words).output
    monkeypatch.setattr(
        "captum_neuroinspect.inspection.cache.cleaning.MADE_BY", "captum-neuroinspect 9, method 1"
    )
    assert "1 of another version" in _clean(tmp_path, "--list").output
    assert "removed 1 result," in _clean(tmp_path, "--yes", "--other-versions").output


@pytest.mark.parametrize("text", ["", "3", "d", "-1d", "1.5d", "3 d", "3m", "9999999999h", "٣d"])
def test_ages_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    result = _clean(tmp_path, "--yes", f"--older-than={text}")
    assert result.exit_code == 1
    assert "expected hours, days or weeks, as 12h, 30d or 2w" in result.output


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = _clean(tmp_path / "no", "--yes")
    assert result.exit_code == 1
    assert "No such file or directory" in result.output
