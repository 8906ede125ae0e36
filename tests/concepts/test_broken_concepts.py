"""What has no answer in numbers is refused instead of answered with NaN."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.concepts import (
    ConceptFeatures,
    ConceptOptions,
    concept_counterfactual,
    fit_concepts,
)

PLAIN = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
FEATURES = ConceptFeatures(("red",), (PLAIN + 4 * torch.eye(3)[0],), (PLAIN,))


def test_a_head_of_nan_has_no_scores() -> None:
    z = torch.randn(4, 3)
    data = FeatureSet(z, z, torch.zeros(4, dtype=torch.int64))
    head = nn.Linear(3, 3)
    head.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the head has NaN or infinite weights"):
        concept_counterfactual(fit_concepts(FEATURES), data, head)


@pytest.mark.parametrize("name", ["lr", "l1", "l2"])
def test_weights_without_end_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=inf, expected a finite number"):
        ConceptOptions(**{name: float("inf")})  # type: ignore[arg-type]


def test_features_beyond_float32_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond float32"):
        ConceptFeatures(("red",), (1e50 * PLAIN.double(),), (PLAIN.double(),))


def test_a_seed_that_no_generator_takes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"seed=.*64 bits"):
        fit_concepts(FEATURES, seed=2**70)
