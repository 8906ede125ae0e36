"""Numbered parts of a piece of work in a folder: each is there whole, with its digest, or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from captum_neuroinspect._core.files import (
    checksum,
    clear_partial,
    read_text,
    write_atomically,
    write_text,
)
from captum_neuroinspect._core.fingerprint import text_fingerprint
from captum_neuroinspect.scale._plan import PLAN


@dataclass(frozen=True)
class CommittedParts:
    """The parts of one kind in a folder.

    A part is a file and, written after it, a record with the file's digest: what a killed process
    leaves between the two is no part. Written again a part has the same bytes, so that it does
    not matter who comes second. The record names the plan that lies beside the folder: a part
    that was copied from other work is none.

    Attributes:
        folder: of the files.
        suffix: of the files, such as ``".parquet"``.
    """

    folder: Path
    suffix: str

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{part:06d}{self.suffix}"

    def commit(self, part: int, write: Callable[[Path], object], record: Mapping[str, Any]) -> None:
        """Write a part.

        Args:
            part: its number.
            write: fills a file.
            record: what is to be known of it without reading it, as JSON.

        Raises:
            OSError: when it cannot be written, as on a full disk; then it is not there.
        """
        path = write_atomically(self.path(part), write)
        record = {"part": part, "plan": self._plan, **record, "sha256": checksum(path)}
        write_text(path.with_suffix(".json"), json.dumps(record, indent=1) + "\n")

    def record(self, part: int, *, check: bool = True) -> dict[str, Any] | None:
        """What :meth:`commit` recorded; None when the part is not there, or not whole.

        Args:
            part: its number.
            check: compare the file with its digest, which reads it.
        """
        path = self.path(part)
        try:
            found = json.loads(read_text(path.with_suffix(".json")))
            is_whole = not check or found["sha256"] == checksum(path)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        is_own = found.get("part") == part and self._plan in (None, found.get("plan"))
        return found if is_whole and is_own else None

    @cached_property
    def _plan(self) -> str | None:
        """Names what is asked for; read once, as a plan may be long."""
        path = self.folder.parent / PLAN
        return text_fingerprint(read_text(path)) if path.exists() else None

    def clear(self) -> None:
        """Remove what killed processes left."""
        clear_partial(self.folder)
