"""The files of a run folder belong together: one lock for writing, and one mark in each.

``run.json`` and ``report.html`` cannot take their places in one step. A process that is killed
between the two leaves the settings of one inspection beside the report of another; both carry
the mark of their inspection, so that this is seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_neuroinspect._core.files import check_file
from captum_neuroinspect._core.locks import locked

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.session.session import NeuroInspect

_HEAD = 4096  # bytes of a page that hold its mark
_MARK = re.compile(rb'<meta name="neuroinspect-inspection" content="([0-9a-f]{16})">')
# Files and folders: their content counts and not their place, which may change.
_APART = {"model", "weights", "data", "train", "test", "inspection"}


def mark_of(session: NeuroInspect, settings: Mapping[str, Any]) -> str:
    """Names an inspection: its settings, then its model, photos and mistakes.

    Args:
        session: which has explained its mistakes.
        settings: of the run, by name.
    """
    return settings_digest(settings) + _short(session.report_identity)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """The beginning of a mark, which a reader of the settings can work out too."""
    return _short({name: value for name, value in settings.items() if name not in _APART})


def _short(record: Any) -> str:
    text = json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextmanager
def writing_together(folder: Path) -> Iterator[None]:
    """Be the only one that writes a run's own files.

    Raises:
        OSError: when the folder cannot be written to; names it.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / "work" / ".locks" / "run.lock"))
        except OSError as error:
            # Nobody knows the lock; the folder is what has to be corrected.
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(
                error.errno, f"{reason}: no file can be written there", str(folder)
            ) from error
        yield


def is_of_another(report: Path, mark: str) -> bool:
    """Whether a report is one of another inspection; not for what is no such page."""
    try:
        check_file(report)
        with report.open("rb") as file:
            found = _MARK.search(file.read(_HEAD))
    except (OSError, ValueError):
        return False
    return found is not None and found[1].decode() != mark
