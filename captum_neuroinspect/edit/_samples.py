"""Sets of samples put together."""

from __future__ import annotations

import torch

from captum_neuroinspect._core.feature_set import FeatureSet


def with_mistakes(train: FeatureSet, mistakes: FeatureSet | None) -> FeatureSet:
    """The training samples followed by the mistakes, as one set.

    Args:
        train: N samples.
        mistakes: M samples of the same features and classes, or ``None``.

    Returns:
        N + M samples with new ``indices``; groups are kept if both sets have them.
        ``train`` itself without mistakes.

    Raises:
        ValueError: when the numbers of features or classes differ.

    Examples::

        >>> import torch
        >>> z = torch.eye(2)
        >>> few = FeatureSet(z, z, torch.tensor([0, 0]))
        >>> with_mistakes(few, few.mistakes()).labels.tolist()
        [0, 0, 0]
    """
    if mistakes is None:
        return train
    if mistakes.features.shape[1] != train.features.shape[1] or (
        mistakes.n_classes != train.n_classes
    ):
        raise ValueError(
            f"mistakes have {mistakes.features.shape[1]} features and {mistakes.n_classes} "
            f"classes, train has {train.features.shape[1]} and {train.n_classes}"
        )
    groups = None
    if train.groups is not None and mistakes.groups is not None:
        groups = torch.cat([train.groups, mistakes.groups])
    return FeatureSet(
        torch.cat([train.features, mistakes.features]),
        torch.cat([train.logits, mistakes.logits]),
        torch.cat([train.labels, mistakes.labels]),
        groups=groups,
        class_names=train.class_names,
    )
