"""More ways to remove a cue, for ``edit.py --removals``: which cue, and what is done to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from edit_cases import EditCase
from torch import nn

from captum_neuroinspect.edit import Direction, RemovalOptions, cue_direction, remove_cue

_N_NEURONS, _N_MOVED = 50, 400

Cue = Direction | tuple[int, ...]


def direction(case: EditCase, most: int | None = None) -> Direction:
    """From the target's mistakes; where there are none, from all."""
    wrong = case.editing.mistakes(case.target)
    wrong = wrong if len(wrong) else case.editing.mistakes()
    return cue_direction(wrong.subset(torch.arange(len(wrong))[:most]), case.train)


def random_direction(case: EditCase) -> Direction:
    """As likely in any direction in units of the spread."""
    spread = direction(case).spread
    rng = torch.Generator().manual_seed(case.seed)
    return Direction(torch.randn(len(spread), generator=rng) * spread, spread)


def few_neurons(case: EditCase) -> tuple[int, ...]:
    """The fifty most to blame."""
    return case.neurons[:_N_NEURONS]


def in_few_neurons(case: EditCase) -> Direction:
    """The direction in these neurons only."""
    whole = direction(case)
    kept = torch.zeros_like(whole.shift)
    kept[list(few_neurons(case))] = 1
    return Direction(whole.shift * kept, whole.spread)


def moved_neurons(case: EditCase) -> tuple[int, ...]:
    """Which the cue moves most, by photos of one class with and without it: no user knows them."""
    data = case.editing
    has_cue = data.groups % 2 == 1
    moves = [
        data.features[of_class & has_cue].mean(0) - data.features[of_class & ~has_cue].mean(0)
        for of_class in (data.labels == c for c in data.labels.unique())
        if (of_class & has_cue).any() and (of_class & ~has_cue).any()
    ]
    size = (torch.stack(moves).mean(0) / direction(case).spread).abs()
    return tuple(size.argsort(descending=True)[:_N_MOVED].tolist())


def random_neurons(case: EditCase) -> tuple[int, ...]:
    rng = torch.Generator().manual_seed(case.seed)
    return tuple(torch.randperm(case.head.in_features, generator=rng)[:_N_MOVED].tolist())


def cue_removed(
    cue: Callable[[EditCase], Cue] = direction, **options: Any
) -> Callable[[EditCase], nn.Linear]:
    """No photo of the field is trained on, and none chooses: mistakes only locate the cue."""

    def inner(case: EditCase) -> nn.Linear:
        return remove_cue(
            case.head,
            case.train,
            case.validation,
            target=case.target,
            cue=cue(case),
            seed=case.seed,
            options=RemovalOptions(**options),
        ).head

    return inner


def removals() -> dict[str, Callable[[EditCase], nn.Linear]]:
    """By name; what ``edit_methods.methods`` has is not among them."""
    found = {
        f"direction from {most} mistakes": cue_removed(partial(direction, most=most))
        for most in (1, 3, 5, 10)
    }
    found |= {
        "direction, anchor 0.01": cue_removed(anchor=1e-2),
        "direction, only the bias refitted": cue_removed(anchor=1e4),
        "direction, target x 2": cue_removed(target_weight=2),
        "direction, shift": cue_removed(intervention="shift"),
        "direction, swap": cue_removed(intervention="swap"),
        "direction in 50 neurons": cue_removed(in_few_neurons),
        "50 neurons, shift": cue_removed(few_neurons, intervention="shift"),
        "50 neurons, swap": cue_removed(few_neurons, intervention="swap"),
        "400 neurons that the cue moves": cue_removed(moved_neurons),
        "400 neurons that the cue moves, swap": cue_removed(moved_neurons, intervention="swap"),
        "400 random neurons": cue_removed(random_neurons),
        "400 random neurons, swap": cue_removed(random_neurons, intervention="swap"),
    }
    return {f"cue removed: {name}": method for name, method in found.items()}
