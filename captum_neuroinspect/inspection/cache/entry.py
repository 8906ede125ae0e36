"""One kept result: a value's file, and a record that says what it is and what it should be."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from captum_neuroinspect._core import files
from captum_neuroinspect._core.files import (
    check_file,
    checksum,
    partial_folder,
    put_in_place,
    read_text,
)
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect._core.version import __version__

T = TypeVar("T")
RECORD = ".entry.json"
_FORMAT = 1
_N_DIGITS = 16
# Raised when a change of the code gives other numbers for the same key: what was kept before is
# then made again. A release does the same by its own number.
METHOD = 1
MADE_BY = f"captum-neuroinspect {__version__}, method {METHOD}"


class NotUsableError(Exception):
    """What is in the cache has to be made again; the message says why."""


@dataclass(frozen=True)
class CacheEntry:
    """Where the result for one key lies.

    The record is the last to be written, in one step: what it names is whole. A value
    carries its checksum in its name, so a new one never overwrites the old one that a
    record still names.

    Attributes:
        folder: of all results of this kind.
        kind: what the results are, such as ``"features"``.
        key: what the result depends on, as plain JSON.
        suffix: of the value's file.
    """

    folder: Path
    kind: str
    key: dict[str, Any]
    suffix: str

    @classmethod
    def of(cls, root: Path, kind: str, key: Mapping[str, Any], suffix: str) -> CacheEntry:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", kind):
            raise ValueError(f"kind={kind!r}, expected lower-case letters, digits, '-' and '_'")
        return cls(root / kind, kind, plain_key(key), suffix)

    @property
    def name(self) -> str:
        """A short hash of kind and key: the beginning of the names of its files."""
        text = json.dumps([_FORMAT, self.kind, self.key, self.suffix], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_N_DIGITS]

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}{RECORD}"

    @property
    def lock(self) -> Path:
        return self.folder / ".locks" / f"{self.name}.lock"

    def read(self, load: Callable[[Path], T]) -> tuple[T] | None:
        """The value in a tuple, or ``None`` when there is none.

        Raises:
            NotUsableError: when it is not what was written, or of another version.
            PermissionError: when it may not be read.
        """
        record = self._read_record()
        if record is None:
            return None
        value = self.folder / record["file"]
        try:
            check_file(value)
            is_whole = checksum(value) == record["sha256"]
        except FileNotFoundError:
            raise _damaged(f"{value} is missing") from None
        except PermissionError:
            raise
        except (OSError, ValueError) as error:
            raise _damaged(error) from None
        if not is_whole:
            raise _damaged(f"{value} has other contents than when it was written")
        try:
            return (load(value),)
        except MemoryError:
            raise
        # Whatever a reader has to say: it can be made again.
        except Exception as error:
            raise _damaged(f"{value} cannot be loaded ({error})") from error

    def _read_record(self) -> dict[str, Any] | None:
        try:
            record = json.loads(read_text(self.record))
            if not isinstance(record, dict) or record["key"] != self.key:
                raise ValueError("it is of another result")
            # Only a name: a record from elsewhere must not lead to other files.
            own = rf"{self.name}\.[0-9a-f]{{8}}{re.escape(self.suffix)}"
            if not re.fullmatch(own, record["file"]) or not isinstance(record["sha256"], str):
                raise ValueError("it names no file of its own")
        except FileNotFoundError:
            return None
        except PermissionError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(f"{self.record} cannot be read ({error})") from None
        made_by = str(record.get("made_by", "another version"))
        if made_by != MADE_BY:
            # Without the file's name, so that it is said once for many.
            raise NotUsableError(
                f"({self.kind}) was made by {shown(made_by[:60])} and is made again by {MADE_BY}"
            )
        return record

    def write(self, value: T, save: Callable[[T, Path], object]) -> None:
        """Keep a value: whole, or not at all.

        Raises:
            OSError: says which folder, and what to do.
        """
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with partial_folder(self.folder) as partial:
                self._write_into(partial, value, save)

    def remove(self) -> None:
        """Forget the result, if there is one."""
        for path in (self.record, *self.folder.glob(f"{self.name}.*{self.suffix}")):
            if not _is_folder(path):
                path.unlink(missing_ok=True)

    def _write_into(self, partial: Path, value: T, save: Callable[[T, Path], object]) -> None:
        file = partial / f"value{self.suffix}"
        save(value, file)
        digest = checksum(file)
        target = self.folder / f"{self.name}.{digest[:8]}{self.suffix}"
        record = {
            "kind": self.kind,
            "key": self.key,
            "file": target.name,
            "bytes": file.stat().st_size,
            "sha256": digest,
            "made_by": MADE_BY,
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        note = partial / "record.json"
        note.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for source, destination in ((file, target), (note, self.record)):
            _flush(source)
            _make_room(destination)
            put_in_place(source, destination)
        _flush(self.folder)
        for old in self.folder.glob(f"{self.name}.*{self.suffix}"):
            if old not in (target, self.record) and not _is_folder(old):
                old.unlink(missing_ok=True)


def plain_key(key: Mapping[str, Any]) -> dict[str, Any]:
    """A key as JSON gives it back; equal keys give equal text.

    Raises:
        TypeError: names the part that is no plain data.
    """
    plain = {}
    for name, part in key.items():
        try:
            text = json.dumps(part, sort_keys=True, allow_nan=False, default=_text_of_path)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"key[{name!r}] is {part!r}, expected numbers, strings, lists and dictionaries "
                f"of them ({error})"
            ) from None
        plain[str(name)] = json.loads(text)
    return plain


def explained(folder: Path) -> AbstractContextManager[None]:
    """Turn a full disk or a folder without write access into one error that says so."""
    return files.explained(
        folder,
        ": results cannot be kept in the work folder. Free space there, make it writable, or "
        "choose another work folder",
    )


def _damaged(reason: object) -> NotUsableError:
    return NotUsableError(shown(f"is damaged and is made again: {reason}"))


def _make_room(path: Path) -> None:
    """Move a folder aside that lies where a file belongs; whose it is, nobody knows."""
    if _is_folder(path):
        os.replace(path, path.with_name(f"{path.name}.moved-{secrets.token_hex(4)}"))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _text_of_path(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    raise TypeError(f"{type(value).__name__} is no plain data")


def _flush(path: Path) -> None:
    """Bring a file, or a folder's list of files, onto the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # it cannot open folders, and looks after them itself
        return
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
