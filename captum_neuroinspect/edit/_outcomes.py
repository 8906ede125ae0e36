"""What heads decide of many samples among many classes, without all logits at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.blocks import by_blocks
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect._core.head import head_values

# Up to so many classes a head is judged and fitted as a whole.
LARGEST_WHOLE = 1000
_BLOCK_NUMBERS = 2**22  # logits at a time: 16 MB, and a few times that in between


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a head says of N samples.

    Attributes:
        is_correct: ``(N,)``, or ``(N, C)`` for multi-hot labels: whether it is right.
        confidence: in the same shape, the probability of what it decides.
    """

    is_correct: Tensor
    confidence: Tensor


def is_large(data: FeatureSet) -> bool:
    """Whether there are more classes than are worked on as a whole."""
    return not data.is_multi_hot and data.n_classes > LARGEST_WHOLE


def with_logits_of(data: FeatureSet, head: nn.Linear) -> FeatureSet:
    """``data.with_head(head)``; a set that has this large head's logits is returned as it is.

    Of logits of unknown origin it is tried, block by block: two copies of them may not fit.
    """
    if not is_large(data):
        return data.with_head(head)
    name = head_fingerprint(head)
    if data.head_fingerprint is None and _are_of(data, head):
        return replace(data, head_fingerprint=name)
    return data if data.head_fingerprint == name else data.with_head(head)


def _are_of(data: FeatureSet, head: nn.Linear) -> bool:
    pairs = zip(_blocks(data, head, None), data.logits.split(block_size(data)), strict=True)
    return all(torch.allclose(mine, theirs.float(), 1e-3, 1e-3) for mine, theirs in pairs)


def outcome(data: FeatureSet, head: nn.Linear, original: nn.Linear | None = None) -> Outcome:
    """Whether a head is right about samples, and how sure it is.

    Of a large head (more than 1,000 classes) the logits are made block by block. Where the set
    has those of ``original``, only the classes whose rows differ are computed.

    Args:
        data: features with labels.
        head: for these features.
        original: a head that ``head`` was made from, or ``None``.

    Examples::

        >>> z = torch.eye(2)
        >>> data = FeatureSet(z, z, torch.tensor([0, 1]))
        >>> outcome(data, nn.Linear(2, 2)).is_correct.shape
        torch.Size([2])
    """
    if not is_large(data):
        judged = data.with_head(head)
        return Outcome(judged.is_correct, confidence_of(judged.logits, judged.is_multi_hot))
    given, confidence = [], []
    for logits in _blocks(data, head, original):
        given.append(logits.argmax(1))
        confidence.append(confidence_of(logits, multi_hot=False))
    if not given:
        return Outcome(torch.zeros(0, dtype=torch.bool), torch.zeros(0))
    return Outcome(torch.cat(given) == data.labels, torch.cat(confidence))


def is_right(data: FeatureSet, head: nn.Linear, original: nn.Linear | None = None) -> Tensor:
    """``(N,)`` what :func:`outcome` says of the first of the two, for less."""
    if not is_large(data):
        return data.with_head(head).is_correct
    if data.head_fingerprint == head_fingerprint(head):
        return data.is_correct
    given = [logits.argmax(1) for logits in _blocks(data, head, original)]
    return torch.cat([*given, torch.zeros(0, dtype=torch.int64)]) == data.labels


def logits_of(data: FeatureSet, head: nn.Linear, original: nn.Linear) -> Tensor:
    """``(N, C)`` logits of a head; of a large one only the rows that differ are computed."""
    if not is_large(data):
        return data.with_head(head).logits
    logits, start = torch.empty(len(data), head.out_features), 0
    for block in _blocks(data, head, original):
        logits[start : start + len(block)] = block
        start += len(block)
    return logits


def block_size(data: FeatureSet) -> int:
    """How many samples have few enough logits to be held several times."""
    return max(1, _BLOCK_NUMBERS // data.n_classes)


def _blocks(data: FeatureSet, head: nn.Linear, original: nn.Linear | None) -> Iterator[Tensor]:
    weight, bias = head_values(head)
    if weight.shape[1] != data.features.shape[1]:
        raise ValueError(
            f"head takes {weight.shape[1]} features, this set has {data.features.shape[1]}"
        )
    changed = _changed_rows(data, head, original)
    for rows in torch.arange(len(data)).split(block_size(data)):
        if changed is None:
            yield data.features[rows] @ weight.T + bias
            continue
        logits = data.logits[rows].float()
        if len(changed):
            new = data.features[rows] @ weight[changed].T + bias[changed]
            logits.index_copy_(1, changed, new)
        yield logits


def _changed_rows(data: FeatureSet, head: nn.Linear, original: nn.Linear | None) -> Tensor | None:
    """Classes whose logits are not those that the set has; ``None``: the set has others."""
    if data.head_fingerprint is None:
        return None
    if data.head_fingerprint == head_fingerprint(head):
        return torch.empty(0, dtype=torch.int64)
    if original is None or data.head_fingerprint != head_fingerprint(original):
        return None
    pairs = zip(head_values(head), head_values(original), strict=True)
    (weight, old_weight), (bias, old_bias) = pairs
    return ((weight != old_weight).any(1) | (bias != old_bias)).nonzero()[:, 0]


def confidence_of(logits: Tensor, multi_hot: bool) -> Tensor:
    """``(N,)`` probability of the predicted class; ``(N, C)`` of each decision there is."""
    if multi_hot or logits.shape[1] == 1:
        return logits.abs().sigmoid()
    return by_blocks(lambda block: block.softmax(1).amax(1), logits)
