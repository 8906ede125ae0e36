"""The one record that all stages share: features, logits and labels of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.class_names import as_names
from captum_neuroinspect._core.decisions import (
    accuracy_by_class,
    checked_labels,
    decide,
    holds,
    is_right,
    is_wrong,
    mean_by,
)
from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect._core.head import check_head, head_tensors
from captum_neuroinspect._core.kept_file import read_kept, reading, write_kept
from captum_neuroinspect._core.kinds import check_kinds
from captum_neuroinspect._core.modules import check_indices
from captum_neuroinspect._core.same_samples import row_names
from captum_neuroinspect._core.shares import share_with_interval
from captum_neuroinspect._core.splitting import first_part
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.undisturbed import undisturbed

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_FINGERPRINTS = ("head_fingerprint", "backbone_fingerprint")
_N_SHOWN = 10  # classes in a notebook
_TENSORS = ("features", "logits", "labels", "indices", "groups")
_NAMES = ("class_names", "group_names")
_KEPT = "_predictions"  # beside the fields: no copy by `replace` has it


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """What the decision layer sees and says on a data set, with the labels.

    Usually a sample has one class. Two other kinds of labels go with heads whose
    outputs are probabilities of their own (a sigmoid each):

    * multi-hot ``(N, C)``: every (sample, class) pair is a decision, "yes" where the
      logit is positive. ``predictions`` and ``is_correct`` are ``(N, C)``;
      :meth:`accuracy` is the share of right decisions, :meth:`class_accuracy` the mean
      of the shares among samples with and without the class (balanced accuracy); a
      sample is a mistake when any of its decisions is wrong.
    * one output, ``logits`` ``(N, 1)``: it decides between the classes 0 and 1, and is
      positive for class 1. All else is as with two classes.

    A set lies on the CPU, as :func:`collect_features` makes it: tensors on another device
    are copied. Features and logits of another floating point type become float32, which edits
    and rankings compute in.

    Of single labels the predictions are worked out once and kept, as long as torch knows
    ``logits`` unchanged: a change by way of a shared numpy array is not noticed.

    Attributes:
        features: ``(N, F)`` float32, the input of the decision layer.
        logits: ``(N, C)`` float32.
        labels: ``(N,)`` int64 in ``0..C-1``, or ``(N, C)`` multi-hot.
        groups: ``(N,)`` int64 group labels, or ``None``.
        class_names: one name a class, or ``None``.
        group_names: one name a group, or ``None``.
        indices: ``(N,)`` positions in the data the set was collected from; kept by
            :meth:`subset`, :meth:`mistakes` and :meth:`split`, so that a row always
            leads back to its photo.
        head_fingerprint: name of the decision layer's values that gave the logits, or
            ``None`` when unknown; an edit of another head refuses the set.
        backbone_fingerprint: the same for the other weights of the model, also inside a wrapper
            that normalises its pixels.

    Raises:
        TypeError: when class labels are not whole numbers, or features or logits are no floating
            point numbers.
        ValueError: when shapes do not fit, values are not finite, a label is out of
            range, or a group is negative or has no name among ``group_names``.

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
    head_fingerprint: str | None = None
    backbone_fingerprint: str | None = None
    group_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_shapes(self)
        for name in _TENSORS:
            object.__setattr__(self, name, _usable(getattr(self, name)))
        for name in ("features", "logits"):
            object.__setattr__(self, name, _as_float32(name, getattr(self, name)))
        object.__setattr__(self, "labels", checked_labels(self.labels))
        for name in _NAMES:
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, as_names(given, name))
        if len(self.indices) == 0:
            object.__setattr__(self, "indices", torch.arange(len(self.labels)))
        _check_lengths(self)
        if not self.is_multi_hot:
            check_indices("label", self.labels, self.n_classes, f"{self.n_classes} classes")
        _check_groups(self)
        for name in ("features", "logits"):
            if not all_finite(getattr(self, name)):
                raise ValueError(f"{name} have NaN or infinite values")

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != _KEPT}

    def __repr__(self) -> str:
        return (
            f"FeatureSet({len(self)} samples, {self.features.shape[1]} features, "
            f"{self.n_classes} classes, accuracy {self.accuracy():.3f})"
        )

    def _repr_html_(self) -> str:
        accuracy = self.class_accuracy()
        present = (~accuracy.isnan()).nonzero().flatten()
        worst = present[accuracy[present].argsort(stable=True)][:_N_SHOWN].tolist()
        cells = ((self.class_name(i), self._share_of(i, float(accuracy[i]))) for i in worst)
        return html_table(("worst classes", "accuracy"), cells, repr(self))

    def _share_of(self, index: int, accuracy: float) -> str:
        if self.is_multi_hot:  # balanced accuracy, which is no share of samples
            return f"{100 * accuracy:.1f} %"
        of_class = holds(self.labels, index)
        return share_with_interval(int(self.is_correct[of_class].sum()), int(of_class.sum()))

    @property
    def n_classes(self) -> int:
        """How many classes there are: C, or two for a single output."""
        return max(self.logits.shape[1], 2 if self.labels.ndim == 1 else 1)

    @property
    def is_multi_hot(self) -> bool:
        """Whether a sample may be of many classes: labels ``(N, C)``."""
        return self.labels.ndim == 2

    @property
    def predictions(self) -> Tensor:
        """``(N,)`` the class of the largest logit; ``(N, C)`` 0 or 1 for multi-hot labels."""
        if self.is_multi_hot:
            return decide(self.logits, multi_hot=True)
        # A change in place, which a frozen record does not prevent, counts the version up.
        version, kept = vars(self).get(_KEPT, (None, None))
        if kept is None or version != self.logits._version:
            kept = decide(self.logits, multi_hot=False)
            self._keep_predictions(kept)
        return kept.clone()

    @property
    def is_correct(self) -> Tensor:
        """``(N,)`` whether the predicted class is the label; multi-hot: each decision."""
        return self.predictions == self.labels

    def of_class(self, target: int) -> Tensor:
        """``(N,)`` whether a sample is of this class.

        Raises:
            ValueError: when the class index is out of range.
        """
        self._check_class("target", target)
        return holds(self.labels, target)

    def class_name(self, index: int) -> str:
        return self.class_names[index] if self.class_names else f"class {index}"

    def group_name(self, index: int) -> str:
        return self.group_names[index] if self.group_names else f"group {index}"

    def subset(self, which: Tensor) -> FeatureSet:
        """Rows chosen by a boolean mask ``(N,)`` or by positions in this set."""
        part = replace(
            self,
            features=self.features[which],
            logits=self.logits[which],
            labels=self.labels[which],
            groups=None if self.groups is None else self.groups[which],
            indices=self.indices[which],
        )
        if _KEPT in vars(self):
            part._keep_predictions(self.predictions[which])
        return part

    def without(self, *others: FeatureSet) -> FeatureSet:
        """The samples that are in none of other sets, by their features.

        Examples::

            >>> z = torch.eye(3)
            >>> data = FeatureSet(z, z, torch.arange(3))
            >>> data.without(data.subset(torch.tensor([1]))).indices.tolist()
            [0, 2]
        """
        known = {name for other in others for name in row_names(other.features)}
        keep = [name not in known for name in row_names(self.features)]
        return self.subset(torch.tensor(keep, dtype=torch.bool))

    def mistakes(self, target: int | None = None, predicted: int | None = None) -> FeatureSet:
        """The samples whose predicted class is not their label.

        With multi-hot labels: those with any wrong decision.

        Args:
            target: only those of this class (multi-hot: in which it was missed).
            predicted: only those that were taken for this class (multi-hot: wrongly).

        Raises:
            ValueError: when a class index is out of range.
        """
        return self.subset(self.is_mistake(target, predicted))

    def is_mistake(self, target: int | None = None, predicted: int | None = None) -> Tensor:
        """``(N,)`` which samples :meth:`mistakes` gives, to count them without a copy.

        Raises:
            ValueError: when a class index is out of range.

        Examples::

            >>> z = torch.eye(2)
            >>> FeatureSet(z, z, torch.tensor([1, 1])).is_mistake(predicted=0).tolist()
            [True, False]
        """
        for name, index in (("target", target), ("predicted", predicted)):
            if index is not None:
                self._check_class(name, index)
        return is_wrong(self.labels, self.predictions, target, predicted)

    def correct(self, target: int | None = None) -> FeatureSet:
        """The samples that the head gets right, of one class if ``target`` is given.

        With multi-hot labels: all decisions right, or those in which ``target`` was found.
        """
        if target is not None:
            self._check_class("target", target)
        return self.subset(is_right(self.labels, self.predictions, target))

    def accuracy(self) -> float:
        """Share of right predictions; NaN for an empty set."""
        return float(self.is_correct.float().mean())

    def class_accuracy(self) -> Tensor:
        """``(C,)`` share of right predictions in each class; NaN for an absent class.

        With multi-hot labels the balanced accuracy of each class: NaN also for a class
        that every sample has.
        """
        return accuracy_by_class(self.is_correct, self.labels, self.n_classes)

    def group_accuracy(self) -> Tensor:
        """``(G,)`` share of right predictions in each group; NaN for an absent group.

        Raises:
            ValueError: when the set has no group labels.
        """
        if self.groups is None:
            raise ValueError("this FeatureSet has no groups: collect it with (image, label, group)")
        return mean_by(self.is_correct, self.groups, int(self.groups.max()) + 1)

    def confusion(self) -> csr_array:
        """``(C, C)`` counts; row: label, column: predicted class.

        A sparse array of scipy, as nearly all pairs of many classes never occur:
        ``.toarray()`` gives all of them, ``.tocoo()`` those that do.

        Raises:
            ValueError: for multi-hot labels, where no class is taken for another.

        Examples::

            >>> z = torch.eye(2)
            >>> FeatureSet(z, z, torch.tensor([1, 1])).confusion().toarray().tolist()
            [[0, 0], [1, 1]]
        """
        if self.is_multi_hot:
            raise ValueError("multi-hot labels have no confusion of one class with another")
        from scipy.sparse import coo_array  # an import that takes a while

        pairs = self.labels.cpu().numpy(), self.predictions.cpu().numpy()
        ones = torch.ones(len(self), dtype=torch.int64).numpy()
        return coo_array((ones, pairs), shape=(self.n_classes, self.n_classes)).tocsr()

    @undisturbed()
    def with_head(self, head: nn.Linear) -> FeatureSet:
        """The same features judged by another decision layer.

        Raises:
            TypeError: when ``head`` is not linear.
            ValueError: when it takes another number of features.
        """
        with exclusive(check_head(head)):  # logits and name are of the same weights
            (weight, bias), name = head_tensors(head), head_fingerprint(head)
        if weight.shape[1] != self.features.shape[1]:
            raise ValueError(
                f"head takes {weight.shape[1]} features, this set has {self.features.shape[1]}"
            )
        logits = self.features @ weight.T
        logits += bias  # in place: of many classes there is no room for another copy
        return replace(self, logits=logits, head_fingerprint=name)

    def split(
        self, fraction: float = 0.5, *, seed: int = 0, together: Tensor | None = None
    ) -> tuple[FeatureSet, FeatureSet]:
        """Split in two at random, class by class (multi-hot labels: all together).

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
        strata = torch.zeros(len(self)) if self.is_multi_hot else self.labels
        first = first_part(strata, units, fraction, seed)
        return self.subset(first), self.subset(~first)

    def save(self, path: str | Path) -> Path:
        """Write the set as a safetensors file; the same set gives the same bytes."""
        tensors = {n: t for n in _TENSORS if (t := getattr(self, n)) is not None}
        record = {n: getattr(self, n) for n in (*_FINGERPRINTS, *_NAMES)}
        return write_kept(path, "FeatureSet", tensors, record)

    @classmethod
    def load(cls, path: str | Path) -> FeatureSet:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: when there is no such file, or it may not be read.
            ValueError: when it is something else or damaged; names it.
        """
        tensors, record = read_kept(path, "FeatureSet")
        with reading(path, "FeatureSet"):
            for name in _NAMES:
                names = record.get(name)  # 0.1 had no names of groups
                record[name] = tuple(names) if isinstance(names, list) else names
            fields: dict[str, Any] = {**tensors, **record}
            check_kinds(fields, cls)
            check_dtypes(tensors)
            return cls(**fields)

    def _keep_predictions(self, predictions: Tensor) -> None:
        vars(self)[_KEPT] = (self.logits._version, predictions)

    def _check_class(self, name: str, index: int) -> None:
        check_indices(name, torch.tensor([index]), self.n_classes, f"{self.n_classes} classes")


