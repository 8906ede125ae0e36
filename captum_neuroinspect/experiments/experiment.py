"""What an experiment is: settings, parts that are computed one by one, tables and a figure."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

from captum_neuroinspect.experiments.bars import bars
from captum_neuroinspect.experiments.values import (
    MeanWithInterval,
    Numbers,
    Value,
    mean_with_interval,
    number,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Part(NamedTuple):
    """The smallest piece of work that is kept.

    Attributes:
        scenario: such as ``"dog(chair)"``; ``""`` where there is only one.
        seed: draws whatever is drawn.
    """

    scenario: str
    seed: int

    def __str__(self) -> str:
        return f"{self.scenario}, seed {self.seed}" if self.scenario else f"seed {self.seed}"


Results: TypeAlias = Mapping[Part, Numbers]
Cell: TypeAlias = str | MeanWithInterval


@dataclass(frozen=True)
class ResultTable:
    """One table of an experiment's page.

    Attributes:
        title: above it.
        columns: names; the first is that of the rows.
        rows: texts, and estimates, which are shown with their interval.
        note: below it.
        plain: columns whose estimates are numbers of another kind; all others are shares, in %.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    plain: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setup:
    """Where an experiment finds things; what of it changes numbers goes into the digest.

    Attributes:
        out: folder of the results; features and checkpoints are kept in its ``kept/``.
        data: folder of the data set; ``None`` where none is needed, or it is downloaded.
        model: of :func:`~captum_neuroinspect.models.load_model`; ``None``: the experiment's own.
        weights: likewise.
        image_size: pixels a side; ``None``: the model's own.
        device: such as ``"cpu"`` or ``"auto"``.
        download: whether a data set that is not in ``data`` may be downloaded into it.
        progress: show progress bars.
    """

    out: Path
    data: Path | None = None
    model: str | None = None
    weights: str | None = None
    image_size: int | None = None
    device: str = "cpu"
    download: bool = False
    progress: bool = False

    @property
    def kept(self) -> Path:
        """Features and checkpoints, so that a second run need not wait."""
        return self.out / "kept"

    @property
    def data_root(self) -> Path:
        """Where a data set that can be downloaded is looked for: ``data``, or in ``out``."""
        return self.out / "data" if self.data is None else self.data


class Experiment(ABC):
    """One of the paper's experiments. A subclass says what; the framework keeps and shows it.

    To add one: a module with a subclass and its frozen configuration, whose defaults are the
    paper's, and a line in ``registry.py``. ``parts``, ``identity`` and ``run_part`` are enough;
    tables and the figure have defaults.

    Attributes:
        name: of the command, such as ``"metashift"``.
        summary: one line of a list.
        source: what of the paper it repeats, such as ``"Table II and Fig. 5"``.
        Config: frozen dataclass of numbers, texts and tuples; the paper's values are defaults.
        quick: values of ``Config`` for ``--quick``.
        measures: columns of the default table, in order; ``None``: as found. Rows without any of
            them are kept in ``results.json`` and stand in no table.
        plain: those that are no shares, such as activations or seconds.
        config: the settings of this run.
        setup: where things are.
        is_quick: whether they are those of ``--quick``, which the page then says.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    Config: ClassVar[type]
    quick: ClassVar[Mapping[str, Any]] = {}
    measures: ClassVar[tuple[str, ...] | None] = None
    plain: ClassVar[tuple[str, ...]] = ()
    is_quick: bool = False

    def __init__(self, config: Any, setup: Setup) -> None:
        self.config = config
        self.setup = setup

    @abstractmethod
    def parts(self, seeds: Sequence[int]) -> list[Part]:
        """All parts for these seeds, in the order of work."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What the numbers depend on besides ``config`` and the part: model and data, for JSON.

        It is called before any part, and checks that the data are there: errors belong here.
        """

    @abstractmethod
    def run_part(self, part: Part) -> Numbers:
        """Compute one part; the same part and settings give the same numbers."""

    def notes(self) -> list[str]:
        """Sentences for the page: where this differs from the paper."""
        return []

    def published(self) -> ResultTable | None:
        """The paper's own numbers, to be shown beside ours."""
        return None

    def tables(self, results: Results) -> list[ResultTable]:
        """One table a scenario: rows and measures as ``run_part`` gave them, mean over seeds."""
        return [self.scenario_table(results, scenario) for scenario in scenarios_of(results)]

    def scenario_table(self, results: Results, scenario: str) -> ResultTable:
        """Rows and measures of one scenario, each with its interval over seeds."""
        mine = [numbers for part, numbers in results.items() if part.scenario == scenario]
        measures = self.measures_of(mine)
        cells: list[tuple[Cell, ...]] = [
            (row, *(mean_with_interval(values_of(mine, row, measure)) for measure in measures))
            for row in self.rows_of(mine)
        ]
        return ResultTable(scenario or self.source, ("", *measures), tuple(cells), plain=self.plain)

    def measures_of(self, mine: Iterable[Numbers]) -> tuple[str, ...]:
        """Measures that were found, in the order of ``measures``."""
        every = (m for numbers in mine for row in numbers.values() for m in row)
        found = tuple(dict.fromkeys(every))
        if self.measures is None:
            return found
        return tuple(m for m in self.measures if m in found)

    def rows_of(self, mine: Iterable[Numbers]) -> tuple[str, ...]:
        """Rows that have one of the measures: a part may keep more, such as lists of neurons."""
        numbers = list(mine)
        measures = set(self.measures_of(numbers))
        every = (row for one in numbers for row, values in one.items() if measures & set(values))
        return tuple(dict.fromkeys(every))

    def figure(self, results: Results) -> Figure:
        """Each measure as bars of the rows, with intervals, mean over the scenarios."""
        rows, measures = self.rows_of(results.values()), self.measures_of(results.values())
        estimates = {
            measure: {row: over_scenarios(results, row, measure) for row in rows}
            for measure in measures
        }
        return bars(f"{self.name}: mean with 95 % interval", estimates, self.plain)


