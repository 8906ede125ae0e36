"""Locks between processes that end with the process that holds them, however it ends.

Not ``filelock``, which comes with torch (tried: 4.3). On a file system without locks, such as some
NFS and FUSE, it raises an error (``ENOLCK``, ``ENOTSUP``), or takes a file for the lock that stays
when its holder is killed (``ENOSYS``); here the work goes on without a lock. It locks a path, but
no file that is open already, as :mod:`captum_neuroinspect._core.files` does.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger(__name__)
_PAUSE = 0.1
# A link in the lock's place would be followed, and a file made where it leads.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock called ``path``; wait while another process or thread does.

    The operating system keeps the lock, not the file: it is released when its holder
    dies, also by SIGKILL or a power cut, so a lock can never be stale and no process
    number needs to be judged. The empty file stays; removing it would let two
    processes lock two files of one name.

    Raises:
        OSError: when the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # It loads torch, which `neuroinspect --help` does without.
    from captum_neuroinspect._core.exclusive import exclusive_file

    handle = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
    try:
        with exclusive_file(path):  # threads that hold models too must not wait for ever
            _wait_for(handle, path)
            yield
    finally:
        os.close(handle)  # which releases the lock


def is_locked(path: Path) -> bool:
    """Whether someone holds a lock, or may: one that cannot be opened is of another user."""
    try:
        handle = os.open(path, os.O_RDWR | _NO_LINK)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return try_lock(handle) is False
    finally:
        os.close(handle)


def _wait_for(handle: int, path: Path) -> None:
    is_announced = False
    while try_lock(handle) is False:
        if not is_announced:
            _log.info("waiting for another process that makes %s", path.stem)
            is_announced = True
        time.sleep(_PAUSE)


if sys.platform == "win32":
    import msvcrt

    def try_lock(handle: int) -> bool | None:
        """Lock an open file; whether it could be, or ``None`` where files have no locks."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(handle: int) -> bool | None:
        """Lock an open file; whether it could be, or ``None`` where files have no locks.

        Without locks two processes may do the same work, and whole files take each
        other's place.
        """
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True
