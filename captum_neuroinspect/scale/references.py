"""Natural levels of neurons over many photos: a map and an exact reduction."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from captum_neuroinspect.attr import Reference
from captum_neuroinspect.scale._reducing import (
    GROUP,
    commit,
    kept,
    kept_parts,
    n_groups,
    of_group,
    run_missing,
)
from captum_neuroinspect.scale.features import FeatureParts
from captum_neuroinspect.scale.options import ScaleOptions
from captum_neuroinspect.scale.reduction import ClassTotals, combined


def reference_at_scale(
    features: FeatureParts,
    out: str | Path,
    *,
    effect: float | None = None,
    options: ScaleOptions | None = None,
) -> Reference:
    """Measure the level and the spread of each neuron over the photos that the model gets right.

    Sums are exact: the reference has the same bits whatever the parts of the features, the number
    of workers and the order in which they end. It is ``Reference.of(features.together())``, which
    adds up in float32, to about a millionth.

    Args:
        features: of the photos; the correct ones count, class by class.
        out: a folder of the partial results, about 40 bytes for each class and neuron in each;
            a further call goes on from those that are there.
        effect: as in :class:`~captum_neuroinspect.Reference`.
        options: workers; its ``part_size`` and ``batch_size`` play no role.

    Returns:
        The reference.

    Raises:
        ImportError: when Ray or pyarrow is missing; says how to install it.
        ValueError: for fewer than two correct photos, an ``effect`` outside 0..1, features that
            are damaged, or an ``out`` that was begun with other features.
        OSError: when the folder cannot be written.
    """
    out, options = Path(out), options or ScaleOptions()
    Reference(torch.zeros(1, 1), torch.ones(1), effect)  # refuses an effect before the work
    work = partial(_ReferenceWork, str(features.folder.resolve()), str(out.resolve()))
    plan = {"features": features.identity, "group": GROUP}
    run_missing(out, plan, n_groups(features), work, options)
    return combined(kept(out, n_groups(features), ClassTotals)).reference(effect)


class _ReferenceWork:
    """Adds up the correct photos of a group of parts."""

    def __init__(self, features: str, out: str) -> None:
        self._features, self._out = FeatureParts.open(features), out

    def do(self, part: int) -> None:
        if kept_parts(self._out).record(part) is not None:
            return
        found = (ClassTotals.of(one.features) for one in of_group(self._features, part))
        commit(self._out, part, combined(found))
