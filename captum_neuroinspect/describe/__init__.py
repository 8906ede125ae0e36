"""Neurons in words: the phrases that an image-text encoder finds nearest to their evidence."""

from captum_neuroinspect.describe.ablation import (
    AblationEffect,
    AblationEffects,
    ClassEffect,
    ablation_effects,
)
from captum_neuroinspect.describe.attributes import ATTRIBUTES, attribute_scores
from captum_neuroinspect.describe.concept_scores import (
    ConceptScores,
    label_scores,
    phrase_scores,
)
from captum_neuroinspect.describe.description import Descriptions, NeuronDescription
from captum_neuroinspect.describe.matching import describe_neurons
from captum_neuroinspect.describe.senses import Sense, find_senses
from captum_neuroinspect.describe.unit_description import UnitDescription, UnitDescriptions
from captum_neuroinspect.describe.units import DescribeOptions, describe_units
from captum_neuroinspect.describe.vocabulary import word_list

__all__ = [
    "ATTRIBUTES",
    "AblationEffect",
    "AblationEffects",
    "ClassEffect",
    "ConceptScores",
    "DescribeOptions",
    "Descriptions",
    "NeuronDescription",
    "Sense",
    "UnitDescription",
    "UnitDescriptions",
    "ablation_effects",
    "attribute_scores",
    "describe_neurons",
    "describe_units",
    "find_senses",
    "label_scores",
    "phrase_scores",
    "word_list",
]
