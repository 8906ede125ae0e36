"""What experiments with illusions share: rows of pictures, who judges them, and a sheet."""

from __future__ import annotations

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import fill
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_neuroinspect._core.shares import share_interval
from captum_neuroinspect.experiments.experiment import (
    Cell,
    Experiment,
    Part,
    Results,
    ResultTable,
    scenarios_of,
    settings_of,
    values_of,
)
from captum_neuroinspect.experiments.illusion_draws import GROUP, Draw, rendered
from captum_neuroinspect.experiments.illusion_networks import (
    TINY,
    IllusionNetworks,
    NamedJudge,
    illusion_networks,
)
from captum_neuroinspect.experiments.values import Count, Numbers, Value, mean_with_interval
from captum_neuroinspect.optvis import IllusionOptions, Illusions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAPER, _PACKAGE = "paper", "package"
_MOST_SHOWN = 8  # pictures of a row on the sheet
_SIDE = 160  # pixels of a picture there
_WIDTH = 28  # letters that stand beside a row
_N_DIGITS = 12
_SHARES = (
    "Shares are of all pairs of all seeds, in brackets Wilson's 95 % interval; pictures of one "
    "class are alike, so that it is rather too narrow."
)
_ACTIVATION = (
    "Activation is relative to the mean of the ten strongest on photos. Seconds are those of the "
    "processor, for a pair, and vary from run to run."
)
# Values of `Config` by which an experiment with tiny networks takes seconds.
QUICK: Mapping[str, Any] = {"networks": TINY, "size": 32, "n_steps": 8, "options": _PACKAGE}


@dataclass(frozen=True)
class IllusionConfig:
    """Settings that all experiments with illusions have; the defaults are the paper's.

    Attributes:
        networks: ``"real"`` or ``"tiny"`` (what ``--quick`` takes).
        options: ``"paper"``: the authors' options of illusions; ``"package"``: the defaults of
            this package, with which 150 steps do.
        size: pixels a side.
        n_steps: optimisation steps; 0: those of the options.
    """

    networks: str = "real"
    options: str = _PAPER
    size: int = 224
    n_steps: int = 0

    def __post_init__(self) -> None:
        if self.options not in (_PAPER, _PACKAGE):
            raise ValueError(f"options={self.options!r}, expected {_PAPER!r} or {_PACKAGE!r}")
        if self.n_steps < 0:
            raise ValueError(f"n_steps={self.n_steps}, expected 0 or more")


@dataclass(frozen=True)
class PictureRow:
    """Illusions that are rendered together, and are a row of the table and of the sheet.

    Attributes:
        title: of the row.
        draw: pairs and seed.
        arguments: of :func:`~captum_neuroinspect.render_illusions`.
        has_groups: whether the pairs are several neurons of each class, so that judges can be
            asked which neuron a picture is of.
    """

    title: str
    draw: Draw
    arguments: Mapping[str, Any] = field(default_factory=dict)
    has_groups: bool = False


