"""What can be computed again, known by what was written with it, and removed to make room.

Nothing is known by its name alone: a kept result has its record, an orphan of one its lock, kept
features of an experiment their description inside the file. Reports, runs, edits, finished
experiments and folders of :mod:`captum_neuroinspect.scale` are results, and stay.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captum_neuroinspect._core.files import (
    clear_unfinished,
    is_unfinished,
    read_text,
    unfinished_in,
)
from captum_neuroinspect._core.kept_file import kind_of
from captum_neuroinspect._core.locks import is_locked, locked
from captum_neuroinspect.inspection.cache.entry import MADE_BY, RECORD

_NAME = re.compile(r"[0-9a-f]{16}")
_VALUE = re.compile(r"([0-9a-f]{16})\.[0-9a-f]{8}\.[a-z.]+")
_KEPT = "kept"  # the folder of an experiment's features and networks
_KINDS = ("features", "network")
_LOCKS = ".locks"
UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Removable:
    """One result that is computed again when it is needed.

    Attributes:
        folder: that its files lie in.
        names: of its files, in the order of removal: first what makes it a result.
        kind: such as ``"features"``; :data:`UNFINISHED` for what a killed process left.
        n_bytes: of its files.
        written: when, in seconds since 1970.
        is_current: whether this version of the package made it; else it is never read again.
        top: the folder that is in use, or not, as a whole.
    """

    folder: Path
    names: tuple[str, ...]
    kind: str
    n_bytes: int
    written: float
    is_current: bool
    top: Path

    @property
    def age(self) -> float:
        """Seconds since it was written."""
        return time.time() - self.written

    @property
    def lock(self) -> Path:
        """Held while it is made, and while it is removed."""
        return self.folder / _LOCKS / f"{self.names[0][:16]}.lock"


def find_removable(
    root: str | os.PathLike[str], unreadable: Callable[[OSError], object] | None = None
) -> list[Removable]:
    """All that may be removed in a folder and below; links are not followed.

    Args:
        root: where to look.
        unreadable: is told of folders that may not be read.

    Raises:
        FileNotFoundError: when there is no such folder.
        NotADirectoryError: when it is a file.
    """
    # Resolved once: what is found then lies below no link.
    top = Path(root).expanduser().resolve(strict=True)
    if not top.is_dir():
        raise NotADirectoryError(f"{top} is a file, expected a folder")
    found: list[Removable] = []
    for place, folders, names in os.walk(top, onerror=unreadable):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        folder = Path(place)
        found += _results(folder, names)
        found += _unfinished(folder)
        if folder.name == _KEPT:
            found += _kept_by_experiment(folder, names)
    return found


def is_in_use(top: Path) -> bool:
    """Whether a process works in a folder that :attr:`Removable.top` names."""
    folders = [top, *(one for one in _entries(top) if one.is_dir() and not one.is_symlink())]
    for folder in folders:
        locks = [one for one in _entries(folder / _LOCKS) if one.suffix == ".lock"]
        if any(is_locked(lock) for lock in [*locks, *unfinished_in(folder)]):
            return True
    return False


def remove(one: Removable) -> int | None:
    """Remove one result; the bytes that this freed, ``None`` when it is being made or is gone.

    Raises:
        OSError: when it may not be removed.
    """
    if one.kind == UNFINISHED:
        return one.n_bytes if clear_unfinished(one.folder / one.names[0]) else None
    with ExitStack() as stack:
        if one.lock.exists():
            if is_locked(one.lock):
                return None
            stack.enter_context(locked(one.lock))
        return _unlink(one.folder, one.names)


def _results(folder: Path, names: list[str]) -> Iterator[Removable]:
    """Kept results of a work folder: a record and its value, or a value whose record is gone."""
    present = set(names)
    with_record: set[str] = set()
    for name in sorted(present):
        if not name.endswith(RECORD) or not _NAME.fullmatch(name.removesuffix(RECORD)):
            continue
        record = _record(folder, name)
        if record is None:
            continue
        with_record.add(name[:16])
        files = (name, record["file"]) if record["file"] in present else (name,)
        made = _removable(folder, files, folder.name, record.get("made_by") == MADE_BY)
        if made is not None:
            yield made
    for name in sorted(present):
        match = _VALUE.fullmatch(name)
        if match is None or match[1] in with_record or f"{match[1]}{RECORD}" in present:
            continue
        if (folder / _LOCKS / f"{match[1]}.lock").is_file():
            made = _removable(folder, (name,), folder.name, False)
            if made is not None:
                yield made


def _record(folder: Path, name: str) -> dict[str, Any] | None:
    """A record that this package wrote, and that names a file of its own; else nothing."""
    path = folder / name
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        record = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("kind") != folder.name:
        return None
    file, by = record.get("file"), record.get("made_by")
    if not isinstance(file, str) or not isinstance(by, str) or "key" not in record:
        return None
    value = _VALUE.fullmatch(file)
    is_own = value is not None and value[1] == name[:16] and not file.endswith(RECORD)
    return record if is_own and by.startswith("captum-neuroinspect ") else None


def _kept_by_experiment(folder: Path, names: list[str]) -> Iterator[Removable]:
    for name in sorted(names):
        path = folder / name
        if path.is_symlink() or not name.endswith(".safetensors"):
            continue
        if (kind := kind_of(path)) in _KINDS:
            made = _removable(folder, (name,), f"{kind} of an experiment", True, folder.parent)
            if made is not None:
                yield made


def _unfinished(folder: Path) -> Iterator[Removable]:
    for lock in unfinished_in(folder):
        if is_unfinished(lock):
            partial = lock.with_suffix(".partial")
            sizes = [_size(path) for path in partial.rglob("*")] if partial.is_dir() else []
            with suppress(OSError):
                written = lock.lstat().st_mtime
                yield Removable(
                    folder, (lock.name,), UNFINISHED, sum(sizes), written, False, folder
                )


def _removable(
    folder: Path, names: tuple[str, ...], kind: str, is_current: bool, top: Path | None = None
) -> Removable | None:
    try:
        found = [(folder / name).lstat() for name in names]
    except OSError:  # gone meanwhile
        return None
    if not all(stat.S_ISREG(one.st_mode) for one in found):
        return None
    n_bytes = sum(one.st_size for one in found)
    written = max(one.st_mtime for one in found)
    return Removable(folder, names, kind, n_bytes, written, is_current, top or folder.parent)


def _unlink(folder: Path, names: tuple[str, ...]) -> int | None:
    """Remove files of a folder, and not of another that a link in its place leads to."""
    if folder.resolve() != folder:
        return None  # it, or a folder above it, has become a link since it was found
    if os.unlink not in os.supports_dir_fd:  # Windows
        return _freed(_unlink_here(folder / name) for name in names)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return _freed(_unlink_here(name, dir_fd=handle) for name in names)
    finally:
        os.close(handle)


def _unlink_here(path: str | Path, **place: int) -> int | None:
    try:
        about = os.stat(path, follow_symlinks=False, **place)
        if not stat.S_ISREG(about.st_mode):
            return None
        os.unlink(path, **place)
    except FileNotFoundError:
        return None
    return about.st_size


def _freed(sizes: Iterable[int | None]) -> int | None:
    removed = [size for size in sizes if size is not None]
    return sum(removed) if removed else None


def _size(path: Path) -> int:
    try:
        about = path.lstat()
    except OSError:
        return 0
    return about.st_size if stat.S_ISREG(about.st_mode) else 0


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
