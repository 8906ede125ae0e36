"""What every baseline looks like, and what they all check and share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect._core.same_model import check_same_backbone
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.edit._arguments import check_fits
from captum_neuroinspect.edit.head_diff import empty_like
from captum_neuroinspect.edit.probability_ratio import checked_neurons


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
            target: class that is to be edited.
            neurons: features behind the mistakes; methods that know no neurons ignore them.
            mistakes: further samples that the head gets wrong, such as deployment
                photos; methods that train add them to ``train``.
            seed: draws whatever is drawn.
        """
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """What a baseline is called with.

    Attributes:
        head: the decision layer, F features to C classes.
        train: N samples.
        validation: chooses among epochs or settings.
        target: class that is to be edited.
        neurons: features behind the mistakes, as they were given.
        mistakes: further samples, or ``None``.
        seed: draws whatever is drawn.
    """

    head: nn.Linear
    train: FeatureSet
    validation: FeatureSet
    target: int
    neurons: Sequence[int]
    mistakes: FeatureSet | None
    seed: int

    @cached_property
    def data(self) -> FeatureSet:
        """The training samples and the mistakes."""
        return with_mistakes(self.train, self.mistakes)

    @cached_property
    def chosen(self) -> Tensor:
        """``(K,)`` the neurons, for methods that need some.

        Raises:
            ValueError: when there are none, one is out of range or given twice.
        """
        return checked_neurons(list(self.neurons), self.head.in_features).sort().values


class CheckedBaseline(ABC):
    """A :class:`Baseline` that is called with arguments that fit each other, or not at all.

    Subclasses say how they mend, in ``_refitted``.
    """

    @undisturbed()
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
        """Return a new decision layer; see :class:`Baseline` for the arguments.

        Raises:
            TypeError: when ``head`` is not linear.
            ValueError: when ``target`` or a neuron that the method needs is out of range, or
                a set is empty or does not fit.
        """
        task = Task(head, train, validation, target, neurons, mistakes, seed)
        check_head(head)
        _check_target(target, head)
        _check_sets(head, self._sets(task))
        return self._refitted(task)

    @abstractmethod
    def _refitted(self, task: Task) -> nn.Linear:
        """The new layer; the arguments are checked."""

    def _sets(self, task: Task) -> dict[str, FeatureSet | None]:
        """All sets that the method looks at, by the name that errors give them."""
        return {"train": task.train, "validation": task.validation, "mistakes": task.mistakes}


def _check_target(target: int, head: nn.Linear) -> None:
    check_indices("target", as_indices("target", target), head.out_features, "the head's classes")
    if head.out_features == 1:
        raise ValueError(
            "head has a single output, expected two or more: baselines know one class a sample"
        )


def _check_sets(head: nn.Linear, sets: dict[str, FeatureSet | None]) -> None:
    check_fits(head, **sets)
    check_same_backbone(**sets)
    for name, data in sets.items():
        if data is not None and data.labels.ndim != 1:
            raise ValueError(
                f"{name} has labels of shape {tuple(data.labels.shape)}, expected (N,): "
                "baselines know one class a sample"
            )


def layer_like(head: nn.Linear, weight: Tensor, bias: Tensor) -> nn.Linear:
    """A new frozen layer with these values, and the device, dtype and bias of ``head``."""
    layer = empty_like(head)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)
    return layer.requires_grad_(False)
