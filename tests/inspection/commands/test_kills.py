"""Commands that are killed: what they leave, and that the same command goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import NOT_BEGUN
from session_examples import assert_one_sentence
from trees import n_unfinished, tree
from whole_commands import COMMANDS, is_new, work_of

from captum_neuroinspect.inspection.cache.entry import checksum
from captum_neuroinspect.inspection.commands._run_folder import RunSettings
from captum_neuroinspect.inspection.commands._run_lock import is_of_another

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture(scope="module")
def undisturbed(commands, place: Path, inspected: Path, tmp_path_factory):
    """What each command leaves if nothing happens: in a new folder if it takes one."""
    found: dict[str, dict[str, bytes]] = {}

    def of(name: str) -> dict[str, bytes]:
        if name not in found:
            folder = tmp_path_factory.mktemp(name) / "place"
            work = work_of(name, place, folder, None if is_new(name) else inspected)
            done = commands.run(*work.arguments)
            assert done.code == 0, done.stderr
            found[name] = tree(folder)
        return found[name]

    return of


# At every change of a file


def _cache_is_whole(work: Path) -> None:
    for record in work.glob("*/*.entry.json"):
        entry = json.loads(record.read_text())
        assert checksum(record.parent / entry["file"]) == entry["sha256"]


def _snapshots(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir(), key=lambda path: int(path.name))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_at_any_change_of_a_file_leaves_old_or_new(
    commands, place: Path, tmp_path: Path, inspected: Path, name: str
) -> None:
    """Copied at each change, and in the middle of each file: a kill there leaves just that."""
    work = work_of(name, place, tmp_path / "place", inspected)
    old = tree(work.folder)
    copies = tmp_path / "copies"
    done = commands.run(
        *work.arguments, EVENTS_DO="snapshot", EVENTS_UNDER=work.folder, EVENTS_TO=copies
    )
    assert done.code == 0, done.stderr
    assert not n_unfinished(work.folder)
    new = tree(work.folder)
    n_copies = n_mixed = 0
    for copy in _snapshots(copies):
        n_copies += 1
        _cache_is_whole(copy / "run" / "work")
        found = tree(copy)
        for path, content in found.items():
            if ".neuroinspect-" not in path:
                # A result of the cache is new, or one that is about to go.
                assert content in (old.get(path), new.get(path)), (copy.name, path)
        if name != "visualize":
            settings = RunSettings.load(copy / "run")
            is_mixed = is_of_another(copy / "run" / "report.html", settings.inspection)
            assert is_mixed == (found["run/run.json"] + found["run/report.html"]
                                not in (old["run/run.json"] + old["run/report.html"],
                                        new["run/run.json"] + new["run/report.html"])
                                and name == "inspect")  # fmt: skip
            n_mixed += is_mixed
            if is_mixed and n_mixed == 1:
                done = commands.run("edit", "--run", copy / "run", "--quiet")
                assert_one_sentence(done, "is of another inspection than run.json beside it")
    assert n_copies > 20
    assert bool(n_mixed) == (name == "inspect")


@pytest.mark.parametrize(
    ("name", "number"),
    [("inspect", "SIGKILL"), ("visualize", "SIGKILL"), ("edit", "SIGKILL"), ("inspect", "SIGINT")],
)
def test_the_same_command_goes_on_from_any_change(
    commands, place: Path, tmp_path: Path, inspected: Path, undisturbed, name: str, number: str
) -> None:
    """Stopped in two places, one after the other."""
    work = work_of(name, place, tmp_path / "place", None if is_new(name) else inspected)
    for at in (5, 18):
        done = commands.run(
            *work.arguments, EVENTS_DO=number, EVENTS_UNDER=work.folder, EVENTS_AT=at
        )
        assert done.stdout == ""
        if number == "SIGINT":
            _interrupted(done)
        else:
            assert done.code == -signal.SIGKILL
    done = commands.run(*work.arguments)
    assert done.code == 0, done.stderr
    assert tree(work.folder) == undisturbed(name)
    assert not n_unfinished(work.folder)


def _interrupted(done) -> None:
    assert done.code == 130
    assert done.stderr.endswith("Interrupted. The same command goes on from here.\n")
    assert "Traceback" not in done.stderr


# At random


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_twenty_times_at_random(
    commands, place: Path, tmp_path: Path, inspected: Path, undisturbed, name: str, number: int
) -> None:
    """Any time, also between two changes of files, and before the first."""
    whole, random_numbers = undisturbed(name), random.Random(f"{name} {number}")
    begin = time.monotonic()
    work = work_of(name, place, tmp_path / "timed", None if is_new(name) else inspected)
    commands.run(*work.arguments)
    seconds = time.monotonic() - begin
    n_killed = 0
    for trial in range(20):
        work = work_of(name, place, tmp_path / str(trial), None if is_new(name) else inspected)
        started = commands.start(*work.arguments)
        time.sleep(random_numbers.uniform(0, seconds))
        os.kill(started.pid, number)  # one that has ended is there until it is waited for
        done = started.wait()
        if "Aborted" not in done.stderr:  # before it looked after interrupts
            code = -number if number == signal.SIGKILL else 130
            assert done.code in (0, code, NOT_BEGUN), done.stderr
        n_killed += done.code != 0
        if done.code == 130:
            _interrupted(done)
        done = commands.run(*work.arguments)
        assert done.code == 0, done.stderr
        assert tree(work.folder) == whole
        assert not n_unfinished(work.folder)
        shutil.rmtree(work.folder)
    assert n_killed
