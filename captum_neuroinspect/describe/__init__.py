"""Neurons in words: the phrases that an image-text encoder finds nearest to their evidence."""

from captum_neuroinspect.describe.description import Descriptions, NeuronDescription
from captum_neuroinspect.describe.matching import describe_neurons
from captum_neuroinspect.describe.vocabulary import word_list

__all__ = ["Descriptions", "NeuronDescription", "describe_neurons", "word_list"]