class IllusionExperiment(Experiment):
    """An experiment whose rows are illusions; a subclass says which."""

    config: IllusionConfig
    quick = QUICK

    def parts(self, seeds: Sequence[int]) -> list[Part]:
        return [Part("", seed) for seed in seeds]

    @abstractmethod
    def picture_rows(self, part: Part) -> list[PictureRow]:
        """The rows of a part."""

    @cached_property
    def networks(self) -> IllusionNetworks:
        """Who is inspected, guides and judges."""
        return illusion_networks(self.setup, self.config.networks, self.config.size)

    def networks_of(self, part: Part) -> IllusionNetworks:
        """Those of one part: the same for all, unless a subclass has several."""
        del part
        return self.networks

    def identity(self) -> dict[str, Any]:
        return self.networks.identity()

    def run_part(self, part: Part) -> Numbers:
        rows = self.picture_rows(part)
        found = [self.rendered(part, row) for row in rows]
        networks = self.networks_of(part)
        return {
            row.title: numbers_of(networks, row, one) for row, one in zip(rows, found, strict=True)
        }

    def rendered(self, part: Part, row: PictureRow) -> Illusions:
        """The illusions of a row, from ``setup.kept`` where they are finished."""
        text = json.dumps([self.name, settings_of(self.config), self._about(part)])
        digest = hashlib.sha256(text.encode()).hexdigest()[:_N_DIGITS]
        common: dict[str, Any] = {
            "size": self.config.size,
            "n_steps": self.config.n_steps or None,
            "options": _PAPER if self.config.options == _PAPER else IllusionOptions(),
        }
        return rendered(
            self.networks_of(part).model,
            row.draw,
            self.setup.kept / f"illusions-{digest}",
            f"{part.scenario} {row.title}",
            progress=self.setup.progress,
            **{**common, **row.arguments},
        )

    def in_class(self, part: Part) -> dict[str, Any]:
        """Arguments of an illusion in a class without an encoder."""
        return {"class_names": self.networks_of(part).class_names}

    def guided(self, part: Part) -> dict[str, Any]:
        """Arguments of CLIP-Illusion."""
        return {**self.in_class(part), "encoder": self.networks_of(part).guide}

    def notes(self) -> list[str]:
        known = [self.networks.remark] if self.networks.remark else []
        if self.config.networks == TINY:
            return known
        return [
            *known,
            f"The paper inspects ResNet-18, guided by CLIP; here {self.networks.name} is "
            "inspected, guided by EfficientNet-Lite2 with MiniLM in place of CLIP.",
        ]

    def tables(self, results: Results) -> list[ResultTable]:
        return [self._table(results, scenario) for scenario in scenarios_of(results)]

    def figure(self, results: Results) -> Figure:
        """The pictures of the first seed, a row of them for each row of the table."""
        first = min(part.seed for part in results)
        shown = []
        for part in (one for one in results if one.seed == first):
            for row in self.picture_rows(part):
                title = f"{part.scenario}: {row.title}" if part.scenario else row.title
                shown.append((title, self.rendered(part, row)))
        return picture_sheet(shown, self.name)

    def _about(self, part: Part) -> dict[str, Any]:
        return self.networks_of(part).identity()

    def _table(self, results: Results, scenario: str) -> ResultTable:
        mine = [numbers for part, numbers in results.items() if part.scenario == scenario]
        rows = list(dict.fromkeys(row for numbers in mine for row in numbers))
        measures = tuple(dict.fromkeys(m for one in mine for row in one.values() for m in row))
        cells = tuple(
            (row, *(pooled(values_of(mine, row, measure)) for measure in measures)) for row in rows
        )
        title = f"{self.source}: {scenario}" if scenario else self.source
        return ResultTable(
            title, ("", *measures), cells, f"{_SHARES} {_ACTIVATION}", plain=measures
        )


def numbers_of(networks: IllusionNetworks, row: PictureRow, found: Illusions) -> dict[str, Value]:
    """What is measured of the illusions of a row."""
    n = len(found)
    relative = found.activations / networks.natural[row.draw.neurons].clamp(min=1e-6)
    numbers: dict[str, Value] = {
        "seconds": found.settings["cpu_seconds"] / n,
        "activation": float(relative.mean()),
        "logit": math.nan if found.logits is None else float(found.logits.mean()),
    }
    for judge in networks.judges:
        numbers |= verdicts(judge, row, found)
    return numbers | {"contrast": float(found.images.flatten(1).std(1).mean())}


def verdicts(judge: NamedJudge, row: PictureRow, found: Illusions) -> dict[str, Value]:
    """Whether a judge sees the classes, and tells the neurons; nothing of what it guided."""
    if judge.is_guide and found.similarities is not None:
        return {}
    seen = judge.look(found.images)
    right = seen.logits.argmax(1) == torch.tensor(row.draw.classes)
    told: dict[str, Value] = {f"{judge.name} sees the class": count(right)}
    if row.has_groups:
        neurons = judge.judge.told(seen.features, row.draw, GROUP)
        told[f"{judge.name} tells the neuron"] = count(neurons)
    return told


def count(holds: Tensor) -> Count:
    """How many hold, ``(N,)``."""
    return Count(int(holds.sum()), len(holds))


def pooled(values: Sequence[Value]) -> Cell:
    """A cell of one measure: shares of all seeds together, other numbers as a mean over seeds."""
    counts = [value for value in values if isinstance(value, Count)]
    if not counts:
        return mean_with_interval(values)
    right, of = (sum(one[place] for one in counts) for place in (0, 1))
    low, high = share_interval(right, of)
    return f"{right} of {of}, {right / of:.0%} ({low:.0%} to {high:.0%})" if of else ""


def picture_sheet(rows: Sequence[tuple[str, Illusions]], title: str) -> Figure:
    """A row of pictures for each title, with class and activation above each."""
    from matplotlib.figure import Figure

    n_columns = min(max(len(found) for _, found in rows), _MOST_SHOWN)
    size = (1.55 * n_columns + 0.4, 1.95 * len(rows) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), n_columns, squeeze=False)
    for line, (name, found) in zip(panels, rows, strict=True):
        for panel in line:
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        pictures = found[:n_columns].to_pil()
        for panel, picture, caption in zip(
            line, pictures, found[:n_columns].captions(), strict=False
        ):
            picture.thumbnail((_SIDE, _SIDE))
            panel.imshow(picture)
            panel.set_title(caption, fontsize=6, parse_math=False)
        # Names of classes may hold what matplotlib would read as formulas.
        line[0].set_ylabel(fill(name, _WIDTH), fontsize=7, parse_math=False)
    figure.suptitle(title, fontsize=9)
    return figure
