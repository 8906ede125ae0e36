"""Tables that several experiments have."""

from __future__ import annotations

from collections.abc import Callable

from captum_neuroinspect.experiments.experiment import Cell, Part, Results, ResultTable

_NOTE = (
    "Ranked by the paper's votes. To choose by eye, look at the first ones with `neuroinspect "
    "visualize`, and give yours with `--set neurons=...`."
)


def neuron_table(results: Results, target: Callable[[Part], str] | None = None) -> ResultTable:
    """The ranked neurons of each part, and those that were edited.

    Args:
        results: parts with the rows ``"neurons"`` and ``"edited"``.
        target: names the class that was edited in a part, where that differs.
    """
    rows: list[tuple[Cell, ...]] = []
    for part, numbers in results.items():
        ranked = ", ".join(f"{n:g}" for n in numbers["neurons"].values())
        mine: tuple[Cell, ...] = (str(part), ", ".join(numbers["edited"]), ranked)
        rows.append(mine if target is None else (mine[0], target(part), *mine[1:]))
    columns = ("part", *(() if target is None else ("class",)), "edited", "ranked first")
    return ResultTable("Neurons", columns, tuple(rows), _NOTE)
