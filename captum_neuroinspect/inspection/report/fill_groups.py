"""How the groups of the photos fare, such as a background: at first, and after an edit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.inspection.report.report_data import Change, GroupResult


def group_results(features: FeatureSet, target: int) -> Iterator[GroupResult]:
    """All photos of each group that has some, and those of the inspected class in it."""
    if features.groups is None:
        return
    of_class = features.of_class(target)
    every = torch.ones_like(of_class)
    right = features.is_correct
    counts = [_counted(features.groups, row) for row in (every, right, of_class, right & of_class)]
    for group, (n, *others) in enumerate(torch.stack(counts, 1).tolist()):
        if n:
            yield GroupResult(features.group_name(group), n, *others)


def about_groups(groups: Sequence[GroupResult]) -> str:
    """The groups in which the inspected class is recognised least and most often, in words."""
    known = [group for group in groups if group.n_of_class]
    if len(known) < 2:
        return ""
    known.sort(key=lambda one: one.n_correct_of_class / one.n_of_class)
    in_low, in_high = (
        f"{one.n_correct_of_class} of {one.n_of_class} in \u201c{one.name}\u201d"
        for one in (known[0], known[-1])
    )
    return f" By group: {in_low}, {in_high}."


def group_changes(
    before: FeatureSet, after: FeatureSet, names: FeatureSet, targets: Sequence[int] | None = None
) -> Iterator[Change]:
    """The accuracy of each group that has photos, with the original and the edited head.

    Args:
        before: what the original head says of the photos that judge an edit.
        after: what the edited one says of them.
        names: has the groups' names.
        targets: only photos of these classes; ``None``: all.
    """
    if before.groups is None:
        return
    chosen = torch.ones(len(before), dtype=torch.bool)
    if targets is not None:
        chosen = torch.isin(before.labels, torch.tensor(list(targets)))
    rows = (chosen, chosen & before.is_correct, chosen & after.is_correct)
    counts = [_counted(before.groups, row) for row in rows]
    for group, (n, was, now) in enumerate(torch.stack(counts, 1).tolist()):
        if n:
            yield Change(names.group_name(group), was / n, now / n, n)


def _counted(groups: Tensor, rows: Tensor) -> Tensor:
    """``(G,)`` how many of the samples in a mask ``(N,)`` each group has."""
    return groups[rows].bincount(minlength=int(groups.max()) + 1)
