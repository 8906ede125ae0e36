"""Find the neurons behind a classifier's mistakes, see what they respond to, edit the head.

A plugin for Captum and Lucent. Importing it loads nothing heavy; each name is
loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_neuroinspect._core.lazy import lazy_names
from captum_neuroinspect._core.version import __version__ as __version__

if TYPE_CHECKING:
    from captum_neuroinspect.analysis import collect_activations
    from captum_neuroinspect.attr import (
        NeuronCounterfactual,
        NeuronRanking,
        Reference,
        neuron_saliency,
        rank_neurons,
        saliency_figure,
    )
    from captum_neuroinspect.describe import describe_neurons
    from captum_neuroinspect.edit import HeadEdit, Verdict, edit_head, mend, probability_ratio
    from captum_neuroinspect.encoders import LabelSpaceEncoder, OpenCLIPEncoder
    from captum_neuroinspect.features import FeatureSet, collect_features, find_head
    from captum_neuroinspect.inspection import NeuroInspect, Preflight, preflight
    from captum_neuroinspect.optvis import Illusions, activation_mask, render_illusions


_MODULE_OF = {
    "FeatureSet": "features",
    "HeadEdit": "edit",
    "Illusions": "optvis",
    "LabelSpaceEncoder": "encoders",
    "NeuroInspect": "inspection",
    "NeuronCounterfactual": "attr",
    "NeuronRanking": "attr",
    "OpenCLIPEncoder": "encoders",
    "Preflight": "inspection",
    "Reference": "attr",
    "Verdict": "edit",
    "activation_mask": "optvis",
    "collect_activations": "analysis",
    "collect_features": "features",
    "describe_neurons": "describe",
    "edit_head": "edit",
    "find_head": "features",
    "mend": "edit",
    "neuron_saliency": "attr",
    "preflight": "inspection",
    "probability_ratio": "edit",
    "rank_neurons": "attr",
    "render_illusions": "optvis",
    "saliency_figure": "attr",
}

__all__ = [
    "FeatureSet",
    "HeadEdit",
    "Illusions",
    "LabelSpaceEncoder",
    "NeuroInspect",
    "NeuronCounterfactual",
    "NeuronRanking",
    "OpenCLIPEncoder",
    "Preflight",
    "Reference",
    "Verdict",
    "activation_mask",
    "collect_activations",
    "collect_features",
    "describe_neurons",
    "edit_head",
    "find_head",
    "mend",
    "neuron_saliency",
    "preflight",
    "probability_ratio",
    "rank_neurons",
    "render_illusions",
    "saliency_figure",
]


__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
