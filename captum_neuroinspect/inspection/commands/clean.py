"""``neuroinspect clean``: what is kept only to save time, its size, and its removal."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import caution, finish, safely, say

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.cache.cleaning import Removable

_HOUR = 3600.0
_UNITS = {"h": _HOUR, "d": 24 * _HOUR, "w": 7 * 24 * _HOUR}
_AGE = re.compile(r"([0-9]{1,9})([hdw])")
_SIZES = ("kB", "MB", "GB", "TB")


def clean(
    folders: Annotated[
        list[Path],
        typer.Argument(parser=options.user_path, metavar="FOLDER...", help="Where to look."),
    ],
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE", help="Only what was written longer ago: hours, days or weeks, as 12h."
        ),
    ] = None,
    other_versions: Annotated[
        bool,
        typer.Option(
            "--other-versions", help="Only what another version made, which is not read again."
        ),
    ] = False,
    only_list: Annotated[bool, typer.Option("--list", help="Remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without a question.")] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List what is kept only to save time, with its size, and remove it.

    Looks into FOLDER and below for what commands keep in their `work` folders, for features and
    trained networks in `kept` folders of experiments, and for what killed processes left. All of
    it is computed again when it is needed. Reports, edits, tables of experiments, downloads and
    finished folders of `scale` stay, and so does whatever other programs wrote; links are
    not followed. Folders in which a command runs are left alone.
    """
    with safely(debug):
        from captum_neuroinspect.inspection.cache import cleaning

        oldest = _seconds(older_than)
        if not (yes or only_list) and (as_json or not _can_ask()):
            raise ValueError("nobody can be asked here: give --yes to remove, or --list to look")
        chosen: dict[tuple[Path, str], Removable] = {}
        for folder in folders:
            for one in cleaning.find_removable(folder, _say_unreadable):
                if one.age >= oldest and not (other_versions and one.is_current):
                    chosen[one.folder, one.names[0]] = one
        used = {top for top in {one.top for one in chosen.values()} if cleaning.is_in_use(top)}
        free = [one for one in chosen.values() if one.top not in used]
        groups = [_Group(top, [o for o in chosen.values() if o.top == top], top in used)
                  for top in sorted({one.top for one in chosen.values()})]  # fmt: skip
        if not as_json:
            say("\n".join(map(str, groups)) or "There is nothing to remove.")
        n_bytes = sum(one.n_bytes for one in free)
        removed = 0, 0
        if free and not only_list and (yes or _is_wanted(len(free), n_bytes)):
            removed = _remove(free)
        record = {
            "folders": [group.record for group in groups],
            "n_removable": len(free),
            "n_bytes": n_bytes,
            "n_removed": removed[0],
            "n_bytes_removed": removed[1],
        }
        said = f"removed {_results(removed[0])}, {size_text(removed[1])}" if removed[0] else ""
        if as_json or said:
            finish(record, said, as_json=as_json)


@dataclass(frozen=True)
class _Group:
    """What was found in one work folder."""

    top: Path
    found: Sequence[Removable]
    is_in_use: bool

    @property
    def record(self) -> dict[str, Any]:
        return {
            "folder": str(self.top),
            "is_in_use": self.is_in_use,
            "n_results": len(self.found),
            "n_bytes": sum(one.n_bytes for one in self.found),
            "hours_since_written": round(min(one.age for one in self.found) / _HOUR, 1),
            "kinds": dict(sorted(Counter(one.kind for one in self.found).items())),
        }

    def __str__(self) -> str:
        from captum_neuroinspect.inspection.cache.cleaning import UNFINISHED

        n_bytes, age = sum(one.n_bytes for one in self.found), min(one.age for one in self.found)
        used = "; a command runs there: it is left alone" if self.is_in_use else ""
        lines = [
            f"{self.top}: {_results(len(self.found))}, {size_text(n_bytes)}, last written "
            f"{_age_text(age)} ago{used}"
        ]
        for kind, n in sorted(Counter(one.kind for one in self.found).items()):
            size = sum(one.n_bytes for one in self.found if one.kind == kind)
            old = sum(not one.is_current for one in self.found if one.kind == kind)
            # What a killed process left has no version.
            other = f", {old} of another version" if old and kind != UNFINISHED else ""
            lines.append(f"  {n:5,} {kind}, {size_text(size)}{other}")
        return "\n".join(lines)


def size_text(n_bytes: int) -> str:
    """A size as people read it.

    Examples::

        >>> size_text(812), size_text(1_500_000), size_text(23_000_000_000)
        ('812 bytes', '1.5 MB', '23 GB')
    """
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    step = min((len(str(n_bytes)) - 1) // 3, len(_SIZES))
    value = n_bytes / 1000**step
    return f"{value:.1f} {_SIZES[step - 1]}" if value < 9.95 else f"{value:,.0f} {_SIZES[step - 1]}"


def _remove(free: Sequence[Removable]) -> tuple[int, int]:
    """How many results were removed, and the bytes that this freed."""
    from captum_neuroinspect.inspection.cache import cleaning

    n, n_bytes, failed = 0, 0, []
    for one in free:
        try:
            freed = cleaning.remove(one)
        except OSError as error:
            failed.append(error)
            continue
        if freed is not None:
            n, n_bytes = n + 1, n_bytes + freed
    if failed:
        caution(f"{_results(len(failed))} could not be removed, the first because of: {failed[0]}")
    return n, n_bytes


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _is_wanted(n: int, n_bytes: int) -> bool:
    return typer.confirm(f"Remove {_results(n)}, {size_text(n_bytes)}?", default=False)


def _say_unreadable(error: OSError) -> None:
    caution(f"{error.filename} cannot be read: {error.strerror}")


def _seconds(text: str | None) -> float:
    """What ``--older-than`` means; without it an age that all things have, whatever the clock."""
    if text is None:
        return -float("inf")
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError(f"--older-than={text!r}, expected hours, days or weeks, as 12h, 30d or 2w")
    return int(match[1]) * _UNITS[match[2]]


def _age_text(seconds: float) -> str:
    hours = max(seconds, 0.0) / _HOUR
    if hours < 1:
        return "less than an hour"
    if hours < 48:
        return f"{hours:.0f} hours"
    return f"{hours / 24:,.0f} days"


def _results(n: int) -> str:
    return "1 result" if n == 1 else f"{n:,} results"
