"""Dealing out a data set in parts, class by class, without tearing units apart."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor


def first_part(labels: Tensor, units: Tensor, fraction: float, seed: int) -> Tensor:
    """``(N,)`` mask of the samples in the first part, about ``fraction`` of each class."""
    generator = torch.Generator().manual_seed(seed)
    names, unit_of = units.unique(return_inverse=True)
    first, placed = torch.zeros(2, len(names), dtype=torch.bool)  # by unit
    ordered, order = labels.sort(stable=True)
    for rows in order.split(ordered.unique(return_counts=True)[1].tolist()):
        of_class = unit_of[rows].unique()
        # Units that came with an earlier class stay where they are, and count.
        n_missing = round(fraction * len(of_class)) - int(first[of_class].sum())
        free = of_class[~placed[of_class]]
        free = free[torch.randperm(len(free), generator=generator)]
        first[free[: max(n_missing, 0)]] = True
        placed[free] = True
    return first[unit_of]


def dealt(
    labels: Tensor, kinds: Tensor, units: Tensor, shares: Mapping[str, float], seed: int
) -> dict[str, Tensor]:
    """Deal out samples so that every part has its share of each class and of each kind in it.

    Unit by unit, each goes to the part that lacks most: of this kind in this class, of the
    class, of the kind, and of all (minimisation, Pocock and Simon 1975); chance decides between
    equals. So a class with a single mistake gives it to a part by chance, and where many
    classes have few each part gets its share of these all the same.

    Args:
        labels: ``(N,)`` class of each sample.
        kinds: ``(N,)`` int64, such as right or wrong.
        units: ``(N,)`` samples with the same number stay together, as photo and copy.
        shares: share of each part, by its name; they add up to 1.
        seed: draws the order, and decides between equals.

    Returns:
        ``(N,)`` mask of each part; every sample is in exactly one.

    Examples::

        >>> labels = torch.arange(8) % 2
        >>> parts = dealt(labels, labels * 0, torch.arange(8), {"one": 0.25, "other": 0.75}, 0)
        >>> labels[parts["one"]].tolist(), int(parts["other"].sum())
        ([0, 1], 6)
    """
    rng = random.Random(seed)
    together: dict[int, list[int]] = defaultdict(list)
    for row, unit in enumerate(units.tolist()):
        together[unit].append(row)
    traits = list(zip(labels.tolist(), kinds.tolist(), strict=True))
    blocks = list(together.values())
    rng.shuffle(blocks)
    blocks.sort(key=lambda rows: traits[rows[0]])
    totals: Counter[object] = Counter()
    counts: dict[str, Counter[object]] = {name: Counter() for name in shares}
    found = {name: torch.zeros(len(labels), dtype=torch.bool) for name in shares}
    for rows in blocks:
        label, kind = traits[rows[0]]
        margins = [(label, kind), ("class", label), ("kind", kind), "all"]
        totals.update(dict.fromkeys(margins, len(rows)))
        lack = {
            name: sum(share * totals[m] - counts[name][m] for m in margins)
            for name, share in shares.items()
        }
        most = max(lack.values())
        # Sums of shares are equal up to rounding only.
        chosen = rng.choice([name for name, value in lack.items() if value > most - 1e-9])
        counts[chosen].update(dict.fromkeys(margins, len(rows)))
        found[chosen][rows] = True
    return found
