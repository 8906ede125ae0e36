"""Activations of any layer; errors, explanations, top photos and comparisons from features."""

from captum_neuroinspect.analysis.activations import collect_activations
from captum_neuroinspect.analysis.class_errors import (
    ClassErrors,
    Confusion,
    Confusions,
    WorstClasses,
    confusions,
    worst_classes,
)
from captum_neuroinspect.analysis.comparison import Comparison, compare_photos
from captum_neuroinspect.analysis.core_relevance import class_representatives, core_relevance
from captum_neuroinspect.analysis.crop_descriptions import describe_crops
from captum_neuroinspect.analysis.explanation import Explanation, explain_mistakes, mistakes_about
from captum_neuroinspect.analysis.top_photos import Crops, TopPhotos, crops, top_photos

__all__ = [
    "ClassErrors",
    "Comparison",
    "Confusion",
    "Confusions",
    "Crops",
    "Explanation",
    "TopPhotos",
    "WorstClasses",
    "class_representatives",
    "collect_activations",
    "compare_photos",
    "confusions",
    "core_relevance",
    "crops",
    "describe_crops",
    "explain_mistakes",
    "mistakes_about",
    "top_photos",
    "worst_classes",
]
