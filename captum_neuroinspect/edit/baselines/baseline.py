"""What every baseline looks like, and what they all check and share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect._head import check_head
from captum_neuroinspect._modules import as_indices, check_indices


class Baseline(Protocol):
    """A way to mend a decision layer on collected features.

    Settings belong to the constructor, so that a benchmark calls all of them alike.
    No call changes its arguments; the result has the device, dtype and bias (or none)
    of the head it was given.
    """

    @property
    def name(self) -> str:
        """How tables call the method, with its settings."""
        ...

    def __call__(
        self,
        head: nn.Linear,
        train: FeatureSet,
        validation: FeatureSet,
        *,
        target: int,
        neurons: Sequence[int],
        mistakes: FeatureSet | None = None,
        seed: int = 0,
    ) -> nn.Linear:
        """Return a new decision layer.

        Args:
            head: the decision layer, F features to C classes.
            train: features with labels to train on.
            validation: features with labels that choose among epochs or settings.
            target: class that is to be mended.
            neurons: features to blame; methods that know no neurons ignore them.
            mistakes: further samples that the head gets wrong, such as photos met in
                use; methods that train add them to ``train``.
            seed: draws whatever is drawn.
        """
        ...


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


def check_arguments(head: nn.Linear, target: int, **sets: FeatureSet | None) -> None:
    """Refuse a head, a target or sets that do not fit each other.

    Raises:
        TypeError: when ``head`` is not linear.
        ValueError: when ``target`` is out of range, or a set is empty or does not fit.
    """
    check_head(head)
    check_indices("target", as_indices("target", target), head.out_features, "the head's classes")
    for name, data in sets.items():
        if data is None:
            continue
        if not len(data):
            raise ValueError(f"{name} is empty: expected at least one sample")
        if data.labels.ndim != 1:
            raise ValueError(
                f"{name} has labels of shape {tuple(data.labels.shape)}, expected (N,): "
                "baselines know one class a sample"
            )
        shape = (data.features.shape[1], data.n_classes)
        if shape != (head.in_features, head.out_features):
            raise ValueError(
                f"{name} has {shape[0]} features and {shape[1]} classes, the head takes "
                f"{head.in_features} and gives {head.out_features}"
            )


def checked_neurons(neurons: Sequence[int], n_features: int) -> Tensor:
    """Neurons as indices: at least one, all in range.

    Raises:
        ValueError: when that is not so.
    """
    chosen = as_indices("neurons", list(neurons)).unique()
    if not len(chosen):
        raise ValueError("neurons is empty: this method needs at least one")
    check_indices("neuron", chosen, n_features, f"the head takes {n_features} features")
    return chosen


def layer_like(head: nn.Linear, weight: Tensor, bias: Tensor) -> nn.Linear:
    """A new frozen layer with these values, and the device, dtype and bias of ``head``."""
    layer = nn.utils.skip_init(
        nn.Linear, head.in_features, head.out_features, bias=head.bias is not None
    ).to(head.weight.device, head.weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)
    return layer.requires_grad_(False)
