"""The same numbers whatever a caller has switched on around a call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_lock = threading.Lock()
_n_inside = 0
_before = torch.float32


@contextmanager
def undisturbed(*, keep_autocast: bool = False) -> Iterator[None]:
    """Compute as outside of ``no_grad``, ``inference_mode``, ``autocast`` and another dtype.

    A with-block or a decorator, which is one more frame for the ``stacklevel`` of a warning
    that points at the caller. What the caller has switched on is on again afterwards.

    Args:
        keep_autocast: where a network may run in low precision because its user wants it.

    Examples::

        >>> with torch.no_grad(), undisturbed():
        ...     torch.is_grad_enabled()
        True
    """
    with ExitStack() as stack:
        # In this order: leaving inference mode does not switch gradients on.
        for context in (torch.inference_mode(False), torch.enable_grad(), _float32()):
            stack.enter_context(context)
        for kind in () if keep_autocast else _kinds_of_devices():
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def _float32() -> Iterator[None]:
    """New tensors are float32. The default is one for all threads: the last one puts it back."""
    global _n_inside, _before
    with _lock:
        if not _n_inside:
            _before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _n_inside += 1
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if not _n_inside:
                torch.set_default_dtype(_before)


def _kinds_of_devices() -> list[str]:
    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return ["cpu", *(kind for kind, is_here in kinds.items() if is_here)]
