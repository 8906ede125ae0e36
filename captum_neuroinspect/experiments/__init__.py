"""The paper's experiments, each one command, and the data with planted cues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_neuroinspect._core.lazy import lazy_names

if TYPE_CHECKING:
    from captum_neuroinspect.experiments.experiment import Experiment, Part, Setup, Table
    from captum_neuroinspect.experiments.registry import NAMES, find_experiment, listing
    from captum_neuroinspect.experiments.running import ExperimentRun, run_experiment
    from captum_neuroinspect.experiments.values import Change, Count, Estimate, estimate

__all__ = [
    "NAMES",
    "Change",
    "Count",
    "Estimate",
    "Experiment",
    "ExperimentRun",
    "Part",
    "Setup",
    "Table",
    "estimate",
    "find_experiment",
    "listing",
    "run_experiment",
]

_MODULE_OF = {
    **dict.fromkeys(("Experiment", "Part", "Setup", "Table"), "experiment"),
    **dict.fromkeys(("ExperimentRun", "run_experiment"), "running"),
    **dict.fromkeys(("Change", "Count", "Estimate", "estimate"), "values"),
    **dict.fromkeys(("NAMES", "find_experiment", "listing"), "registry"),
}

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