def _usable(tensor: Tensor | None) -> Tensor | None:
    """A tensor on the CPU that gradients can pass: of ``inference_mode`` a copy."""
    if not isinstance(tensor, Tensor):
        return tensor
    tensor = tensor.cpu()
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()


def _as_float32(name: str, values: Tensor) -> Tensor:
    if not values.is_floating_point():
        raise TypeError(f"{name} have dtype {values.dtype}, expected floating point numbers")
    return values.to(torch.float32)


def _check_shapes(features: FeatureSet) -> None:
    shapes = [tuple(getattr(features, name).shape) for name in ("features", "logits", "labels")]
    n_dims = [len(shape) for shape in shapes]
    multi_hot = n_dims == [2, 2, 2] and shapes[1][1] == shapes[2][1]
    if n_dims != [2, 2, 1] and not multi_hot:
        raise ValueError(
            f"features {shapes[0]}, logits {shapes[1]}, labels {shapes[2]}: "
            "expected (N, F), (N, C) and (N,) or multi-hot (N, C)"
        )
    if not shapes[1][1]:
        raise ValueError(f"logits {shapes[1]} have no class, expected at least one column")


def _check_groups(features: FeatureSet) -> None:
    groups, names = features.groups, features.group_names
    if groups is None:
        if names is not None:
            raise ValueError(f"{len(names)} group_names, but groups=None")
        return
    if (groups < 0).any():
        raise ValueError(f"group={int(groups.min())}, expected 0 or more")
    if names is not None:
        check_indices("group", groups, len(names), f"{len(names)} group_names")


def check_dtypes(tensors: dict[str, Tensor]) -> None:
    """What positions and groups from a file must be; labels are looked at anyway."""
    for name in ("indices", "groups"):
        if name in tensors and (tensors[name].dtype, tensors[name].ndim) != (torch.int64, 1):
            raise ValueError(f"{name} are {tensors[name].dtype}, expected (N,) int64")
    for name in ("features", "logits"):
        if not tensors[name].is_floating_point():
            raise ValueError(f"{name} are {tensors[name].dtype}, expected floating point")


def _check_lengths(features: FeatureSet) -> None:
    lengths = {n: len(t) for n in _TENSORS if (t := getattr(features, n)) is not None}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"lengths differ: {lengths}, expected one row a sample in each")
    if features.class_names is not None and len(features.class_names) != features.n_classes:
        raise ValueError(
            f"{len(features.class_names)} class_names for {features.n_classes} classes"
        )
