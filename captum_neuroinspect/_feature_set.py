"""The one record that all stages share: features, logits and labels of a data set."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from captum_neuroinspect._files import write_atomically
from captum_neuroinspect._head import check_head, head_tensors
from captum_neuroinspect._modules import as_indices, check_indices

_TENSORS = ("features", "logits", "labels", "indices", "groups")


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """What the decision layer sees and says on a data set, with the labels.

    Attributes:
        features: ``(N, F)`` float32, the input of the decision layer.
        logits: ``(N, C)`` float32.
        labels: ``(N,)`` int64 in ``0..C-1``.
        groups: ``(N,)`` int64 group labels, or ``None``.
        class_names: one name a class, or ``None``.
        indices: ``(N,)`` positions in the data the set was collected from; kept by
            :meth:`subset`, :meth:`mistakes` and :meth:`split`, so that a row always
            leads back to its photo.

    Raises:
        TypeError: when labels are not whole numbers.
        ValueError: when shapes do not fit, values are not finite, a label is out of
            range, or a group is negative.

    Examples::

        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> few = FeatureSet(features, logits=features, labels=torch.tensor([0, 0]))
        >>> few.accuracy(), few.mistakes().indices.tolist()
        (0.5, [1])
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    groups: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    indices: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.logits.ndim != 2 or self.labels.ndim != 1:
            raise ValueError(
                f"features {tuple(self.features.shape)}, logits {tuple(self.logits.shape)}, labels "
                f"{tuple(self.labels.shape)}: expected (N, F), (N, C) and (N,)"
            )
        object.__setattr__(self, "labels", as_indices("labels", self.labels))
        if len(self.indices) == 0:
            object.__setattr__(self, "indices", torch.arange(len(self.labels)))
        _check_lengths(self)
        check_indices("label", self.labels, self.n_classes, f"{self.n_classes} classes")
        if self.groups is not None and (self.groups < 0).any():
            raise ValueError(f"group={int(self.groups.min())}, expected 0 or more")
        for name in ("features", "logits"):
            if not getattr(self, name).isfinite().all():
                raise ValueError(f"{name} have NaN or infinite values")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"FeatureSet({len(self)} samples, {self.features.shape[1]} features, "
            f"{self.n_classes} classes, accuracy {self.accuracy():.3f})"
        )

    @property
    def n_classes(self) -> int:
        return self.logits.shape[1]

    @property
    def predictions(self) -> Tensor:
        """``(N,)`` the class of the largest logit."""
        return self.logits.argmax(1)

    @property
    def is_correct(self) -> Tensor:
        """``(N,)`` whether the predicted class is the label."""
        return self.predictions == self.labels

    def class_name(self, index: int) -> str:
        return self.class_names[index] if self.class_names else f"class {index}"

    def subset(self, which: Tensor) -> FeatureSet:
        """Rows chosen by a boolean mask ``(N,)`` or by positions in this set."""
        return replace(
            self,
            features=self.features[which],
            logits=self.logits[which],
            labels=self.labels[which],
            groups=None if self.groups is None else self.groups[which],
            indices=self.indices[which],
        )

    def mistakes(self, target: int | None = None, predicted: int | None = None) -> FeatureSet:
        """The samples whose predicted class is not their label.

        Args:
            target: only those of this class.
            predicted: only those that were taken for this class.

        Raises:
            ValueError: when a class index is out of range.
        """
        wrong = ~self.is_correct
        if target is not None:
            wrong &= self.labels == self._checked("target", target)
        if predicted is not None:
            wrong &= self.predictions == self._checked("predicted", predicted)
        return self.subset(wrong)

    def correct(self, target: int | None = None) -> FeatureSet:
        """The samples that the head gets right, of one class if ``target`` is given."""
        right = self.is_correct
        if target is not None:
            right = right & (self.labels == self._checked("target", target))
        return self.subset(right)

    def accuracy(self) -> float:
        """Share of right predictions; NaN for an empty set."""
        return float(self.is_correct.float().mean())

    def class_accuracy(self) -> Tensor:
        """``(C,)`` share of right predictions in each class; NaN for an absent class."""
        return _mean_by(self.is_correct, self.labels, self.n_classes)

    def group_accuracy(self) -> Tensor:
        """``(G,)`` share of right predictions in each group; NaN for an absent group.

        Raises:
            ValueError: when the set has no group labels.
        """
        if self.groups is None:
            raise ValueError("this FeatureSet has no groups: collect it with (image, label, group)")
        return _mean_by(self.is_correct, self.groups, int(self.groups.max()) + 1)

    def confusion(self) -> Tensor:
        """``(C, C)`` counts; row: label, column: predicted class."""
        pairs = self.labels * self.n_classes + self.predictions
        return torch.bincount(pairs, minlength=self.n_classes**2).view(self.n_classes, -1)

    def with_head(self, head: nn.Linear) -> FeatureSet:
        """The same features judged by another decision layer.

        Raises:
            TypeError: when ``head`` is not linear.
            ValueError: when it takes another number of features.
        """
        weight, bias = head_tensors(check_head(head))
        if weight.shape[1] != self.features.shape[1]:
            raise ValueError(
                f"head takes {weight.shape[1]} features, this set has {self.features.shape[1]}"
            )
        return replace(self, logits=self.features @ weight.T + bias)

    def split(
        self, fraction: float = 0.5, *, seed: int = 0, together: Tensor | None = None
    ) -> tuple[FeatureSet, FeatureSet]:
        """Split in two at random, class by class.

        Args:
            fraction: share of the first part, between 0 and 1.
            seed: draws the split.
            together: ``(N,)`` unit of each sample (patient, photographer, negative);
                samples of one unit stay in one part, also when they are of several
                classes.

        Raises:
            ValueError: when ``fraction`` is not between 0 and 1, or ``together`` has
                another length than the set.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction={fraction}, expected a number between 0 and 1")
        units = torch.arange(len(self)) if together is None else together
        if len(units) != len(self):
            raise ValueError(f"together has {len(units)} entries, expected {len(self)}")
        generator = torch.Generator().manual_seed(seed)
        first, placed = torch.zeros(2, len(self), dtype=torch.bool)
        for label in self.labels.unique():
            of_class = self.labels == label
            # Units that came with an earlier class stay where they are, and count.
            n_first = len(units[of_class & first].unique())
            n_missing = round(fraction * len(units[of_class].unique())) - n_first
            free = units[of_class & ~placed].unique()
            free = free[torch.randperm(len(free), generator=generator)]
            first |= torch.isin(units, free[: max(n_missing, 0)])
            placed |= torch.isin(units, free)
        return self.subset(first), self.subset(~first)

    def save(self, path: str | Path) -> Path:
        """Write the set as a safetensors file."""
        # Copies, because safetensors refuses tensors that share memory (groups=labels).
        tensors = {
            n: t.clone().contiguous() for n in _TENSORS if (t := getattr(self, n)) is not None
        }
        names = {} if self.class_names is None else {"class_names": json.dumps(self.class_names)}
        return write_atomically(path, lambda p: save_file(tensors, p, metadata=names))

    @classmethod
    def load(cls, path: str | Path) -> FeatureSet:
        """Read what :meth:`save` wrote."""
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
        names = metadata.get("class_names")
        return cls(**tensors, class_names=None if names is None else tuple(json.loads(names)))

    def _checked(self, name: str, index: int) -> int:
        check_indices(name, torch.tensor([index]), self.n_classes, f"{self.n_classes} classes")
        return index


def _check_lengths(features: FeatureSet) -> None:
    lengths = {n: len(t) for n in _TENSORS if (t := getattr(features, n)) is not None}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"lengths differ: {lengths}, expected one row a sample in each")
    if features.class_names is not None and len(features.class_names) != features.n_classes:
        raise ValueError(
            f"{len(features.class_names)} class_names for {features.n_classes} classes"
        )


def _mean_by(values: Tensor, index: Tensor, n: int) -> Tensor:
    sums = torch.zeros(n).index_add_(0, index, values.float())
    return sums / torch.bincount(index, minlength=n)
