from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from captum_neuroinspect._core import locks as _locks
from captum_neuroinspect._core.locks import locked, try_lock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.lock"
    with locked(path):
        handle = _open(path)
        assert try_lock(handle) is False
        os.close(handle)
    handle = _open(path)
    assert try_lock(handle) is True
    os.close(handle)


def test_threads_take_turns(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with locked(tmp_path / "x.lock"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_an_exception_releases_it(tmp_path: Path) -> None:
    def fail() -> None:
        with locked(tmp_path / "x.lock"):
            raise KeyError("x")

    for _ in range(2):  # the second would wait for ever
        with pytest.raises(KeyError):
            fail()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_where_files_have_no_locks_work_goes_on(tmp_path: Path, monkeypatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_locks.fcntl, "flock", refuse)
    monkeypatch.setattr(_locks.time, "sleep", lambda _: pytest.fail("waited for nobody"))
    with locked(tmp_path / "x.lock"), locked(tmp_path / "x.lock"):
        pass
    assert (tmp_path / "x.lock").read_bytes() == b""  # no holder is written down


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"x\.lock"), locked(tmp_path / "x.lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
