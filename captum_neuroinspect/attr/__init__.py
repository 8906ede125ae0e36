"""Mistakes, the counterfactual change of their features, and a ranking of neurons."""

from captum_neuroinspect.attr.elastic_net import Counterfactual, SGDOptions
from captum_neuroinspect.attr.neuron_counterfactual import NeuronCounterfactual
from captum_neuroinspect.attr.neuron_ranking import NeuronList, NeuronRanking, rank_neurons

__all__ = [
    "Counterfactual",
    "NeuronCounterfactual",
    "NeuronList",
    "NeuronRanking",
    "SGDOptions",
    "rank_neurons",
]
