"""The tables of ``edit.py``: by scenario, over all cases, and by seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from edit_methods import BEFORE
from torch import Tensor

MEASURES = {
    "target": "target without the cue",
    "average": "mean over classes",
    "worst": "worst group",
}
# The settings of `mend` were chosen on scenarios of these seeds.
DEVELOPED_ON = (0, 1, 2)
# A class is harmed when the cue takes this much of its accuracy off the cue.
HARM = 0.1


@dataclass(frozen=True)
class Outcome:
    """What one method did in one case.

    Attributes:
        method: its name.
        case: data, scenario and seed.
        target: the class with the cue.
        results: shares of right test predictions, by measure.
        without_cue: the same of each class without the cue.
        seconds: that it took.
    """

    method: str
    case: tuple[str, str, int]
    target: int
    results: dict[str, float]
    without_cue: tuple[float, ...]
    seconds: float


def print_tables(outcomes: list[Outcome]) -> None:
    for data in dict.fromkeys(o.case[0] for o in outcomes):
        of_data = [o for o in outcomes if o.case[0] == data]
        _print_scenarios(of_data, data)
        _print_summary(of_data, data)
        if len({o.case[2] for o in of_data}) > 1:
            _print_seeds(of_data, data)


def _print_scenarios(outcomes: list[Outcome], data: str) -> None:
    """Target, mean over classes and worst group of each scenario, mean over seeds."""
    scenarios = list(dict.fromkeys(o.case[1] for o in outcomes))
    print(f"\n### {data}\n\n{' / '.join(MEASURES.values())}, in %, mean over seeds\n")
    print(f"| method | {' | '.join(scenarios)} |")
    print("| --- |" + " --- |" * len(scenarios))
    for method, mine in _by_method(outcomes).items():
        cells = []
        for scenario in scenarios:
            some = [o for o in mine if o.case[1] == scenario]
            means = [_values(some, measure).mean() for measure in MEASURES]
            cells.append(" / ".join(f"{100 * m:.0f}" for m in means))
        print(f"| {method} | {' | '.join(cells)} |")


def _print_summary(outcomes: list[Outcome], data: str) -> None:
    """After, and the gain with its spread over all cases."""
    by_method = _by_method(outcomes)
    before = by_method[BEFORE]
    harmed = torch.tensor(are_harmed(before))
    n_seeds = len({o.case[2] for o in outcomes})
    print(f"\n### {data}: {len(before)} cases, {n_seeds} seeds, in %")
    print("\nafter (gain ± its standard deviation over cases)\n")
    title = f"gain where the cue harms ({int(harmed.sum())} cases)"
    print(f"| method | {' | '.join(MEASURES.values())} | {title} | mean fell in | seconds |")
    print("| --- |" + " --- |" * (len(MEASURES) + 3))
    for method, mine in by_method.items():
        gains = {m: 100 * (_values(mine, m) - _values(before, m)) for m in MEASURES}
        cells = [
            f"{100 * _values(mine, m).mean():.1f} ({_mean_and_spread(gains[m])})" for m in MEASURES
        ]
        cells.append(_mean_and_spread(gains["target"][harmed]))
        cells.append(f"{int((gains['average'] < -1e-4).sum())} of {len(mine)}")
        seconds = sum(o.seconds for o in mine) / len(mine)
        print(f"| {method} | {' | '.join(cells)} | {seconds:.2f} |")


def _print_seeds(outcomes: list[Outcome], data: str) -> None:
    """Gains on the seeds that settings were chosen on, and on the others."""
    seeds = sorted({o.case[2] for o in outcomes})
    parts = {
        "`mend` was developed on": [s for s in seeds if s in DEVELOPED_ON],
        "not developed on": [s for s in seeds if s not in DEVELOPED_ON],
    }
    parts = {f"{name}: {', '.join(map(str, some))}": some for name, some in parts.items() if some}
    print(f"\n### {data}: gain of target / of mean over classes, in points, by seeds\n")
    print(f"| method | {' | '.join(parts)} |")
    print("| --- |" + " --- |" * len(parts))
    before = _by_method(outcomes)[BEFORE]
    for method, mine in _by_method(outcomes).items():
        cells = []
        for some in parts.values():
            pairs = [p for p in zip(mine, before, strict=True) if p[0].case[2] in some]
            gains = [_gain(pairs, measure) for measure in ("target", "average")]
            cells.append(" / ".join(map(_mean_and_spread, gains)))
        print(f"| {method} | {' | '.join(cells)} |")


def are_harmed(before: list[Outcome]) -> list[bool]:
    """Whether each target is that much better without the cue where another class has the cue."""
    harms = []
    for one in before:
        others = [
            o.without_cue[one.target]
            for o in before
            if o.case[2] == one.case[2] and o.target != one.target
        ]
        harms.append(sum(others) / max(len(others), 1) - one.results["target"])
    return [harm > HARM for harm in harms]


def _gain(pairs: list[tuple[Outcome, Outcome]], measure: str) -> Tensor:
    return torch.tensor([100 * (a.results[measure] - b.results[measure]) for a, b in pairs])


def _by_method(outcomes: list[Outcome]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.method, []).append(outcome)
    return found


def _values(outcomes: list[Outcome], measure: str) -> Tensor:
    return torch.tensor([o.results[measure] for o in outcomes])


def _mean_and_spread(values: Tensor) -> str:
    return f"{values.mean():+.1f} ± {values.std(correction=0):.1f}"
