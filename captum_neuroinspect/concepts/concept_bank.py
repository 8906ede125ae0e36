"""A bank of concepts: one direction in feature space each, and how far photos lie along it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.kept_file import read_kept, reading, write_kept
from captum_neuroinspect._core.kinds import check_kinds
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect.attr.direction import Direction
from captum_neuroinspect.concepts.concept_features import checked_names

_KIND = "ConceptBank"
_LARGEST_NORM_ERROR = 1e-4


@dataclass(frozen=True, eq=False)
class ConceptBank:
    r"""Directions of concepts in feature space, from :func:`fit_concepts` or Captum's CAVs.

    The *margin* of features z for a concept with unit vector v is :math:`v \cdot z + b`: the
    distance from the boundary, positive where the concept is seen.

    Attributes:
        names: the P concepts.
        vectors: ``(P, F)`` unit vectors that point to the concept.
        intercepts: ``(P,)`` :math:`b`.
        highest: ``(P,)`` largest margin of the photos that it was fitted to; above 0.
        lowest: ``(P,)`` smallest margin of them; below 0.
        mean_shown: ``(P,)`` mean of their positive margins.
        mean_absent: ``(P,)`` mean of their negative margins.
        accuracy: ``(P,)`` share of held-out photos on the right side; 0.5 is chance where
            there are as many counterparts.
        n_photos: ``(P,)`` photos that showed the concept, with those held out.
        method: what fitted it, such as ``"FastCAV"``.
        backbone_fingerprint: names the weights whose features it is of; ``None`` when unknown.

    Raises:
        TypeError: when a field is no tensor.
        ValueError: for other shapes, values that are not finite, vectors not of length 1, or
            margins on one side of the boundary only.

    Examples::

        >>> from captum_neuroinspect.concepts import ConceptFeatures, fit_concepts
        >>> features = ConceptFeatures(("red",), (torch.eye(4) + 1,), (torch.eye(4),))
        >>> bank = fit_concepts(features)
        >>> bank.margins(torch.full((1, 4), 2.0))
        tensor([[2.5000]])
        >>> bank.direction("red")
        Direction(4 features, mostly neurons [0, 1, 2, 3])
    """

    names: tuple[str, ...]
    vectors: Tensor
    intercepts: Tensor
    highest: Tensor
    lowest: Tensor
    mean_shown: Tensor
    mean_absent: Tensor
    accuracy: Tensor
    n_photos: Tensor
    method: str = "given"
    backbone_fingerprint: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", checked_names(self.names))
        for name in _TENSORS:
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} is {type(value).__name__}, expected a tensor")
            kind = torch.int64 if name == "n_photos" else torch.float32
            object.__setattr__(self, name, value.detach().to("cpu", kind))
            n_dims = 2 if name == "vectors" else 1
            if value.ndim != n_dims or len(value) != len(self.names):
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}, expected one row a concept of "
                    f"{len(self.names)}"
                )
            if not all_finite(value):
                raise ValueError(f"{name} has NaN or infinite values")
        if ((self.vectors.norm(dim=1) - 1).abs() > _LARGEST_NORM_ERROR).any():
            raise ValueError("vectors are not of length 1")
        for row, name in enumerate(self.names):
            if not float(self.lowest[row]) < 0 < float(self.highest[row]):
                raise ValueError(
                    f"margins of {name!r} are in {float(self.lowest[row]):.3g}.."
                    f"{float(self.highest[row]):.3g}, expected photos on both sides of 0"
                )

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return (
            f"ConceptBank({len(self)} concepts, {self.vectors.shape[1]} features, {self.method}, "
            f"held-out accuracy {float(self.accuracy.mean()):.2f})"
        )

    def _repr_html_(self) -> str:
        rows = [
            [name, f"{float(right):.0%}", int(n)]
            for name, right, n in zip(self.names, self.accuracy, self.n_photos, strict=True)
        ]
        return html_table(["concept", "held-out accuracy", "photos"], rows, repr(self))

    def row(self, name: str) -> int:
        """Which of the P concepts it is.

        Raises:
            ValueError: for a name that is not in the bank.
        """
        if name not in self.names:
            raise ValueError(f"concept {name!r} is not among the bank's: {', '.join(self.names)}")
        return self.names.index(name)

    def margins(self, features: Tensor) -> Tensor:
        """``(N, P)`` signed distance of features ``(N, F)`` from each concept's boundary.

        Raises:
            ValueError: when the features are not (N, F).
        """
        self.check_features(features)
        kind = torch.promote_types(features.dtype, torch.float32)
        vectors, intercepts = (t.to(features.device, kind) for t in (self.vectors, self.intercepts))
        return features.to(kind) @ vectors.T + intercepts

    def check_features(self, features: Tensor) -> None:
        """Refuse features of another space.

        Raises:
            ValueError: when they are not (N, F).
        """
        if features.ndim != 2 or features.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"features have shape {tuple(features.shape)}, expected "
                f"(N, {self.vectors.shape[1]}) as the bank was fitted to"
            )

    def direction(self, name: str) -> Direction:
        """A concept as a direction: what :func:`render_illusions` and :func:`remove_cue` take.

        One step leads along the vector from the mean margin where the concept is absent to that
        where it is shown. All neurons count alike, so that positions are margins in these steps.

        Raises:
            ValueError: for a name that is not in the bank.
        """
        row = self.row(name)
        step = self.mean_shown[row] - self.mean_absent[row]
        return Direction(step * self.vectors[row], torch.ones(self.vectors.shape[1]))

    def subset(self, names: Iterable[str]) -> ConceptBank:
        """These concepts alone, in this order.

        Raises:
            ValueError: for a name that is not in the bank.
        """
        names = tuple(names)
        rows = torch.tensor([self.row(name) for name in names], dtype=torch.int64)
        chosen = {name: getattr(self, name)[rows] for name in _TENSORS}
        return replace(self, names=names, **chosen)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file."""
        tensors = {name: getattr(self, name) for name in _TENSORS}
        record = {name: getattr(self, name) for name in _RECORD}
        return write_kept(path, _KIND, tensors, record)

    @classmethod
    def load(cls, path: str | Path) -> ConceptBank:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: when it cannot be read.
            ValueError: when it is something else, or damaged.
        """
        tensors, record = read_kept(path, _KIND)
        with reading(path, _KIND):
            found: dict[str, Any] = {name: tensors[name] for name in _TENSORS}
            record["names"] = tuple(record["names"])
            check_kinds(record, cls)
            return cls(**{name: record[name] for name in _RECORD}, **found)


_RECORD = ("names", "method", "backbone_fingerprint")
_TENSORS = tuple(f.name for f in fields(ConceptBank) if f.name not in _RECORD)
