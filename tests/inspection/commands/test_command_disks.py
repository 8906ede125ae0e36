"""Commands on a disk that refuses, at any change of a file, or is full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Done
from trees import n_unfinished, tree
from whole_commands import COMMANDS, Work, is_new, work_of

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks")
CAUSES = ("ENOSPC", "EDQUOT", "EROFS", "EACCES")


def _own(folder: Path) -> dict[str, bytes]:
    """What is no cache."""
    return {name: of for name, of in tree(folder).items() if "work" not in Path(name).parts[1:-1]}


def _assert_clear(done: Done, work: Work, cause: str, before: dict[str, bytes]) -> None:
    assert done.code == 1
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("Error: ")
    assert os.strerror(getattr(errno, cause)) in last
    assert str(work.folder) in last
    assert "Traceback" not in done.stderr
    assert "should not happen" not in done.stderr
    assert not n_unfinished(work.folder)
    after = _own(work.folder)
    # What was there is there, as it was or whole and new; what is new is whole.
    assert set(before) <= set(after)
    for name, content in after.items():
        assert content, name


def _refused(commands, work: Work, cause: str, at: int) -> Done:
    done: Done = commands.run(
        *work.arguments, EVENTS_DO=cause, EVENTS_UNDER=work.folder, EVENTS_AT=at
    )
    return done


@pytest.mark.parametrize(
    ("name", "cause", "at"),
    [
        ("inspect", "ENOSPC", 0),
        ("inspect", "EDQUOT", 20),
        ("visualize", "EROFS", 3),
        ("edit", "EROFS", 6),
        ("edit", "EDQUOT", 18),
        ("report", "EACCES", 8),
    ],
)
def test_a_refusal_is_one_sentence_with_file_and_cause(
    commands, place: Path, tmp_path: Path, inspected: Path, name: str, cause: str, at: int
) -> None:
    work = work_of(name, place, tmp_path / "place", inspected)
    before = _own(work.folder)
    _assert_clear(_refused(commands, work, cause, at), work, cause, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_each_refusal_is_one_sentence_with_file_and_cause(
    commands, place: Path, tmp_path: Path, inspected: Path, name: str
) -> None:
    # An inspection has some 300 of them, which are alike for each result that is kept.
    for at in range(0, 1000, 3 if name == "inspect" else 1):
        cause = CAUSES[at % len(CAUSES)]
        work = work_of(name, place, tmp_path / "place", None if is_new(name) else inspected)
        before = _own(work.folder)
        done = _refused(commands, work, cause, at)
        if done.code == 0:
            break
        _assert_clear(done, work, cause, before)
        if at % 20 == 0:
            assert commands.run(*work.arguments).code == 0
        shutil.rmtree(work.folder)
    assert done.code == 0
    assert at > 15


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small disk can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_is_really_full(
    commands, place: Path, small_disk: Path, inspected: Path, name: str
) -> None:
    """With less and less space, until there is none."""
    n_refused = 0
    for left in (400_000, 100_000, 40_000, 12_000, 0):
        work = work_of(name, place, small_disk / "place", inspected)
        before = _own(work.folder)
        with (small_disk / "ballast").open("wb", buffering=0) as ballast:
            space = os.statvfs(small_disk)
            n_bytes = space.f_bavail * space.f_frsize - left
            assert n_bytes > 0
            ballast.write(bytes(n_bytes))
        done = commands.run(*work.arguments)
        if done.code:
            n_refused += 1
            _assert_clear(done, work, "ENOSPC", before)
        (small_disk / "ballast").unlink()
        assert commands.run(*work.arguments).code == 0
        shutil.rmtree(work.folder)
    assert n_refused
    assert done.code
