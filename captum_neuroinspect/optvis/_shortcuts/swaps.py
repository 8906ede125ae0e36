"""Changes to modules that can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Forward = Callable[..., Any]


class Swaps:
    """Changes modules, and changes them back in the opposite order."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._undo)

    def forward(self, module: nn.Module, forward: Forward) -> None:
        """Let ``module`` compute by another function; hooks on it still fire."""
        own = vars(module).get("forward")
        module.forward = forward

        def undo() -> None:
            del module.forward
            if own is not None:
                module.forward = own

        self._undo.append(undo)

    def parameter(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Put a frozen parameter in the place of another one, or of none."""
        own = getattr(module, name)
        setattr(module, name, nn.Parameter(value, requires_grad=False))
        self._undo.append(lambda: setattr(module, name, own))

    def take(self, others: Swaps) -> None:
        """Become the owner of other changes."""
        self._undo += others._undo
        others._undo = []

    def undo(self) -> None:
        """Take back all changes."""
        while self._undo:
            self._undo.pop()()


@contextmanager
def swaps() -> Iterator[Swaps]:
    """Changes that last as long as the block."""
    changes = Swaps()
    try:
        yield changes
    finally:
        changes.undo()
