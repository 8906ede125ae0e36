"""Mistakes, the counterfactual change of their features, and a ranking of neurons."""

from captum_neuroinspect.attr.direction import Direction, cue_direction
from captum_neuroinspect.attr.elastic_net import Counterfactual, ElasticNet
from captum_neuroinspect.attr.feature_mask import feature_mask
from captum_neuroinspect.attr.fista import FISTA
from captum_neuroinspect.attr.importance import neuron_importance
from captum_neuroinspect.attr.neuron_counterfactual import NeuronCounterfactual
from captum_neuroinspect.attr.neuron_ranking import NeuronList, NeuronRanking, rank_neurons
from captum_neuroinspect.attr.neuron_saliency import neuron_saliency, saliency_figure
from captum_neuroinspect.attr.reference import Reference
from captum_neuroinspect.attr.sgd import SGD
from captum_neuroinspect.attr.slices import Slice, Slices, slice_mistakes

__all__ = [
    "FISTA",
    "SGD",
    "Counterfactual",
    "Direction",
    "ElasticNet",
    "NeuronCounterfactual",
    "NeuronList",
    "NeuronRanking",
    "Reference",
    "Slice",
    "Slices",
    "cue_direction",
    "feature_mask",
    "neuron_importance",
    "neuron_saliency",
    "rank_neurons",
    "saliency_figure",
    "slice_mistakes",
]
