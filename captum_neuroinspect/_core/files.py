"""Files that are written whole or not at all, with the rights that the user's umask gives."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from captum_neuroinspect._core.locks import is_locked, try_lock
from captum_neuroinspect._core.texts import shown

_OURS = re.compile(r"\.neuroinspect-[0-9a-f]{16}\.lock")
_MOST_BYTES = 256 << 20
_OLD = 24 * 3600.0  # seconds; nothing takes so long to write


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then move it into place.

    A reader never sees half a file, and an interrupted write leaves the old one. The file
    has the rights ``0o666 & ~umask``, however ``write`` makes it.

    Raises:
        OSError: names ``path``, also for a full disk that safetensors found.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with explained(path), partial_folder(path.parent) as folder:
        temporary = folder / f"new{path.suffix}"
        write(temporary)
        put_in_place(temporary, path)
    return path


def write_files(folder: str | Path, contents: Mapping[str, bytes]) -> Path:
    """Write files into a folder, which is made if need be; each is there whole or not at all.

    Args:
        folder: where they belong.
        contents: by name.

    Raises:
        OSError: names ``folder``.
    """
    folder = Path(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with partial_folder(folder) as partial:
            for name, content in contents.items():
                (partial / name).write_bytes(content)
                put_in_place(partial / name, folder / name)
    return folder


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_text(path: str | Path) -> str:
    """Read a UTF-8 text file of a reasonable size.

    Raises:
        OSError: when there is none, or it may not be read.
        ValueError: when it is no file, larger than any record, or no text.
    """
    path = Path(path)
    check_file(path)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{shown(path)} is larger than {_MOST_BYTES >> 20} MB, the limit for a record"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown(path)} is no UTF-8 text ({error})") from None


def check_file(path: Path) -> None:
    """Refuse what is no file: to read a device may never end, and a pipe is waited for.

    Raises:
        OSError: when there is nothing, or only links that lead in a circle.
        ValueError: when it is a folder, a device, a pipe or a socket.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
        kind = kinds.get(stat.S_IFMT(mode), "device")
        raise ValueError(f"{shown(path)} is a {kind}, expected a file")


def checksum(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def put_in_place(source: Path, path: Path) -> None:
    """Move a file out of its :func:`partial_folder` to ``path``, with the usual rights."""
    # The folder tells the umask: asking for it would set it for a moment, in all threads.
    usual = source.parent.stat().st_mode & 0o666
    if source.stat().st_mode & 0o777 != usual:  # safetensors and tempfile make private files
        with suppress(OSError):  # a file system without rights
            source.chmod(usual)
    os.replace(source, path)


@contextmanager
def partial_folder(parent: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """A hidden folder in ``parent`` for files that are not finished, gone after the block.

    A process that is killed leaves it; the next one that writes into ``parent`` clears it.
    The lock decides: as long as its owner lives, no one else gets it.
    """
    clear_partial(parent)
    handle, lock = _locked_name(parent)
    folder = lock.with_suffix(".partial")
    try:
        folder.mkdir(mode=mode)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        # Only in this order: what has no lock would never be cleared.
        os.close(handle)
        lock.unlink(missing_ok=True)


def clear_partial(parent: Path) -> None:
    """Remove what killed processes of this user left unfinished in a folder."""
    for lock in unfinished_in(parent):
        with suppress(OSError):  # gone meanwhile, or not ours to remove
            _clear(lock)


def unfinished_in(folder: Path) -> list[Path]:
    """The locks of all :func:`partial_folder` of a folder, held or not."""
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if _OURS.fullmatch(name)]
    except OSError:
        return []


def is_unfinished(lock: Path) -> bool:
    """Whether a process of this user left its :func:`partial_folder` and is gone."""
    try:
        return _is_of_this_user(lock) and not is_locked(lock)
    except FileNotFoundError:  # it has ended meanwhile
        return False


def clear_unfinished(lock: Path) -> bool:
    """Remove what one killed process of this user left; whether that was done."""
    with suppress(OSError):
        _clear(lock)
    return not os.path.lexists(lock)


def error_number(error: Exception) -> int | None:
    """The operating system's number of an error, also in safetensors' words."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"(?:os error |Os { code: )(\d+)", str(error))  # 0.4 wrote the second
    return int(found[1]) if found else None


def _locked_name(parent: Path) -> tuple[int, Path]:
    while True:
        lock = parent / f".neuroinspect-{secrets.token_hex(8)}.lock"
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # One that clears up may be faster than the lock: it has it now, or has removed the file.
        if try_lock(handle) is not False and lock.exists():
            return handle, lock
        os.close(handle)


def _is_of_this_user(lock: Path) -> bool:
    return not hasattr(os, "getuid") or lock.lstat().st_uid == os.getuid()


def _clear(lock: Path) -> None:
    if not _is_of_this_user(lock):
        return
    handle = os.open(lock, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        is_free = try_lock(handle)
        if is_free is None:  # no locks here: only age tells
            is_free = time.time() - lock.stat().st_mtime > _OLD
        if is_free:
            shutil.rmtree(lock.with_suffix(".partial"), ignore_errors=True)
            if os.name != "nt":  # which removes no open file
                lock.unlink(missing_ok=True)
    finally:
        os.close(handle)
    if is_free:
        lock.unlink(missing_ok=True)


@contextmanager
def explained(path: Path, advice: str = "") -> Iterator[None]:
    """Errors about ``path``, as nobody knows the temporary file's name; with what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error_number(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number) + advice, str(path)) from error
