"""Concepts in a plane whose answers can be worked out by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_neuroinspect.concepts import ConceptBank, ConceptFeatures, fit_concepts


def around(centre: list[float], n: int = 12, seed: int = 0) -> Tensor:
    """Points near a centre."""
    chance = torch.Generator().manual_seed(seed)
    return torch.tensor(centre) + 0.3 * torch.randn(n, len(centre), generator=chance)


def three_concepts() -> ConceptFeatures:
    """Along the first axis, along the second, and against the first."""
    centres = ([4.0, 0.0, 0.0], [0.0, 3.0, 0.0], [-2.0, 0.0, 1.0])
    plain = around([0.0, 0.0, 0.0], seed=9)
    shown = tuple(around(centre, seed=i) for i, centre in enumerate(centres))
    return ConceptFeatures(("grass", "water", "brick"), shown, (plain, plain, plain))


def small_bank() -> ConceptBank:
    return fit_concepts(three_concepts())
