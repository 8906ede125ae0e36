"""Neurons, and any other units, in words, with the evidence for them."""

from captum_neuroinspect.describe.ablation import AblationEffects, ablation_effects
from captum_neuroinspect.describe.ablation_effect import AblationEffect, ClassEffect
from captum_neuroinspect.describe.attributes import ATTRIBUTES, attribute_scores
from captum_neuroinspect.describe.concept_scores import (
    ConceptScores,
    label_scores,
    phrase_scores,
)
from captum_neuroinspect.describe.finding import FoundUnit, FoundUnits, find_units
from captum_neuroinspect.describe.neurons import describe_neurons
from captum_neuroinspect.describe.seen_photos import SeenPhotos
from captum_neuroinspect.describe.sense import Sense
from captum_neuroinspect.describe.senses import find_senses
from captum_neuroinspect.describe.unit_description import Descriptions, UnitDescription
from captum_neuroinspect.describe.units import LEAST_PHOTOS, DescribeOptions, describe_units
from captum_neuroinspect.describe.vocabulary import word_list

__all__ = [
    "ATTRIBUTES",
    "LEAST_PHOTOS",
    "AblationEffect",
    "AblationEffects",
    "ClassEffect",
    "ConceptScores",
    "DescribeOptions",
    "Descriptions",
    "FoundUnit",
    "FoundUnits",
    "SeenPhotos",
    "Sense",
    "UnitDescription",
    "ablation_effects",
    "attribute_scores",
    "describe_neurons",
    "describe_units",
    "find_senses",
    "find_units",
    "label_scores",
    "phrase_scores",
    "word_list",
]
