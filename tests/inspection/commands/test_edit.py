"""Which head the command leaves in its files, and that it says so."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from markupsafe import escape
from safetensors.torch import load_file
from session_examples import inspect_arguments, write_model, write_photos
from typer.testing import CliRunner

from captum_neuroinspect.edit import HeadEdit, _result
from captum_neuroinspect.inspection.commands.cli import app

runner = CliRunner()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_photos(folder / "photos")
    write_photos(folder / "test", n=30, seed=3)
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[str, Path]:
    """With test photos and without."""
    found = {"tested": place / "tested", "untested": place / "untested"}
    for name, out in found.items():
        test = ("--test", place / "test") if name == "tested" else ()
        arguments = map(str, inspect_arguments(place, out, *test, "--class", "apple"))
        result = runner.invoke(app, list(arguments))
        assert result.exit_code == 0, result.stderr
    return found


def _edit(*arguments: object) -> Any:
    result = runner.invoke(app, ["edit", "--quiet", *map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    return result


def _decide(monkeypatch: pytest.MonkeyPatch, decision: str) -> None:
    rule = _result.verdict_on
    monkeypatch.setattr(
        _result, "verdict_on", lambda *a, **o: replace(rule(*a, **o), decision=decision)
    )


@pytest.mark.parametrize("decision", ["keep", "do not keep", "cannot tell"])
@pytest.mark.parametrize("option", [(), ("--keep-anyway",)])
def test_the_file_has_the_head_that_was_decided_for(
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decision: str,
    option: tuple[str, ...],
) -> None:
    _decide(monkeypatch, decision)
    run, saved = runs["tested"], tmp_path / "model.safetensors"
    arguments = ("--run", run, "--method", "equation8", "--save-model", saved, *option)
    is_kept = bool(option) or decision == "keep"
    record = json.loads(_edit(*arguments, "--json").stdout)
    assert record["head"] == ("edited" if is_kept else "original")
    assert record["verdict"]["decision"] == decision
    assert record["verdict"]["n_judged"] == record["n_judged"] == 30

    edit = HeadEdit.load(run / "edit.safetensors")
    assert edit.is_kept == is_kept
    assert edit.verdict.as_dict() == record["verdict"]
    assert not torch.equal(edit.head.weight, edit.original.weight)
    expected = edit.head if is_kept else edit.original
    assert torch.equal(load_file(saved)["head.weight"], expected.weight)

    text = _edit(*arguments).stdout
    (line,) = [one for one in text.splitlines() if one.startswith(str(saved))]
    assert ("has the edited head" in line) == is_kept
    assert ("has the ORIGINAL head" in line) == (not is_kept)
    if decision != "keep":
        assert f"the verdict is '{decision}'" in line
    page = (run / "report.html").read_text("utf-8")
    assert escape(edit.verdict.sentence) in page
    head = "The edited head is in use" if is_kept else "The original head stays in use"
    assert head in page
    # The report made again says the same.
    again = runner.invoke(app, ["report", "--run", str(run), "--quiet"])
    assert again.exit_code == 0, again.stderr
    assert (run / "report.html").read_text("utf-8") == page


def test_the_terminal_has_the_verdict_and_the_controls(runs: dict[str, Path]) -> None:
    text = _edit("--run", runs["tested"], "--method", "equation8").stdout
    edit = HeadEdit.load(runs["tested"] / "edit.safetensors")
    assert edit.verdict.sentence in text
    assert edit.verdict.about_neurons in text
    assert "The verdict rests on 30 photos that were used for nothing else." in text
    assert re.search(r"the same with \d random neurons? \(mean of 5 draws\)", text)


def test_without_test_photos_the_held_out_ones_judge_in_turn(runs: dict[str, Path]) -> None:
    record = json.loads(_edit("--run", runs["untested"], "--method", "equation8", "--json").stdout)
    assert "cross-fitted over 5 folds" in record["verdict"]["rests_on"]
    assert len(record["verdict"]["controls"]) == 2
    page = (runs["untested"] / "report.html").read_text("utf-8")
    assert "cross-fitted over 5 folds" in page
    assert "on which the verdict does not rest" not in page
