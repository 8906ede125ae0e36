"""Predictions, blame, slices and words as rows of tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.analysis.explanation import Explanation

PREDICTIONS = (
    *("photo", "part", "index", "label", "predicted", "is_right"),
    *("p_label", "p_predicted", "group"),
)
BLAME = ("neuron", "kind", "rank", "precision", "magnitude", "importance", "slice")
SLICES = ("photo", "index", "slice")
WORDS = ("neuron", "place", "phrase", "score", "is_certain")


class HasWords(Protocol):
    """What words are read from; the unit's number is ``unit``, or ``neuron`` in older records."""

    @property
    def phrases(self) -> tuple[str, ...]: ...
    @property
    def scores(self) -> tuple[float, ...]: ...


def prediction_rows(
    features: FeatureSet, photos: Sequence[str] | None = None, *, part: str = ""
) -> list[dict[str, Any]]:
    """One row a sample: what it is, what the head says, and how surely.

    Args:
        features: N samples.
        photos: ``(N,)`` names of their photos, relative to the data; ``None``: their numbers. Of an
            absolute path only the file's name is kept.
        part: what the samples are, such as ``"test"``.

    Raises:
        TypeError: when features are no FeatureSet.
        ValueError: for multi-hot labels, or not as many names as samples.

    Examples::

        >>> z = torch.tensor([[2.0, 0.0]])
        >>> few = FeatureSet(z, z, torch.tensor([0]), class_names=("cat", "dog"))
        >>> row = prediction_rows(few, ["a/1.jpg"])[0]
        >>> row["photo"], row["predicted"], round(row["p_label"], 2)
        ('a/1.jpg', 'cat', 0.88)
    """
    if not isinstance(features, FeatureSet):
        raise TypeError(f"features is {type(features).__name__}, expected a FeatureSet")
    if features.is_multi_hot:
        raise ValueError("features has multi-hot labels, expected one class a sample")
    names = photo_names(features, photos)
    sure = probabilities(features)
    rows = torch.arange(len(features))
    groups = [None] * len(features) if features.groups is None else features.groups.tolist()
    of_groups = features.group_names
    values = zip(
        names,
        features.indices.tolist(),
        features.labels.tolist(),
        features.predictions.tolist(),
        sure[rows, features.labels].tolist(),
        sure[rows, features.predictions].tolist(),
        groups,
        strict=True,
    )
    return [
        {
            "photo": photo,
            "part": part,
            "index": index,
            "label": features.class_name(label),
            "predicted": features.class_name(predicted),
            "is_right": label == predicted,
            "p_label": p_label,
            "p_predicted": p_predicted,
            "group": group if group is None or of_groups is None else of_groups[group],
        }
        for photo, index, label, predicted, p_label, p_predicted, group in values
    ]


def probabilities(features: FeatureSet) -> Tensor:
    """``(N, C)`` by the softmax, or of a single output's sigmoid ``(N, 2)``."""
    if features.logits.shape[1] == 1:
        yes = features.logits.sigmoid()
        return torch.cat([1 - yes, yes], 1)
    return features.logits.softmax(1)


def blame_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """One row a neuron behind the mistakes and slice, the largest magnitude first.

    Args:
        explanation: of :func:`explain_mistakes`. Of slices ``slice`` counts from 1; else it is 0.

    Raises:
        TypeError: when it is no Explanation.
    """
    _check_explanation(explanation)
    parts = explanation.of_slices()
    found = []
    for number, one in enumerate(parts, start=1):
        for row in one.rows():
            known = {name: row.get(name) for name in BLAME}
            found.append(known | {"slice": number if len(parts) > 1 else 0})
    return found


def slice_rows(
    explanation: Explanation, photos: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """One row a mistake: the slice that it is in, from 1; 0 where none were looked for.

    Args:
        explanation: of :func:`explain_mistakes`.
        photos: names of the mistakes' photos, as for :func:`prediction_rows`.

    Raises:
        TypeError: when it is no Explanation.
        ValueError: when there are not as many names as mistakes.
    """
    _check_explanation(explanation)
    mistakes, slices = explanation.mistakes, explanation.slices
    names = photo_names(mistakes, photos)
    numbers = [0] * len(mistakes) if slices is None else (slices.labels + 1).tolist()
    return [
        {"photo": photo, "index": index, "slice": number}
        for photo, index, number in zip(names, mistakes.indices.tolist(), numbers, strict=True)
    ]


def word_rows(descriptions: Iterable[HasWords]) -> list[dict[str, Any]]:
    """One row a phrase of a neuron, the best first.

    Args:
        descriptions: with ``unit``, ``phrases``, ``scores``, and perhaps ``is_certain``, which is
            of the first phrase.

    Examples::

        >>> from captum_neuroinspect.describe import UnitDescription
        >>> word_rows([UnitDescription(3, ("grass",), (0.5,), is_certain=True)])
        [{'neuron': 3, 'place': 1, 'phrase': 'grass', 'score': 0.5, 'is_certain': True}]
    """
    return [
        {
            "neuron": int(one.unit if hasattr(one, "unit") else one.neuron),  # type: ignore[attr-defined]
            "place": place,
            "phrase": phrase,
            "score": float(score),
            "is_certain": bool(getattr(one, "is_certain", False)) and place == 1,
        }
        for one in descriptions
        for place, (phrase, score) in enumerate(zip(one.phrases, one.scores, strict=True), start=1)
    ]


def photo_names(features: FeatureSet, photos: Sequence[str] | None) -> list[str]:
    """Names that say nothing of the machine: relative, with forward slashes.

    Raises:
        ValueError: when there are not as many names as samples.
    """
    if photos is None:
        return [str(i) for i in features.indices.tolist()]
    if len(photos) != len(features):
        raise ValueError(f"{len(photos)} names of photos for {len(features)} samples")
    return [_relative(str(name)) for name in photos]


def _relative(name: str) -> str:
    # What leads out of the data's folder, or to a home, says where on a machine that is.
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "://" in name:
        return PurePosixPath(name).name
    if PureWindowsPath(name).is_absolute():
        return PureWindowsPath(name).name
    return PurePath(name).as_posix()


def _check_explanation(explanation: object) -> None:
    if not isinstance(explanation, Explanation):
        raise TypeError(f"explanation is {type(explanation).__name__}, expected an Explanation")
