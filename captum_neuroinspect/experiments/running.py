"""An experiment from its parts to its page: what is there already is not computed again."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captum_neuroinspect._core.checks import check_whole
from captum_neuroinspect._core.files import partial_folder, read_text, write_text
from captum_neuroinspect._core.version import __version__
from captum_neuroinspect.experiments.experiment import (
    Experiment,
    Part,
    Setup,
    changed,
    settings_of,
)
from captum_neuroinspect.experiments.pages import write_pages
from captum_neuroinspect.experiments.registry import find_experiment
from captum_neuroinspect.experiments.values import Numbers, as_json, from_json

SEEDS = (0, 1, 2)
_FORMAT = 2
_N_DIGITS = 12  # of sha256, in a part's file name


@dataclass(frozen=True)
class ExperimentRun:
    """What :func:`run_experiment` did.

    Attributes:
        experiment: with its settings.
        results: numbers of each part.
        n_reused: parts that an earlier run had computed.
        n_other: parts in the folder that were made with other settings, and were not used.
        page: the Markdown page; ``results.json`` and ``results.png`` lie beside it.
    """

    experiment: Experiment
    results: Mapping[Part, Numbers]
    n_reused: int
    n_other: int
    page: Path

    def __str__(self) -> str:
        n = len(self.results)
        text = f"{n - self.n_reused} of {n} parts computed"
        if self.n_reused:
            text += f", {self.n_reused} taken from an earlier run"
        if self.n_other:
            text += f"; {self.n_other} in the folder have other settings or seeds and are left out"
        return f"{text}\n{self.page}"


def run_experiment(
    name: str,
    setup: Setup,
    *,
    seeds: Sequence[int] = SEEDS,
    quick: bool = False,
    settings: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> ExperimentRun:
    """Compute what is missing of an experiment, and write its tables and figure.

    Each part, one scenario with one seed, is kept in ``setup.out`` as soon as it is done. A second
    run computes only what is missing. A part that was made with other settings, another model,
    other data or another version of this package is not used.

    Args:
        name: of the experiment; :func:`~captum_neuroinspect.experiments.list_experiments` has all.
        setup: folders, model and device.
        seeds: each is computed; means are over them.
        quick: a small version, to see that everything works.
        settings: other values than the defaults, by their name in the configuration.
        say: is called with a sentence about what is taken from an earlier run.

    Raises:
        TypeError: for a setting or a seed of another kind.
        ValueError: for an unknown experiment or setting, no seeds or one twice.
        FileNotFoundError: when the data are not there: says what to download, from where, and
            where to put it.
        RuntimeError: when weights or data cannot be downloaded.
    """
    chosen = checked_seeds(seeds)
    experiment = make_experiment(name, setup, quick=quick, settings=settings)
    identity = identity_of(experiment)
    parts = experiment.parts(chosen)
    files = {part: part_file(setup.out, identity, part) for part in parts}
    kept = {part: _read_part(path, part, say) for part, path in files.items()}
    n_reused = sum(numbers is not None for numbers in kept.values())
    if n_reused:
        say(f"{n_reused} of {len(parts)} parts are there from an earlier run")
    results: dict[Part, Numbers] = {}
    setup.out.mkdir(parents=True, exist_ok=True)
    # Its lock says that the folder is in use; several may run in one, such as for other seeds.
    with partial_folder(setup.out):
        for part in tqdm(parts, experiment.name, unit="part", disable=not setup.progress):
            found = kept[part]
            if found is None:
                found = _compute(experiment, part, files[part], identity)
            results[part] = found
    page = write_pages(experiment, results, identity, setup.out)
    n_other = len(set((setup.out / "parts").glob("*.json")) - set(files.values()))
    return ExperimentRun(experiment, results, n_reused, n_other, page)


def make_experiment(
    name: str, setup: Setup, *, quick: bool = False, settings: Mapping[str, Any] | None = None
) -> Experiment:
    """An experiment with its settings; see :func:`run_experiment`."""
    kind = find_experiment(name)
    config = changed(kind.Config(), kind.quick) if quick else kind.Config()
    made = kind(changed(config, settings or {}), setup)
    made.is_quick = quick
    return made


def identity_of(experiment: Experiment) -> dict[str, Any]:
    """All that a part's numbers depend on, but the part itself."""
    return {
        "experiment": experiment.name,
        "version": __version__,
        "format": _FORMAT,
        "config": settings_of(experiment.config),
        **experiment.identity(),
    }


def part_file(out: Path, identity: Mapping[str, Any], part: Part) -> Path:
    """Where a part is kept; its name has the digest of all that it was made with."""
    text = json.dumps([identity, part.scenario, part.seed], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_N_DIGITS]
    scenario = re.sub(r"\W+", "-", part.scenario, flags=re.ASCII).strip("-")[:40]
    name = "-".join(filter(None, (scenario, f"seed{part.seed}", digest)))
    return out / "parts" / f"{name}.json"


def checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """The seeds as a tuple.

    Raises:
        TypeError: when one is no whole number.
        ValueError: when there is none, one is negative, or one is there twice.
    """
    for seed in seeds:
        check_whole("seed", seed)
    chosen = tuple(int(seed) for seed in seeds)
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise ValueError(f"seeds={list(chosen)}, expected one or more different ones from 0")
    return chosen


def _compute(
    experiment: Experiment, part: Part, path: Path, identity: Mapping[str, Any]
) -> Numbers:
    start = time.perf_counter()
    found = experiment.run_part(part)
    numbers = {
        row: {measure: as_json(value) for measure, value in values.items()}
        for row, values in found.items()
    }
    record = {
        "part": {"scenario": part.scenario, "seed": part.seed},
        "made_with": dict(identity),
        "seconds": round(time.perf_counter() - start, 2),
        "sha256": _digest_of(part, numbers),
        "numbers": numbers,
    }
    write_text(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    # As the next run reads it: both write the same page.
    return _numbers(record)


def _read_part(path: Path, part: Part, say: Callable[[str], None]) -> Numbers | None:
    if not path.exists():
        return None
    try:
        record = json.loads(read_text(path))
        if record["sha256"] != _digest_of(part, record["numbers"]):
            raise ValueError("its numbers are not those that were kept")
        return _numbers(record)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        say(f"{path} cannot be read ({error}): {part} is computed again")
        return None


def _digest_of(part: Part, numbers: Mapping[str, Any]) -> str:
    """Tells numbers that were changed, or are of another part, from those that were kept."""
    # Through JSON, so that a number is written as it is read; in order, which tables follow.
    text = json.dumps([part.scenario, part.seed, numbers])
    return hashlib.sha256(json.dumps(json.loads(text)).encode()).hexdigest()


def _numbers(record: dict[str, Any]) -> Numbers:
    return {
        str(row): {str(measure): from_json(value) for measure, value in values.items()}
        for row, values in record["numbers"].items()
    }
