"""One kept result: a value's file, and a record that says what it is and what it should be."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from captum_neuroinspect._files import error_number, partial_folder, put_in_place

T = TypeVar("T")
RECORD = ".entry.json"
_FORMAT = 1
_N_DIGITS = 16


class DamagedError(Exception):
    """What is in the cache is not what was put there."""


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
            DamagedError: when it is not what was written.
        """
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            value = self.folder / record["file"]
            is_whole = record["key"] == self.key and checksum(value) == record["sha256"]
        except FileNotFoundError as error:
            if not self.record.exists():
                return None
            raise DamagedError(f"{error.filename} is missing") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{self.record} cannot be read ({error})") from None
        if not is_whole:
            raise DamagedError(f"{value} has other contents than when it was written")
        try:
            return (load(value),)
        except MemoryError:
            raise
        # Whatever a reader has to say of an older version's file: it can be made again.
        except Exception as error:
            raise DamagedError(f"{value} cannot be loaded ({error})") from error

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
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        note = partial / "record.json"
        note.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for source, destination in ((file, target), (note, self.record)):
            _flush(source)
            put_in_place(source, destination)
        _flush(self.folder)
        for old in self.folder.glob(f"{self.name}.*{self.suffix}"):
            if old not in (target, self.record):
                old.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


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


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder without write access into one error that says so."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error_number(error)
        if number is None:
            raise
        raise OSError(
            number,
            f"{os.strerror(number)}: results cannot be kept in the work folder. Free space there, "
            "make it writable, or choose another work folder",
            str(folder),
        ) from error


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
