"""The default figure of an experiment: a panel a measure, a bar a row."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.experiments.values import MeanWithInterval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#1f77b4", "#d1495b", "#66a182", "#edae49", "#8d6a9f", "#9aa5b1")


def bars(
    title: str, estimates: Mapping[str, Mapping[str, MeanWithInterval]], plain: Collection[str]
) -> Figure:
    """Means with their intervals.

    Args:
        title: above all panels.
        estimates: of each measure and row; the same rows in each measure.
        plain: measures that are numbers of another kind; all others are shares, shown in %.
    """
    from matplotlib.figure import Figure

    rows = list(next(iter(estimates.values()), {}))
    height = 1.2 + 0.32 * len(rows)
    figure = Figure(figsize=(2.2 + 2.6 * len(estimates), height), layout="constrained")
    panels = figure.subplots(1, len(estimates), sharey=True, squeeze=False)[0]
    colours = _COLOURS * len(estimates)
    for panel, (measure, by_row), colour in zip(panels, estimates.items(), colours, strict=False):
        found = list(by_row.values())
        places = [i for i, one in enumerate(found) if math.isfinite(one.mean)]
        scale = 1 if measure in plain else 100
        panel.barh(places, [scale * found[i].mean for i in places], color=colour, height=0.7)
        for i in places:
            if math.isfinite(found[i].low):
                ends = [scale * found[i].low, scale * found[i].high]
                panel.plot(ends, [i, i], color="#222222", linewidth=1.4)
        panel.axvline(0, color="#222222", linewidth=0.8)
        panel.set(title=shown(measure), xlabel="%" if scale == 100 else "")
        panel.set_yticks(range(len(rows)), [shown(row) for row in rows])
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.suptitle(title)
    return figure
