"""Features of photos that show a concept, and of others that do not."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.texts import check_texts

_LEAST = 4  # photos on either side: two that fit and two that judge


@dataclass(frozen=True, eq=False)
class ConceptFeatures:
    """What a concept bank is fitted to: for each concept two sets of features.

    Attributes:
        names: the P concepts, all different.
        shown: for each, ``(N, F)`` features of photos that show it; at least four.
        counterparts: for each, ``(M, F)`` features of photos that do not; at least four. Where
            the i-th is the i-th photo without the concept, only the concept differs.
        backbone_fingerprint: names the weights whose features they are, as in
            :class:`FeatureSet`; ``None`` when unknown.

    Raises:
        TypeError: for features that are no tensors of floating point numbers.
        ValueError: for a name twice, other shapes, too few photos or values that are not finite.

    Examples::

        >>> red, others = torch.rand(5, 3) + 1, torch.rand(6, 3)
        >>> ConceptFeatures(("red",), (red,), (others,))
        ConceptFeatures(1 concepts, 3 features)
    """

    names: tuple[str, ...]
    shown: tuple[Tensor, ...]
    counterparts: tuple[Tensor, ...]
    backbone_fingerprint: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", checked_names(self.names))
        check_as_many(self.names, self.shown, self.counterparts)
        for field in ("shown", "counterparts"):
            sets = getattr(self, field)
            for name, features in zip(self.names, sets, strict=True):
                _check(f"{field} of {name!r}", features, self.shown[0])
            object.__setattr__(self, field, tuple(s.detach().cpu().float() for s in sets))

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"ConceptFeatures({len(self)} concepts, {self.shown[0].shape[1]} features)"


def checked_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of concepts, at least one and all different.

    Raises:
        TypeError: for names that are not several strings.
        ValueError: for none, or one twice.
    """
    names = tuple(check_texts("names", names))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"names has {twice!r} twice, expected different concepts")
    return names


def check_as_many(names: Sized, shown: Sized, counterparts: Sized) -> None:
    """Each concept has two sets of photos.

    Raises:
        ValueError: for other numbers of sets.
    """
    if not len(names) == len(shown) == len(counterparts):
        raise ValueError(
            f"{len(names)} names, {len(shown)} sets of photos that show a concept and "
            f"{len(counterparts)} of counterparts, expected as many of each"
        )


def _check(what: str, features: Tensor, first: Tensor) -> None:
    if not isinstance(features, Tensor) or not features.is_floating_point():
        kind = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f"{what} is {kind}, expected a tensor of floating point numbers (N, F)")
    if features.ndim != 2 or features.shape[1:] != first.shape[1:]:
        raise ValueError(
            f"{what} has shape {tuple(features.shape)}, expected (N, F) with the same F everywhere"
        )
    if len(features) < _LEAST:
        raise ValueError(f"{what} has {len(features)} photos, expected at least {_LEAST}")
    if not all_finite(features.float()):
        raise ValueError(f"{what} has NaN or infinite values, or some beyond float32")


def split_rows(n: int, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows that fit and rows that judge. The same n gives the same rows: pairs stay together."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    n_judge = min(max(round(held_out * n), 1), n - 1)
    return order[n_judge:], order[:n_judge]
