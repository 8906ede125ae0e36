"""Tables of ``edit.py --rivals`` and ``--curve``: means over scenarios with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from edit_rivals import BEFORE, MENDED, OURS
from edit_tables import MEASURES
from scipy.stats import t as student
from torch import Tensor


@dataclass(frozen=True)
class Gain:
    """What one method did to one case with some photos.

    Attributes:
        method: its name.
        case: data, scenario and seed.
        photos: which, and how many.
        gains: by measure, in points; ``None``: it cannot be made of these photos.
        seconds: that it took.
        is_harmed: whether the cue takes more than ten points from the class.
    """

    method: str
    case: tuple[str, str, int]
    photos: tuple[str, int]
    gains: tuple[float, ...] | None
    seconds: float
    is_harmed: bool = True


def print_rivals(gains: list[Gain]) -> None:
    """Gains with intervals over scenarios, and what ours has more than each rival."""
    every = list(dict.fromkeys(one.case[0] for one in gains))
    for data in [[one] for one in every] + ([every] if len(every) > 1 else []):
        some = [one for one in gains if one.case[0] in data]
        n_scenarios = len({one.case[:2] for one in some})
        seeds = sorted({one.case[2] for one in some})
        print(f"\n### {' and '.join(data)}: {n_scenarios} scenarios, seeds {seeds}\n")
        print("gain in points [95 % interval of Student's t over scenarios]; lowest scenario\n")
        _print_rows(some, None)
        for ours in (OURS, MENDED):
            print(f"\n'{ours}' against each, in points (same cases)\n")
            _print_rows(some, ours)


def _print_rows(gains: list[Gain], ours: str | None) -> None:
    """Each method's gains, or how much more those of ``ours`` are."""
    titles = [*MEASURES.values(), "target where harmed", "lowest mean", "seconds"]
    print(f"| method | {' | '.join(titles)} |")
    print("| --- |" + " --- |" * len(titles))
    harmed = [one for one in gains if one.is_harmed]
    for method in dict.fromkeys(one.method for one in gains):
        mine = _by_case(gains, method)
        values = mine if ours is None else _by_case(gains, ours) - mine
        cells = [interval(column) for column in values.T]
        of_harmed = _by_case(harmed, method)
        of_harmed = of_harmed if ours is None else _by_case(harmed, ours) - of_harmed
        cells.append(interval(of_harmed[:, 0]))
        seconds = [one.seconds for one in gains if one.method == method]
        lowest = f"{float(values[:, 1].min()):+.1f}"
        print(f"| {method} | {' | '.join(cells)} | {lowest} | {sum(seconds) / len(seconds):.2f} |")


def print_curves(gains: list[Gain]) -> None:
    """Target / mean over classes / worst group, by the number of photos."""
    for data in dict.fromkeys(one.case[0] for one in gains):
        for photos in dict.fromkeys(one.photos[0] for one in gains):
            some = [one for one in gains if one.case[0] == data and one.photos[0] == photos]
            counts = sorted({one.photos[1] for one in some})
            seeds = sorted({one.case[2] for one in some})
            print(f"\n### {data}, photos {photos}, seeds {seeds}\n")
            print(f"gain of {' / '.join(MEASURES.values())}, by the number of labelled photos\n")
            print(f"| method | {' | '.join(map(str, counts))} |")
            print("| --- |" + " --- |" * len(counts))
            for method in dict.fromkeys(one.method for one in some):
                if method == BEFORE:
                    continue
                cells = [_mean([o for o in some if o.photos[1] == n], method) for n in counts]
                print(f"| {method} | {' | '.join(cells)} |")


def interval(values: Tensor) -> str:
    """Mean and 95 % interval of Student's t."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return f"{mean:+.1f}"
    half = float(values.std()) / math.sqrt(n) * float(student.ppf(0.975, n - 1))
    return f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


def _by_case(gains: Iterable[Gain], method: str) -> Tensor:
    """``(S, 3)`` of each scenario, mean over its seeds; a head that cannot be made gains 0."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for one in gains:
        if one.method == method:
            nothing = (0.0,) * len(MEASURES)
            found.setdefault(one.case[:2], []).append(one.gains or nothing)
    return torch.stack([torch.tensor(rows).mean(0) for rows in found.values()])


def _mean(gains: list[Gain], method: str) -> str:
    if all(one.gains is None for one in gains if one.method == method):
        return "-"
    return " / ".join(f"{value:+.0f}" for value in _by_case(gains, method).mean(0).tolist())
