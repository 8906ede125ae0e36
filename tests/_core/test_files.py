from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from captum_neuroinspect import FeatureSet
from captum_neuroinspect._core import files as _files
from captum_neuroinspect._core.files import (
    clear_partial,
    partial_folder,
    write_atomically,
    write_text,
)
from captum_neuroinspect._core.locks import try_lock
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="rights and signals of POSIX")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _private(path: Path) -> None:
    path.write_text("x")
    path.chmod(0o600)


WRITERS: dict[str, Any] = {
    "plain": lambda path: path.write_text("x"),
    "private": _private,
    "safetensors": lambda path: save_file({"x": torch.zeros(3)}, path),
}


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o022, 0o002, 0])
@pytest.mark.parametrize("write", WRITERS)
def test_the_umask_decides_who_may_read(tmp_path: Path, mask: int, write: str) -> None:
    path = tmp_path / "new" / "file.bin"
    with umask(mask):
        write_atomically(path, WRITERS[write])
        assert _rights(path) == 0o666 & ~mask
        assert _rights(path.parent) == 0o777 & ~mask
        path.chmod(0o400)
        write_atomically(path, WRITERS[write])  # what was there before says nothing
        assert _rights(path) == 0o666 & ~mask


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_all_that_a_work_folder_keeps_has_the_same_rights(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        work = WorkFolder(tmp_path / "work")
        z = torch.rand(4, 2)
        work.features({"n": 1}, lambda: FeatureSet(z, z, torch.zeros(4).long()))
        work.tensors("saliency", {"n": 1}, lambda: {"x": z})
        work.json("words", {"n": 1}, lambda: ["x"])
    for path in [work.path, *work.path.rglob("*")]:
        assert _rights(path) == (0o777 if path.is_dir() else 0o666) & ~mask, path


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs two groups")
def test_a_folder_of_a_group_hands_its_group_on(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, 1234)
    shared.chmod(0o2775)
    with umask(0o002):
        write_atomically(shared / "run" / "file.bin", WRITERS["safetensors"])
        WorkFolder(shared / "run" / "work").json("words", {}, lambda: 1)
    for path in shared.rglob("*"):
        assert path.stat().st_gid == 1234, path
        assert _rights(path) & 0o070 == (0o070 if path.is_dir() else 0o060), path


# What a kill leaves


def _killed_in(folder: Path, n_calls: int) -> bool:
    """Write in a process that dies at its n-th change of the disk; whether it died."""
    code = f"""
        import os, shutil, signal
        from pathlib import Path
        from captum_neuroinspect._core import files as _files
        left = {n_calls}
        def dying(function):
            def call(*args, **kwargs):
                global left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)
            return call
        os.open = dying(os.open)
        for place, name in ((os, "replace"), (os, "mkdir"), (os, "close"), (os, "unlink"),
                            (shutil, "rmtree"), (Path, "write_text")):
            setattr(place, name, dying(getattr(place, name)))
        _files.write_text({str(folder / "page.html")!r}, "new")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


def test_killed_at_any_step_the_next_write_clears_what_was_left(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    for n_calls in range(30):
        path.write_text("old")
        died = _killed_in(tmp_path, n_calls)
        assert path.read_text() in ("old", "new")
        write_text(tmp_path / "other.txt", "x")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["other.txt", "page.html"]
        if not died:
            break
    assert not died
    assert n_calls > 4


def test_what_is_being_written_is_not_cleared(tmp_path: Path) -> None:
    with partial_folder(tmp_path) as folder:
        clear_partial(tmp_path)
        write_text(tmp_path / "other.txt", "x")
        assert folder.is_dir()
    assert [p.name for p in tmp_path.iterdir()] == ["other.txt"]


def test_a_work_folder_clears_what_was_left_in_it(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    _killed_in(tmp_path / "features", 2)
    assert list((tmp_path / "features").iterdir())
    WorkFolder(tmp_path)
    assert not list((tmp_path / "features").iterdir())


def test_files_of_others_stay(tmp_path: Path) -> None:
    names = [".page.html.abc.html", ".neuroinspect-1.lock", ".neuroinspect-.partial", "x.lock"]
    for name in names:
        (tmp_path / name).touch()
    target = tmp_path / "target"
    target.mkdir()
    (target / "precious").touch()
    # A planted lock whose folder is a link: what it leads to is not ours.
    (tmp_path / f".neuroinspect-{'a' * 16}.lock").touch()
    (tmp_path / f".neuroinspect-{'a' * 16}.partial").symlink_to(target)
    write_text(tmp_path / "x.txt", "x")
    assert (target / "precious").exists()
    assert {p.name for p in tmp_path.iterdir()} >= {*names, "x.txt", "target"}


def test_without_locks_age_decides(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_files, "try_lock", lambda _: None)
    lock = tmp_path / f".neuroinspect-{'a' * 16}.lock"
    lock.touch()
    clear_partial(tmp_path)
    assert lock.exists()
    os.utime(lock, (0, 0))
    clear_partial(tmp_path)
    assert not lock.exists()


def test_threads_that_write_one_file_leave_one_whole(tmp_path: Path) -> None:
    path, texts = tmp_path / "x.txt", [str(n) * 10_000 for n in range(4)]

    def write(text: str) -> None:
        for _ in range(20):
            write_text(path, text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_who_clears_up_between_name_and_lock_takes_no_folder_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[int] = []

    def lock_after_another(handle: int) -> bool | None:
        if not others:
            (lock,) = tmp_path.glob(".neuroinspect-*.lock")
            others.append(os.open(lock, os.O_RDWR))
            assert try_lock(others[0])
        return try_lock(handle)

    monkeypatch.setattr(_files, "try_lock", lock_after_another)
    with _files.partial_folder(tmp_path) as folder:
        taken = os.fstat(others[0]).st_ino
        assert folder.with_suffix(".lock").stat().st_ino != taken
    os.close(others[0])


# Errors


def _raise(error: Exception) -> Any:
    def write(_: Path) -> None:
        raise error

    return write


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
        SafetensorError("Error while serializing: IoError(Os { code: 28, kind: StorageFull, ..."),
    ],
)
def test_a_full_disk_names_the_file_that_was_wanted(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "file.bin"
    path.write_text("old")
    with pytest.raises(OSError, match=r"No space left on device: .*file.bin'$") as caught:
        write_atomically(path, _raise(error))
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (ValueError("x"), SafetensorError("tensors share memory"), OSError("no number")):
        with pytest.raises(type(error), match=str(error)):
            write_atomically(tmp_path / "file.bin", _raise(error))
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        write_text(tmp_path / "folder", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
