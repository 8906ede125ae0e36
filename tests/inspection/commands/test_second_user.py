"""A run folder of a group: what its other users can do, and what they are told."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Done, processes
from session_examples import SIZE, assert_one_sentence, inspect_arguments, write_model, write_photos

from captum_neuroinspect.edit import HeadEdit

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become two users"
)
ONE, OTHER, GROUP, NO_GROUP = 65001, 65002, 65010, 65011


class Users:
    """Starts commands as one of two users of a group, or of none."""

    def __init__(self, commands: Any, folder: Path) -> None:
        self.commands, self.folder = commands, folder
        self.model = f"{folder}/model.py:net"

    def run(self, user: int, *arguments: object, group: int = GROUP, umask: str = "002") -> Done:
        home = self.folder / f"home {user}"
        done: Done = self.commands.run(
            *arguments, USER_ID=user, GROUP_ID=group, UMASK=umask, HOME=home, XDG_CACHE_HOME=home
        )
        return done

    def inspect(self, user: int, out: Path, *more: object, **options: Any) -> Done:
        return self.run(
            user,
            *("inspect", "--model", self.model, "--data", self.folder / "photos", "--out", out),
            *(
                "--image-size",
                SIZE,
                "--steps",
                2,
                "--neurons",
                1,
                "--encoder",
                "none",
                "--quiet",
                "--json",
            ),
            *more,
            **options,
        )


@pytest.fixture(scope="module")
def users(own_cache) -> Iterator[Users]:
    # Pytest's own folders are open to their user alone.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    write_photos(folder / "photos")
    write_model(folder)
    for user in (ONE, OTHER):
        home = folder / f"home {user}"
        home.mkdir()
        os.chown(home, user, GROUP)
    (folder / "out").mkdir()
    with processes(folder / "out") as started:
        made = Users(started, folder)
        # Python itself may lie where only root reads: all that commands import is imported.
        write_photos(folder / "warm" / "photos")
        write_model(folder / "warm")
        run = folder / "warm" / "run"
        started.warm_up(*inspect_arguments(folder / "warm", run))
        started.warm_up("edit", "--run", run, "--quiet", "--method", "equation8")
        done = made.run(ONE, "doctor", "--json")
        closed = [parent for parent in folder.parents if not parent.stat().st_mode & stat.S_IXOTH]
        if closed:
            pytest.skip(f"another user cannot reach temporary files: {closed[0]} is closed to them")
        if done.code not in (0, 1) or "Traceback" in done.stderr:
            pytest.skip(f"another user cannot read the package or its libraries: {done.stderr}")
        yield made
    shutil.rmtree(folder)


@pytest.fixture
def shared(users: Users) -> Iterator[Path]:
    """A folder that belongs to the group, as does what is made in it."""
    folder = users.folder / "shared"
    folder.mkdir()
    os.chown(folder, ONE, GROUP)
    folder.chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


def test_a_group_shares_a_run(users: Users, shared: Path) -> None:
    run = shared / "run"
    assert users.inspect(ONE, run).code == 0
    page = (run / "report.html").read_bytes()
    # The other one never ran this Python file, and has to say that it may run.
    assert_one_sentence(users.run(OTHER, "report", "--run", run, "--quiet"), "give --trust")
    done = users.run(OTHER, "edit", "--run", run, "--quiet", "--method", "equation8", "--trust")
    assert done.code == 0, done.stderr
    assert HeadEdit.load(run / "edit.safetensors").neurons
    done = users.inspect(OTHER, run)
    assert done.code == 0, done.stderr
    assert (run / "report.html").read_bytes() == page
    # And back: what the other one made, the first one replaces.
    done = users.inspect(ONE, run, "--fresh")
    assert done.code == 0, done.stderr
    assert "made again" not in done.stderr
    for path in run.rglob("*"):
        rights = stat.S_IMODE(path.stat().st_mode)
        assert path.stat().st_gid == GROUP, path
        assert rights & 0o060 == 0o060, path
    assert {path.stat().st_uid for path in run.rglob("*")} == {ONE, OTHER}


def test_two_users_at_once(users: Users, shared: Path) -> None:
    run = shared / "run"
    assert users.inspect(ONE, run).code == 0
    command = ("edit", "--run", run, "--quiet", "--method", "equation8", "--trust")
    started = [
        users.commands.start(
            *command, USER_ID=user, GROUP_ID=GROUP, UMASK="002", XDG_CACHE_HOME=users.folder
        )
        for user in (ONE, OTHER)
    ]
    assert [one.wait().code for one in started] == [0, 0]
    assert not list(run.rglob(".neuroinspect-*"))


def test_what_may_only_be_read_can_be_reported_elsewhere(users: Users, shared: Path) -> None:
    run, home = shared / "run", users.folder / f"home {OTHER}"
    assert users.inspect(ONE, run, umask="022").code == 0
    page = (run / "report.html").read_bytes()
    for command in ("edit", "report"):
        done = users.run(OTHER, command, "--run", run, "--quiet", "--trust")
        assert_one_sentence(done, "Permission denied")
        assert f"'{run}'" in done.stderr
    assert_one_sentence(users.inspect(OTHER, run), "Permission denied")
    done = users.run(
        OTHER, "report", "--run", run, "--quiet", "--trust", "--out", home / "report.html"
    )
    assert done.code == 0, done.stderr
    assert (home / "report.html").read_bytes() == page == (run / "report.html").read_bytes()


def test_what_may_not_be_read_is_told(users: Users, shared: Path) -> None:
    run = shared / "run"
    assert users.inspect(ONE, run, umask="077").code == 0
    before = (run / "report.html").read_bytes()
    for command in ("edit", "report"):
        done = users.run(OTHER, command, "--run", run, "--quiet", "--trust", group=NO_GROUP)
        assert_one_sentence(done, "Permission denied")
        assert str(run) in done.stderr
    done = users.inspect(OTHER, run, group=NO_GROUP)
    assert_one_sentence(done, "Permission denied")
    assert str(run) in done.stderr
    assert (run / "report.html").read_bytes() == before
