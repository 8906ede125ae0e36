"""The paper's experiments, each one command, and the data with planted cues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_neuroinspect._core.lazy import lazy_names

if TYPE_CHECKING:
    from captum_neuroinspect.experiments.experiment import Experiment, Part, ResultTable, Setup
    from captum_neuroinspect.experiments.registry import NAMES, find_experiment, list_experiments
    from captum_neuroinspect.experiments.running import ExperimentRun, run_experiment
    from captum_neuroinspect.experiments.values import (
        Count,
        MeanWithInterval,
        ShareChange,
        mean_with_interval,
    )

__all__ = [
    "NAMES",
    "Count",
    "Experiment",
    "ExperimentRun",
    "MeanWithInterval",
    "Part",
    "ResultTable",
    "Setup",
    "ShareChange",
    "find_experiment",
    "list_experiments",
    "mean_with_interval",
    "run_experiment",
]

_MODULE_OF = {
    **dict.fromkeys(("Experiment", "Part", "Setup", "ResultTable"), "experiment"),
    **dict.fromkeys(("ExperimentRun", "run_experiment"), "running"),
    **dict.fromkeys(("ShareChange", "Count", "MeanWithInterval", "mean_with_interval"), "values"),
    **dict.fromkeys(("NAMES", "find_experiment", "list_experiments"), "registry"),
}

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
