"""The command in processes of its own: signals, two at once, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from session_examples import assert_one_sentence, inspect_arguments, n_images_in

from captum_neuroinspect.edit import HeadEdit


def test_a_real_process(commands, place: Path, tmp_path: Path) -> None:
    done = commands.run(*inspect_arguments(place, tmp_path / "run", "--json"))
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["n_photos"] == 90
    # All that it says: nobody knows the order of the network's classes.
    assert done.stderr.startswith("Warning: the model has no class names, so that the classes")
    assert done.stderr.count("\n") == 1
    assert_one_sentence(commands.run("report", "--run", tmp_path, "--json"), "is no run")
    assert commands.run("inspect").code == 2
    assert commands.run("doctor", "--json").code in (0, 1)
    noisy = [a for a in inspect_arguments(place, tmp_path / "2") if a != "--quiet"]
    done = commands.run(*noisy, "--json")
    assert json.loads(done.stdout)["n_photos"] == 90
    assert "100%" in done.stderr  # bars, apart from the JSON


@pytest.fixture(scope="module")
def uninterrupted(place: Path, commands, tmp_path_factory) -> tuple[int, int, bytes]:
    """Forward passes and images of a whole inspection, and its report."""
    folder = tmp_path_factory.mktemp("whole")
    done = commands.run(*inspect_arguments(place, folder / "run", "--json"), PASSES=folder / "log")
    assert done.code == 0, done.stderr
    n_passes = len((folder / "log").read_text().split())
    return n_passes, n_images_in(folder / "log"), (folder / "run" / "report.html").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("share", [0.15, 0.6, 0.97])
def test_a_killed_inspection_goes_on_with_the_same_report(
    commands, place: Path, tmp_path: Path, uninterrupted, number: int, share: float
) -> None:
    n_passes, n_images, page = uninterrupted
    command = inspect_arguments(place, tmp_path / "run", "--json")
    at = max(3, round(share * n_passes))
    logs = [tmp_path / "1", tmp_path / "2"]
    done = commands.run(*command, PASSES=logs[0], DIE_AT=at, DIE_BY=int(number))
    assert done.stdout == ""
    if number == signal.SIGINT:
        assert done.code == 130
        assert "Interrupted. The same command goes on from here." in done.stderr
        assert "Traceback" not in done.stderr
    else:
        assert done.code == -number
    before = _kept(tmp_path)
    done = commands.run(*command, PASSES=logs[1])
    assert done.code == 0, done.stderr
    assert (tmp_path / "run" / "report.html").read_bytes() == page
    assert before.items() <= _kept(tmp_path).items()
    if before:
        assert n_images_in(logs[1]) < n_images
    # The features are one part here: what was begun is done again, and nothing else.
    assert n_images_in(logs[0]) + n_images_in(logs[1]) <= n_images + 110


def _kept(folder: Path) -> dict[str, str]:
    records = [json.loads(p.read_text()) for p in (folder / "run" / "work").glob("*/*.entry.json")]
    return {record["file"]: record["sha256"] for record in records}


def test_two_processes_on_one_run_share_the_work(
    commands, place: Path, tmp_path: Path, uninterrupted
) -> None:
    _, n_images, page = uninterrupted
    command = inspect_arguments(place, tmp_path / "run", "--json")
    logs = [tmp_path / "1", tmp_path / "2"]
    started = [commands.start(*command, PASSES=log) for log in logs]
    ends = [one.wait() for one in started]
    assert [end.code for end in ends] == [0, 0], ends
    assert json.loads(ends[0].stdout) == json.loads(ends[1].stdout)
    assert (tmp_path / "run" / "report.html").read_bytes() == page
    assert sum(map(n_images_in, logs)) <= n_images + 2
    assert not list(tmp_path.rglob("*.partial"))
    edits = [
        commands.start("edit", "--run", tmp_path / "run", "--method", "equation8", "--quiet")
        for _ in range(2)
    ]
    assert [one.wait().code for one in edits] == [0, 0]
    assert HeadEdit.load(tmp_path / "run" / "edit.safetensors").target == 2


def test_a_damaged_cache_is_said_and_made_again(commands, place: Path, tmp_path: Path) -> None:
    command = inspect_arguments(place, tmp_path / "run", "--json")
    assert commands.run(*command).code == 0
    page = (tmp_path / "run" / "report.html").read_bytes()
    for kind in ("features", "illusions", "saliency"):
        path = next((tmp_path / "run" / "work" / kind).glob("*.safetensors"))
        path.write_bytes(b"\0" * 20)
    done = commands.run(*command)
    assert done.code == 0
    json.loads(done.stdout)
    assert done.stderr.count("Warning: a kept result is damaged and is made again") == 3
    assert (tmp_path / "run" / "report.html").read_bytes() == page