def scenarios_of(results: Results) -> list[str]:
    """In the order of the parts."""
    return list(dict.fromkeys(part.scenario for part in results))


def values_of(mine: Iterable[Numbers], row: str, measure: str) -> list[Value]:
    """One value of each of the parts that has it."""
    return [numbers[row][measure] for numbers in mine if row in numbers and measure in numbers[row]]


def over_scenarios(results: Results, row: str, measure: str) -> MeanWithInterval:
    """The mean over seeds of each scenario, and the interval over scenarios.

    Of a single scenario the interval is that over seeds.
    """
    scenarios = scenarios_of(results)
    by_scenario = [
        values_of([n for part, n in results.items() if part.scenario == one], row, measure)
        for one in scenarios
    ]
    if len(scenarios) == 1:
        return mean_with_interval(by_scenario[0])
    means = [sum(map(number, values)) / len(values) for values in by_scenario if values]
    return replace(mean_with_interval(means), over="scenarios")


def changed(config: Any, settings: Mapping[str, Any]) -> Any:
    """A configuration with other values, each checked against the kind of the old one.

    Args:
        config: a frozen dataclass.
        settings: values by name, as JSON has them: lists stand for tuples.

    Raises:
        TypeError: for a value of another kind.
        ValueError: for a number that is not finite or below 0, 0 where a whole number is 1 or
            more by itself, or a name that is not there; lists those that are.

    Examples::

        >>> @dataclass(frozen=True)
        ... class Config:
        ...     lr: float = 0.1
        ...     neurons: tuple[int, ...] = ()
        >>> changed(Config(), {"lr": 1, "neurons": [3]})
        Config(lr=1.0, neurons=(3,))
    """
    assert is_dataclass(config)
    known = {field.name: getattr(config, field.name) for field in fields(config)}
    for name in settings:
        if name not in known:
            raise ValueError(f"setting {name!r} is unknown, expected one of {', '.join(known)}")
    values = {name: _of_kind(name, value, known[name]) for name, value in settings.items()}
    made = replace(config, **values)  # type: ignore[type-var]
    # What a configuration says of itself comes first: it knows more. Defaults tell what may be 0,
    # not what `quick` has made of them.
    defaults = {field.name: field.default for field in fields(config)}
    for name, value in values.items():
        _check_amount(name, value, defaults[name])
    return made


def settings_of(config: Any) -> dict[str, Any]:
    """A configuration as JSON has it."""
    record: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return record


def _of_kind(name: str, value: Any, old: Any) -> Any:
    if isinstance(old, tuple) and isinstance(value, list | tuple):
        return tuple(tuple(one) if isinstance(one, list) else one for one in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"setting {name}={value}, expected a finite number")
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is not None and type(value) is not type(old):
        raise TypeError(
            f"setting {name}={value!r} is a {type(value).__name__}, expected a "
            f"{type(old).__name__}, such as {old!r}"
        )
    return value


def _check_amount(name: str, value: Any, old: Any) -> None:
    """No setting is negative; and of nothing, such as 0 epochs, no experiment can tell anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    least = 1 if isinstance(old, int) and old >= 1 else 0
    if value < least:
        raise ValueError(f"setting {name}={value}, expected {least} or more, such as {old}")
