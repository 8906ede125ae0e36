"""Whether confidence means what it says."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_neuroinspect._core.blocks import by_blocks
from captum_neuroinspect._core.feature_set import FeatureSet


def calibration_error(features: FeatureSet, n_bins: int = 15) -> float:
    r"""Expected calibration error (ECE): the gap between confidence and accuracy.

    .. math:: ECE = \sum_b (n_b / n) | accuracy_b - confidence_b |

    over bins of equal width (https://arxiv.org/abs/1706.04599). The confidence is the
    predicted class's probability; with multi-hot labels or a single output, that of
    each decision.

    Args:
        features: judged samples.
        n_bins: bins of confidence between 0 and 1.

    Returns:
        0 (calibrated) to 1; NaN for an empty set.

    Raises:
        ValueError: when ``n_bins`` is below 1.

    Examples::

        >>> logits = torch.tensor([[3.0, 1.0], [3.0, 1.0]]).log()  # sure to .75, right on half
        >>> data = FeatureSet(torch.zeros(2, 1), logits, torch.tensor([0, 1]))
        >>> round(calibration_error(data), 3)
        0.25
    """
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins}, expected at least 1")
    confidence = confidence_of(features.logits, features.is_multi_hot)
    return gap_of(features.is_correct, confidence, n_bins)


def gap_of(is_correct: Tensor, confidence: Tensor, n_bins: int = 15) -> float:
    """The same by each decision's confidence, in the shape of ``is_correct``."""
    if not len(is_correct):
        return float("nan")
    confidence, right = confidence.flatten(), is_correct.flatten()
    # Bins are closed above, as in the paper: 1.0 belongs to the last.
    bins = ((confidence * n_bins).ceil().long() - 1).clamp(0, n_bins - 1)
    gap = right.float() - confidence
    gaps = torch.zeros(n_bins, dtype=gap.dtype).index_add_(0, bins, gap)
    return float(gaps.abs().sum() / len(confidence))


def confidence_of(logits: Tensor, multi_hot: bool) -> Tensor:
    """``(N,)`` probability of the predicted class; ``(N, C)`` of each decision there is."""
    if multi_hot or logits.shape[1] == 1:
        return logits.abs().sigmoid()
    return by_blocks(lambda block: block.softmax(1).amax(1), logits)
