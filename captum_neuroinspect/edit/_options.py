"""The settings of an edit, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from captum_neuroinspect.edit._link import Link

Scope = Literal["head", "class", "neurons"]
Penalty = Literal["ratio", "mean_ratio", "coefficients"]
Anchor = Literal["predictions", "weights"]
Select = Literal["accuracy", "min_class", "group", "target"]
Decay = Literal["constant", "cosine"]

_CHOICES: dict[str, tuple[Any, ...]] = {
    "scope": get_args(Scope),
    "penalty": get_args(Penalty),
    "anchor": (None, *get_args(Anchor)),
    "select": get_args(Select),
    "schedule": get_args(Decay),
    "link": get_args(Link),
}
_NOT_NEGATIVE = ("strength", "anchor_weight", "max_cost", "warmup")
_POSITIVE = ("mistake_weight", "lr")
_COUNTS = ("n_epochs", "batch_size", "patience")


class FitKeywords(TypedDict, total=False):
    """The settings of :class:`FitOptions` as keyword arguments."""

    scope: Scope
    strength: float
    penalty: Penalty
    anchor: Anchor | None
    anchor_weight: float
    select: Select
    max_cost: float
    mistake_weight: float
    link: Link
    n_epochs: int
    batch_size: int
    lr: float
    schedule: Decay
    warmup: float
    patience: int
    seed: int
    progress: bool


@dataclass(frozen=True)
class FitOptions:
    """How a head is trained; the arguments of :func:`edit_head` that need no data.

    Raises:
        ValueError: when a value is outside its range.
    """

    scope: Scope = "head"
    strength: float = 1.0
    penalty: Penalty = "ratio"
    anchor: Anchor | None = None
    anchor_weight: float = 1.0
    select: Select = "accuracy"
    max_cost: float = 0.005
    mistake_weight: float = 0.3
    link: Link = "softmax"
    n_epochs: int = 20
    batch_size: int = 16
    lr: float = 1e-3
    schedule: Decay = "constant"
    warmup: float = 0.0
    patience: int = 5
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}, expected one of {choices}")
        for name in _NOT_NEGATIVE + _POSITIVE:
            _check_number(name, getattr(self, name), may_be_zero=name in _NOT_NEGATIVE)
            # Files hold plain numbers, not NumPy's.
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected at least 1")
        if self.warmup >= self.n_epochs:
            raise ValueError(f"warmup={self.warmup:g}, expected less than n_epochs={self.n_epochs}")

    def rate(self, epoch: int, step: int, n_steps: int) -> float:
        """Adam's step size in one step of an epoch (counted from 1 and from 0).

        It rises in a straight line for ``warmup`` epochs, then stays or falls to 0 in
        half a cosine.

        Examples::

            >>> options = FitOptions(lr=1.0, n_epochs=3, warmup=1, schedule="cosine")
            >>> [round(options.rate(e, s, 2), 3) for e in (1, 2, 3) for s in (0, 1)]
            [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
        """
        passed = epoch - 1 + step / n_steps
        if passed < self.warmup:
            return self.lr * min(1.0, (passed + 1 / n_steps) / self.warmup)
        if self.schedule == "constant":
            return self.lr
        share = (passed - self.warmup) / (self.n_epochs - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * share))


def _check_number(name: str, value: float, *, may_be_zero: bool) -> None:
    if isinstance(value, str):
        raise TypeError(f"{name}={value!r}, expected a number")
    if math.isfinite(value) and (value > 0 or (may_be_zero and value == 0)):
        return
    expected = "a finite number, 0 or more" if may_be_zero else "a positive number"
    raise ValueError(f"{name}={value}, expected {expected}")
