"""Which experiments there are."""

from __future__ import annotations

from importlib import import_module

from captum_neuroinspect.experiments.experiment import Experiment

# Name -> module of this package and class; the module is loaded when it is used.
_PLACES = {
    "metashift": ("cue_experiments", "MetaShiftExperiment"),
    "textures": ("cue_experiments", "TexturesExperiment"),
    "tiles": ("cue_experiments", "TilesExperiment"),
    "waterbirds": ("waterbirds", "WaterbirdsExperiment"),
    "flowers102": ("worst_class", "FlowersExperiment"),
    "food101": ("worst_class", "FoodExperiment"),
    "clothing": ("worst_class", "FolderExperiment"),
    "human-proxy": ("human_proxy", "HumanProxyExperiment"),
    "iterations": ("iterations", "IterationsExperiment"),
    "gamma": ("gamma", "GammaExperiment"),
    "concepts-in-a-neuron": ("concepts_in_a_neuron", "ConceptsExperiment"),
    "neuron-labels": ("neuron_labels", "NeuronLabelsExperiment"),
    "out-of-domain": ("out_of_domain", "OutOfDomainExperiment"),
}
NAMES = tuple(_PLACES)


def find_experiment(name: str) -> type[Experiment]:
    """The class of an experiment.

    Raises:
        ValueError: for an unknown name.

    Examples::

        >>> find_experiment("metashift").source
        'Table II and Fig. 5'
    """
    if name not in _PLACES:
        raise ValueError(f"experiment {name!r} is unknown, expected one of {', '.join(NAMES)}")
    module, kind = _PLACES[name]
    found: type[Experiment] = getattr(import_module(f"{__package__}.{module}"), kind)
    return found


def list_experiments() -> str:
    """All experiments, one a line with its summary.

    Example::

        >>> print(list_experiments().splitlines()[3].split()[0])
        waterbirds
    """
    width = max(map(len, NAMES))
    return "\n".join(f"  {name:<{width}} {find_experiment(name).summary}" for name in NAMES)
