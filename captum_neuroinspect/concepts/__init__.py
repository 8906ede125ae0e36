"""Concepts: a bank of directions in feature space, and mistakes explained by them."""

from captum_neuroinspect.concepts.captum_concepts import (
    FastCAV,
    bank_from_cavs,
    experimental_sets,
    save_cavs,
)
from captum_neuroinspect.concepts.collecting import collect_concepts
from captum_neuroinspect.concepts.concept_bank import ConceptBank
from captum_neuroinspect.concepts.concept_change import ConceptChange, concept_change
from captum_neuroinspect.concepts.concept_counterfactual import (
    ConceptCounterfactual,
    ConceptOptions,
    concept_counterfactual,
)
from captum_neuroinspect.concepts.concept_features import ConceptFeatures
from captum_neuroinspect.concepts.concept_photos import ConceptPhotos
from captum_neuroinspect.concepts.fitting import fit_concepts
from captum_neuroinspect.concepts.packaged import PACKAGED_CONCEPTS, packaged_concepts

__all__ = [
    "PACKAGED_CONCEPTS",
    "ConceptBank",
    "ConceptChange",
    "ConceptCounterfactual",
    "ConceptFeatures",
    "ConceptOptions",
    "ConceptPhotos",
    "FastCAV",
    "bank_from_cavs",
    "collect_concepts",
    "concept_change",
    "concept_counterfactual",
    "experimental_sets",
    "fit_concepts",
    "packaged_concepts",
    "save_cavs",
]
