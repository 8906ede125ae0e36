"""Tables that several experiments have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from captum_neuroinspect.experiments.experiment import Cell, Part, Results, ResultTable
from captum_neuroinspect.experiments.values import Numbers

_NOTE = (
    "Ranked by the paper's votes. To choose by eye, look at the first ones with `neuroinspect "
    "visualize`, and give yours with `--set neurons=...`."
)


def neuron_rows(ranked: Sequence[int], edited: Sequence[int]) -> Numbers:
    """The rows of a part that :func:`neuron_table` shows.

    Examples::

        >>> neuron_rows([7, 2], [7])
        {'neurons': {'1': 7.0, '2': 2.0}, 'edited': {'7': 7.0}}
    """
    return {
        "neurons": {str(place): float(n) for place, n in enumerate(ranked, 1)},
        "edited": {str(n): float(n) for n in edited},
    }


def neuron_table(results: Results, target: Callable[[Part], str] | None = None) -> ResultTable:
    """The ranked neurons of each part, and those that were edited.

    Args:
        results: parts with the rows of :func:`neuron_rows`.
        target: names the class that was edited in a part, where that differs.
    """
    rows: list[tuple[Cell, ...]] = []
    for part, numbers in results.items():
        ranked = ", ".join(f"{n:g}" for n in numbers["neurons"].values())
        mine: tuple[Cell, ...] = (str(part), ", ".join(numbers["edited"]), ranked)
        rows.append(mine if target is None else (mine[0], target(part), *mine[1:]))
    columns = ("part", *(() if target is None else ("class",)), "edited", "ranked first")
    return ResultTable("Neurons", columns, tuple(rows), _NOTE)
