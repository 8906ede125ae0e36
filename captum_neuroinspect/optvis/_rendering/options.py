"""The numbers of one rendering."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from captum_neuroinspect._core.checks import as_size, check_at_least, check_between, check_whole

Precision = Literal["float32", "bfloat16", "auto"]
_PRECISIONS = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class RenderOptions:
    """Numbers of one rendering, checked when they are put together.

    Raises:
        TypeError: when a whole number is something else.
        ValueError: when a number is out of its range.
    """

    size: tuple[int, int]
    n_steps: int
    gamma: float
    eps: float
    lr: float
    batch_size: int
    seed: int
    precision: Precision
    channels: int = 3
    snapshots: tuple[int, ...] = ()
    negative_weight: float = 4.0
    encoder_every: int = 1
    coarse: float = 0.0

    def __post_init__(self) -> None:
        as_size(self.size)
        for name in ("n_steps", "batch_size", "seed", "channels", "encoder_every"):
            check_whole(name, getattr(self, name))
        for name in ("n_steps", "batch_size", "channels", "encoder_every"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("eps", "negative_weight"):
            check_at_least(name, getattr(self, name), 0)
        check_between("gamma", self.gamma, 0, 1)
        check_between("coarse", self.coarse, 0, 1)
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr}, expected a positive number")
        if self.precision not in _PRECISIONS:
            raise ValueError(f"precision={self.precision!r}, expected one of {_PRECISIONS}")
        self._check_snapshots()

    def _check_snapshots(self) -> None:
        for step in self.snapshots:
            check_whole("snapshots", step)
        inside = all(1 <= step <= self.n_steps for step in self.snapshots)
        if not inside or any(b <= a for a, b in pairwise(self.snapshots)):
            raise ValueError(
                f"snapshots={self.snapshots}, expected rising steps in 1..{self.n_steps}"
            )
