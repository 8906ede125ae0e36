"""One thread at a time on a model: what a call does to it would meet another thread's."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

_log = logging.getLogger(__name__)
_LOOK_AGAIN = 0.5  # nobody is told when the thread that it waits for ends
_LONG = 10.0

_GENERATORS = "torch's generators"
_BESIDE = "networks_beside"  # of a module that runs others, outside of the module tree


class _Claim:
    """What a thread has, or wants, for one block: parts of models, or names.

    It keeps the parts alive, so that no number stands for two things, but only as long as
    the block: no model has a lock of its own that would outlive it.
    """

    def __init__(self, find: Callable[[], list[Any]]) -> None:
        self.thread = threading.current_thread()
        self._find = find
        self._parts: list[Any] = []
        self._ids: frozenset[object] = frozenset()

    def look(self) -> None:
        """See of what the models consist now: whoever had them may have swapped parts."""
        self._parts = self._find()
        self._ids = frozenset(p if isinstance(p, str) else id(p) for p in self._parts)

    def meets(self, other: _Claim) -> bool:
        return self.thread is not other.thread and not self._ids.isdisjoint(other._ids)


_changed = threading.Condition()
_held: list[_Claim] = []
_waiting: list[_Claim] = []  # in the order in which they came


@contextmanager
def exclusive(*models: nn.Module) -> Iterator[None]:
    """Hold models, with all their parts, for this thread; wait while another one has some.

    A thread may hold a model several times. All is taken at once or nothing, so threads
    that ask for several models never wait for each other. Two models that share a layer or
    a parameter exclude each other; others run side by side. Whoever waits longest is next.

    Raises:
        RuntimeError: when threads that hold models already would wait for each other for
            ever, or the thread that holds one has ended.

    Examples::

        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> with exclusive(model), exclusive(model[0]):
        ...     model[0].training
        True
    """
    with _claimed(functools.partial(_parts_of, models)):
        yield


@contextmanager
def exclusive_layer(layer: nn.Module) -> Iterator[None]:
    """Hold a module alone, without what is in it: enough for a hook on it."""
    with _claimed(lambda: [layer]):
        yield


@contextmanager
def exclusive_file(path: Path) -> Iterator[None]:
    """Hold a path among the threads of this process."""
    with _claimed(lambda: [f"file {path.absolute()}"]):
        yield


@contextmanager
def generators_forked(devices: list[torch.device] | None = None) -> Iterator[None]:
    """Have torch's own generators to oneself, and leave them as they were.

    They are one for all threads: two that fork them at once would draw the other's numbers.

    Args:
        devices: whose generators beside the CPU's.
    """
    with _claimed(lambda: [_GENERATORS]), torch.random.fork_rng(devices=devices or []):
        yield


def is_of_another_call(owner: int) -> bool:
    """Whether what runs now belongs to a call of the package that another thread is in.

    Threads that a model starts by itself (``DataParallel``) belong to the call that runs it.

    Args:
        owner: ``threading.get_ident()`` of the call that asks.
    """
    if torch.compiler.is_compiling():  # into a compiled pass this cannot be written
        return False
    current = threading.get_ident()
    return current != owner and any(claim.thread.ident == current for claim in tuple(_held))


def _parts_of(models: tuple[nn.Module, ...]) -> list[Any]:
    parts: list[Any] = []
    for module in dict.fromkeys(module for model in models for module in model.modules()):
        parts.append(module)
        parts += module.parameters(recurse=False)
        if hasattr(type(module), _BESIDE):
            parts += _parts_of(getattr(module, _BESIDE))
    return parts


@contextmanager
def _claimed(find: Callable[[], list[Any]]) -> Iterator[None]:
    claim = _Claim(find)
    try:
        with _changed:
            _wait_for(claim)
            _held.append(claim)
        yield
    finally:
        with _changed:
            if claim in _held:
                _held.remove(claim)
            _changed.notify_all()


def _wait_for(claim: _Claim) -> None:
    since, is_told = time.monotonic(), False
    _waiting.append(claim)
    try:
        while blockers := _blockers(claim):
            _refuse_ended(blockers)
            _refuse_circle(claim)
            if not is_told and time.monotonic() - since > _LONG:
                _log.warning(
                    "waiting for the thread %r, which holds what is needed", blockers[0].name
                )
                is_told = True
            _changed.wait(_LOOK_AGAIN)
    finally:
        _waiting.remove(claim)


def _blockers(claim: _Claim) -> list[threading.Thread]:
    claim.look()
    ahead = list(_held)
    if not any(held.thread is claim.thread for held in ahead):
        # Those who came before; but nobody may wait for one who waits for what he has.
        ahead += _waiting[: _waiting.index(claim)]
    return [other.thread for other in ahead if claim.meets(other)]


def _holders(claim: _Claim) -> set[threading.Thread]:
    return {held.thread for held in tuple(_held) if claim.meets(held)}


def _refuse_ended(blockers: list[threading.Thread]) -> None:
    ended = next((thread for thread in blockers if not thread.is_alive()), None)
    if ended is not None:
        raise RuntimeError(
            f"the model is held by the thread {ended.name!r}, which has ended (or is another "
            "process's): a context that was opened in it, such as `applied`, was not closed. "
            "Close it first; open, use and close it in one thread"
        )


def _refuse_circle(claim: _Claim) -> None:
    """Who waits for us, through others, while we would wait for them?"""
    seen, ahead = set[threading.Thread](), _holders(claim)
    while ahead:
        other = ahead.pop()
        seen.add(other)
        in_its_way = set[threading.Thread]().union(
            *(_holders(wanted) for wanted in tuple(_waiting) if wanted.thread is other)
        )
        if claim.thread in in_its_way:
            raise RuntimeError(
                f"the threads {claim.thread.name!r} and {other.name!r} would wait for each other "
                "for ever: each holds a model, or a result of a work folder, that the other "
                "wants. Use them in the same order in all threads, or from one thread"
            )
        ahead |= in_its_way - seen


def _forget_waiting() -> None:
    """A forked process has one thread; what others held there may be half changed."""
    global _changed
    _changed = threading.Condition()
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_waiting)
