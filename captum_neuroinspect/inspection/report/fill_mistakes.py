"""Photos of mistakes, and the neurons behind them, as a report shows both."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from captum_neuroinspect._core.blocks import by_blocks
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.inspection.data.parts import PhotoSet
from captum_neuroinspect.inspection.report.report_data import Mistake, RankedNeuron


def mistake_photos(
    part: PhotoSet, wrong: FeatureSet, explained: FeatureSet | None = None, *, most: int
) -> Iterator[Mistake]:
    """The explained ones first, the most certain first; then those that were held out.

    Args:
        part: the photos.
        wrong: mistakes on a class.
        explained: those of them that are explained; ``None``: all.
        most: how many at most.
    """
    predictions = wrong.predictions
    # Of two classes alone: the probabilities of all would be as large as the logits.
    columns = torch.stack([predictions, wrong.labels], 1)
    shares = by_blocks(
        lambda logits, classes: logits.softmax(-1).gather(1, classes), wrong.logits, columns
    )
    certain = shares[:, 0]
    order = certain if explained is None else certain + torch.isin(wrong.indices, explained.indices)
    for row in order.argsort(descending=True, stable=True)[:most].tolist():
        index = int(wrong.indices[row])
        yield Mistake(
            picture=part.photos.image(index),
            file=part.photos.name(index),
            label=int(wrong.labels[row]),
            predicted=int(predictions[row]),
            probability=_share(certain[row]),
            label_probability=_share(shares[row, 1]),
            group=None if wrong.groups is None else wrong.group_name(int(wrong.groups[row])),
        )


def ranked_neurons(found: Explanation, with_card: set[int], most: int) -> Iterator[RankedNeuron]:
    """The first lines of a ranking, and those of neurons that have a card."""
    n_mistakes = found.ranking.n_mistakes
    for place, row in enumerate(found.rows()):
        if place < most or row["neuron"] in with_card:
            share = min(float(row["precision"]), 1.0)  # "both" adds two shares
            yield RankedNeuron(
                neuron=int(row["neuron"]),
                kind=str(row["kind"]),  # type: ignore[arg-type]
                rank=int(row["rank"]),
                score=float(row["magnitude"]),
                precision=share,
                n_mistakes=round(share * n_mistakes),
                importance=float(row["importance"]) if "importance" in row else None,
            )


def _share(value: Tensor) -> float:
    return min(max(float(value), 0.0), 1.0)
