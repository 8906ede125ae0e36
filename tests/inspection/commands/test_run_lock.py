"""Settings and report of a run are of one inspection, or the next command says so."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from session_examples import assert_one_sentence, inspect_arguments, write_photos
from typer.testing import CliRunner, Result

from captum_neuroinspect.inspection.commands import _run_folder as runs
from captum_neuroinspect.inspection.commands._run_lock import is_of_another
from captum_neuroinspect.inspection.commands.cli import app

runner = CliRunner()
EDIT = ("--method", "equation8", "--quiet")


def _run(*arguments: object) -> Result:
    return runner.invoke(app, [str(one) for one in arguments])


def _mark(page: Path) -> str:
    found = re.search(r'name="neuroinspect-inspection" content="([0-9a-f]+)"', page.read_text())
    assert found
    return found[1]


OTHERS: dict[str, list[object]] = {
    "class": ["--class", "apple"],
    "steps": ["--steps", 3],
    "seed": ["--seed", 1],
}


@pytest.fixture(scope="module")
def finished(place: Path, tmp_path_factory) -> dict[str, Path]:
    """Inspections that differ in one option each; ``same`` is ``one`` of photos elsewhere."""
    folder: Path = tmp_path_factory.mktemp("finished")
    write_photos(folder / "moved" / "photos")
    wanted: dict[str, list[object]] = {"one": [], "same": ["--data", folder / "moved" / "photos"]}
    for name, more in (wanted | OTHERS).items():
        result = _run(*inspect_arguments(place, folder / name / "run", "--json", *more))
        assert result.exit_code == 0, result.stderr
    return {name: folder / name / "run" for name in wanted | OTHERS}


@pytest.fixture
def mixed(finished: dict[str, Path], tmp_path: Path, request) -> Path:
    """Settings of one, report of another."""
    run = tmp_path / "run"
    shutil.copytree(finished["one"], run)
    shutil.copy(finished[request.param] / "report.html", run)
    return run


def test_both_carry_the_mark_of_what_is_inspected(finished: dict[str, Path]) -> None:
    marks = {}
    for name, run in finished.items():
        marks[name] = json.loads((run / "run.json").read_text())["inspection"]
        assert _mark(run / "report.html") == marks[name]
        assert not is_of_another(run / "report.html", marks[name])
    # Where the photos lie does not count; everything else does.
    assert marks.pop("same") == marks["one"]
    assert len(set(marks.values())) == len(marks)


@pytest.mark.parametrize("mixed", OTHERS, indirect=True)
def test_an_edit_refuses(mixed: Path) -> None:
    before = (mixed / "report.html").read_bytes()
    result = _run("edit", "--run", mixed, *EDIT, "--json")
    assert_one_sentence(result, f"{mixed}/report.html is of another inspection than run.json")
    assert f"run `neuroinspect report --run {mixed}` for the report" in result.stderr
    assert (mixed / "report.html").read_bytes() == before
    assert not (mixed / "edit.safetensors").exists()


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("mixed", ["steps"], indirect=True)
def test_the_report_of_the_settings_takes_the_place(finished, mixed: Path) -> None:
    result = _run("report", "--run", mixed, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert _mark(mixed / "report.html") == _mark(finished["one"] / "report.html")
    (line,) = [one for one in result.stderr.splitlines() if "was of another inspection" in one]
    assert line.startswith("Warning: ")
    assert "run its `neuroinspect inspect` again" in line
    assert (mixed / "report.html").read_bytes() == (finished["one"] / "report.html").read_bytes()
    assert "was of another" not in _run("report", "--run", mixed, "--quiet").stderr
    assert _run("edit", "--run", mixed, *EDIT).exit_code == 0


@pytest.mark.parametrize("command", ["edit", "report"])
def test_what_another_command_inspected_meanwhile_stays(
    place: Path, finished: dict[str, Path], tmp_path: Path, monkeypatch, command: str
) -> None:
    run, retrace = tmp_path / "run", runs.retrace
    shutil.copytree(finished["one"], run)

    def slow(session: Any, settings: Any) -> None:
        retrace(session, settings)
        for name in ("run.json", "report.html"):
            shutil.copy(finished["class"] / name, run)

    monkeypatch.setattr(runs, "retrace", slow)
    method = ("--method", "equation8") if command == "edit" else ()
    result = _run(command, "--run", run, "--quiet", "--json", *method)
    assert_one_sentence(result, f"another command inspected {run} anew meanwhile")
    for name in ("run.json", "report.html"):
        assert (run / name).read_bytes() == (finished["class"] / name).read_bytes()
    assert not (run / "edit.safetensors").exists()


def test_no_mark_is_no_other_mark(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert not is_of_another(page, "0" * 16)
    page.write_bytes(b"\0" * 10_000)
    assert not is_of_another(page, "0" * 16)
    page.unlink()
    page.symlink_to(page)
    assert not is_of_another(page, "0" * 16)
    page.unlink()
    page.mkdir()
    assert not is_of_another(page, "0" * 16)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"n_steps": 3}, {"target": "apple"}, {"held_out": 0.25}]
)
def test_settings_that_changed_are_told(finished, tmp_path: Path, change: dict[str, Any]) -> None:
    record = json.loads((finished["one"] / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | change))
    for command in ("edit", "report"):
        result = _run(command, "--run", tmp_path, "--json")
        assert_one_sentence(result, "its settings are not those that its `inspection` names")


def test_photos_that_moved_can_be_told_to_a_run(finished, tmp_path: Path) -> None:
    shutil.copytree(finished["one"], tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    write_photos(tmp_path / "new place")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"data": str(tmp_path / "new place")}))
    assert _run("report", "--run", tmp_path / "run", "--quiet").exit_code == 0
    old, new = finished["one"] / "report.html", tmp_path / "run" / "report.html"
    assert new.read_bytes() == old.read_bytes()
