"""A page and the folder of its pictures, which change together."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from captum_neuroinspect._core.files import clear_partial, write_atomically, write_files
from captum_neuroinspect._core.locks import locked

# Only files with such names, which are made of their contents, are ever removed.
_OURS = re.compile(r"[0-9a-f]{32}\.jpg")


def folder_of(page: Path) -> str:
    """Name of the folder beside a page, as browsers call it when they save one."""
    return f"{page.stem}_files"


def write_page(path: Path, page: bytes, pictures: Mapping[str, bytes]) -> Path:
    """Write a page and its pictures so that no reader sees a page without them.

    Pictures come first, then the page, then those go that only the page before had.

    Args:
        path: of the page.
        page: its contents.
        pictures: files of :func:`folder_of`, by name; with none a folder that an earlier page
            had is emptied, and removed when nothing else is in it.

    Raises:
        OSError: when they cannot be written, or a link or a file stands in the folder's place.
    """
    folder = path.with_name(folder_of(path))
    if pictures and (folder.is_symlink() or (folder.exists() and not folder.is_dir())):
        # Through a link the pictures would land, and others go, wherever it leads.
        raise NotADirectoryError(errno.ENOTDIR, "no folder, but a link or a file", str(folder))
    with _alone(folder, bool(pictures)):
        if pictures:
            write_files(folder, pictures)
        write_atomically(path, lambda temporary: temporary.write_bytes(page))
        _remove_others(folder, pictures)
    return path


@contextmanager
def _alone(folder: Path, has_pictures: bool) -> Iterator[None]:
    """No other process may take away what this one has just put into the folder."""
    if not has_pictures and not folder.is_dir():
        yield
        return
    with locked(folder.with_name(f".{folder.name}.lock")):
        yield


def _remove_others(folder: Path, pictures: Mapping[str, bytes]) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    clear_partial(folder)
    for name in os.listdir(folder):
        if _OURS.fullmatch(name) and name not in pictures:
            with suppress(OSError):  # not ours to remove
                (folder / name).unlink()
    if not pictures:
        with suppress(OSError):  # something else is in it
            folder.rmdir()
