"""Every change that a process makes to its files, in turn: what is left if it ends or fails there.

Python tells an audit hook of each file that is opened, made, moved or removed. What libraries
write by themselves is seen at their functions, with half of the file written.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from captum_neuroinspect._core import kept_file as _kept_file
from captum_neuroinspect.models import saving

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_REMOVING = {"os.remove", "os.rmdir"}
_CHANGING = {"os.mkdir", "os.rename", "os.chmod", *_REMOVING}


class FileEvents:
    """Counts the changes below folders, and does something at each.

    Args:
        under: the folders.
        act: called with the number of the event, from 0, and whether it only removes.
    """

    def __init__(self, under: Sequence[str | Path], act: Callable[[int, bool], None]) -> None:
        self.under = tuple(map(str, under))
        self.act = act
        self.n = 0
        self._busy = False

    def tell(self, removes: bool = False) -> None:
        """An event is about to happen."""
        if not self._busy:
            with self.unheard():
                self.n += 1
                self.act(self.n - 1, removes)

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """What is done here itself is no event."""
        busy, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = busy

    def concerns(self, path: Any) -> bool:
        return os.path.abspath(os.fsdecode(path)).startswith(self.under)


_current: list[FileEvents] = []


@contextmanager
def heard(events: FileEvents) -> Iterator[FileEvents]:
    """Tell of events in this block."""
    if _hear not in _hooks:
        sys.addaudithook(_hear)  # it stays for the life of the process
        _hooks.append(_hear)
    places: list[tuple[Any, str, Any]] = [
        (os, "fsync", _before(os.fsync)),
        (Path, "write_text", _half(Path.write_text, 0)),
        (Path, "write_bytes", _half(Path.write_bytes, 0)),
        (torch, "save", _half(torch.save, 1)),
        *((module, "save_file", _half(module.save_file, 1)) for module in (_kept_file, saving)),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    for place, name, function in places:
        setattr(place, name, function)
    _current.append(events)
    try:
        yield events
    finally:
        _current.pop()
        for place, name, function in before:
            setattr(place, name, function)


_hooks: list[Any] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if not _current or (event != "open" and event not in _CHANGING):
        return
    path, events = args[0], _current[-1]
    if event == "open" and (isinstance(path, int) or not (args[2] or 0) & _WRITING):
        return
    # Below a folder that is being removed, paths are relative to it.
    is_below = event in _REMOVING and "/" not in os.fsdecode(path)
    if is_below or events.concerns(path):
        events.tell(event in _REMOVING)


def _before(function: Any) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        _current[-1].tell()
        return function(*args, **options)

    return call


def _half(function: Any, place: int) -> Any:
    """Tell when half of the file is there."""

    def call(*args: Any, **options: Any) -> Any:
        path, events = args[place], _current[-1]
        found = function(*args, **options)
        if isinstance(path, (str, Path)) and events.concerns(path):
            with events.unheard():
                content = Path(path).read_bytes()
                os.truncate(path, len(content) // 2)
            events.tell()
            with events.unheard(), open(path, "r+b") as file:
                file.write(content)
        return found

    return call


def start(environment: Any) -> None:
    """Do what the environment says.

    ``EVENTS_UNDER``: the folders. ``EVENTS_DO``: ``count`` into ``EVENTS_TO``; ``snapshot`` the
    first folder into one in ``EVENTS_TO`` at each event; the name of a signal; or the name of an
    error, which from the event ``EVENTS_AT`` on every change raises that does not only remove.
    """
    what, to = environment["EVENTS_DO"], environment.get("EVENTS_TO", "")
    at = int(environment.get("EVENTS_AT", 0))

    def act(n: int, removes: bool) -> None:
        if what == "count":
            Path(to).write_text(str(n + 1))
        elif what == "snapshot":
            shutil.copytree(events.under[0], Path(to) / str(n), symlinks=True)
        elif what.startswith("SIG"):
            if n == at:
                os.kill(os.getpid(), getattr(signal, what))
        elif n >= at and not removes:
            number = getattr(errno, what)
            raise OSError(number, os.strerror(number))

    events = FileEvents(environment["EVENTS_UNDER"].split(os.pathsep), act)
    until_the_end = heard(events)
    until_the_end.__enter__()
    _hooks.append(until_the_end)  # collected, it would end
