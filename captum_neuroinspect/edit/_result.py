"""What an edit is: two heads, their results, ways to use the new one, and its file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.feature_set import FeatureSet, check_dtypes
from captum_neuroinspect._core.kept_file import read_kept, reading, write_kept
from captum_neuroinspect._core.kinds import as_plain, check_kinds, from_plain, hints_of
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect._core.ratios import Link
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.edit._arguments import is_in
from captum_neuroinspect.edit._summary import as_html, as_text, edit_figure
from captum_neuroinspect.edit._writing import find_layer, used_once, write_head
from captum_neuroinspect.edit.controls import Control
from captum_neuroinspect.edit.evaluation import Evaluation, evaluate, shares_of_groups
from captum_neuroinspect.edit.head_diff import HeadDiff, copy_of, same_values
from captum_neuroinspect.edit.judged import Judged, Paired, judged_by
from captum_neuroinspect.edit.method_records import (
    ComparisonRecord,
    ConstraintRecord,
    MendRecord,
    RemovalRecord,
)
from captum_neuroinspect.edit.verdict import MULTI_HOT, UNJUDGED, Verdict, verdict_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Remark = str | float | int | bool | None


@dataclass(frozen=True, eq=False)
class HeadEdit:
    """An edited decision layer, with the original and what the edit changed.

    Attributes:
        head: the edited layer.
        original: a copy of the layer before.
        targets: for each class that was edited the neurons whose influence was
            constrained. :attr:`target` and :attr:`neurons` are those of a single one.
        before: the original's results on the validation set.
        after: the edited head's.
        method: how it was made: what belongs to :func:`edit_head`, :func:`mend`,
            :func:`remove_cue` or :func:`compare_heads` alone.
        link: from logits to probabilities.
        class_names: one name a class, or ``None``.
        group_shares: share of each group of the training set, or ``None``.
        verdict: whether to keep the edit; it cannot tell until :meth:`judge` was called.
        is_kept: whether the edited head is to be used. A session puts the original back,
            ``False``, unless the verdict is "keep" or its user insists.
        seen: names of the samples that the edit was fitted to or chosen by, or that located its
            cue, by which :meth:`judge` finds them again; ``None`` where they are not known.
        judged: samples that the edit was neither fitted to nor chosen by, before and after,
            as :meth:`judge`, :func:`fit_and_judge` and :func:`cross_fit` give them; else ``None``.
        remarks: whatever those who keep the edit write beside it.
    """

    head: nn.Linear
    original: nn.Linear
    targets: dict[int, tuple[int, ...]]
    before: Evaluation
    after: Evaluation
    method: ConstraintRecord | MendRecord | RemovalRecord | ComparisonRecord = field(
        default_factory=ComparisonRecord
    )
    link: Link = "softmax"
    class_names: tuple[str, ...] | None = None
    group_shares: tuple[float, ...] | None = None
    verdict: Verdict = UNJUDGED
    is_kept: bool = True
    seen: Tensor | None = None
    judged: Judged | None = None
    remarks: dict[str, Remark] = field(default_factory=dict)

    @property
    def target(self) -> int:
        """The class that was edited.

        Raises:
            ValueError: when there are several.
        """
        if len(self.targets) != 1:
            raise ValueError(f"{len(self.targets)} classes edited: see `.targets`")
        return next(iter(self.targets))

    @property
    def neurons(self) -> tuple[int, ...]:
        """The constrained neurons of the single target.

        Raises:
            ValueError: when there are several targets.
        """
        return self.targets[self.target]

    def class_name(self, index: int) -> str:
        return self.class_names[index] if self.class_names else f"class {index}"

    @undisturbed()
    def evaluate(self, features: FeatureSet) -> tuple[Evaluation, Evaluation]:
        """Results of the original and of the edited head on other data."""
        before, after = (
            evaluate(head, features, self.targets, self.link, self.group_shares, self.original)
            for head in (self.original, self.head)
        )
        return before, after

    @undisturbed()
    def judge(self, features: FeatureSet, *, max_cost: float | None = None) -> HeadEdit:
        """This edit with a verdict, by samples that were used for nothing else.

        Args:
            features: samples that the edit was neither fitted to nor chosen by, and that did not
                locate its cue, at least 20. The others are left out, as far as the edit knows them.
            max_cost: cap on the cost for all other classes together: :func:`verdict_on`.

        Returns:
            The edit with :attr:`judged` and :attr:`verdict`; all else is as it was.

        Raises:
            ValueError: for features of another length, or a cap outside 0..1.

        Warns:
            UserWarning: when samples are left out.

        Examples::

            >>> import torch
            >>> head, other = nn.Linear(2, 3), nn.Linear(2, 3)
            >>> z = torch.rand(60, 2)
            >>> data = FeatureSet(z, head(z).detach(), torch.arange(60) % 3)
            >>> edit = compare_heads(head, other, data, {1: [0]})
            >>> edit.verdict.decision, edit.judge(data).verdict.n_judged
            ('cannot tell', 60)
        """
        untouched = self.untouched(features)
        if n_left := len(features) - len(untouched):
            warnings.warn(
                f"{n_left} of {len(features)} samples are left out of the verdict: the edit was "
                "fitted to them or chosen by them, or its cue was located by them",
                stacklevel=3,
            )
        judged = judged_by(self.original, self.head, untouched)
        return replace(self, judged=judged).with_verdict(max_cost=max_cost)

    def with_verdict(
        self, controls: Iterable[Control] = (), *, max_cost: float | None = None
    ) -> HeadEdit:
        """This edit with the verdict that follows from :attr:`judged`.

        With multi-hot labels, whose decisions hang together, there is none.

        Args:
            controls: the same fit without the neurons, on the same samples:
                :func:`run_controls`.
            max_cost: as in :meth:`judge`; ``None``: the cap of the verdict so far.
        """
        if self.judged is None or self.judged.before.is_multi_hot:
            return replace(self, verdict=UNJUDGED if self.judged is None else MULTI_HOT)
        verdict = verdict_on(
            Paired.of(self.judged),
            self.targets,
            class_names=self.judged.before.class_names or self.class_names,
            controls=controls,
            rests_on=self.judged.how,
            is_original=self.is_original,
            max_cost=self.verdict.max_cost if max_cost is None else max_cost,
        )
        return replace(self, verdict=verdict)

    def untouched(self, features: FeatureSet) -> FeatureSet:
        """Those samples that the edit was neither fitted to nor chosen by, by what it knows."""
        if self.seen is None:
            return features
        return features.subset(~is_in(features, self.seen))

    def as_decided(self) -> HeadEdit:
        """This edit, with the original in place of the edited head unless it is kept."""
        return self if self.is_kept else replace(self, head=copy_of(self.original))

    @property
    def is_original(self) -> bool:
        """Whether the fit gave the original head back, so that there is nothing to keep."""
        return same_values(self.head, self.original)

    @property
    def settings(self) -> dict[str, Remark]:
        """How it was made, flat, for a table of experiments; :attr:`method` has the whole of it.

        The method's facts as texts, accuracies on samples kept from the fit, 0..1, as
        ``"held_out_target_before"``, and the remarks.
        """
        held_out: dict[str, Remark] = {}
        for one in self.method.held_out():
            held_out[f"held_out_{one.key}_before"] = one.before
            held_out[f"held_out_{one.key}_after"] = one.after
        return {**self.method.facts(), **held_out, **self.remarks}

    @property
    def best_epoch(self) -> int:
        """The epoch whose head was kept, 1 for a fit without epochs; 0: the original itself."""
        if isinstance(self.method, ConstraintRecord):
            return self.method.best_epoch
        return 0 if self.is_original else 1

    def neuron_ratios(self) -> dict[tuple[int, int], tuple[float, float]]:
        """``(class, neuron)`` to the neuron's probability ratio before and after."""
        pairs = [(c, neuron) for c, neurons in self.targets.items() for neuron in neurons]
        values = zip(self.before.ratios, self.after.ratios, strict=True)
        return dict(zip(pairs, values, strict=True))

    def diff(self) -> HeadDiff:
        """The change by itself: its size, and to apply it or add it to another."""
        return HeadDiff.between(self.original, self.head)

    def summary(self) -> str:
        """A table of the results before and after, as text."""
        return as_text(self)

    def plot(self) -> Figure:
        """Accuracy by class before and after, and the course of the training or the candidates.

        Returns:
            A matplotlib ``Figure`` that belongs to no window: ``.savefig(path)`` it,
            or let a notebook show it.
        """
        return edit_figure(self)

    @contextmanager
    def applied(
        self, model: nn.Module, *, layer: nn.Module | str | None = None, example: Any = None
    ) -> Iterator[nn.Module]:
        """Put the edited head into ``model`` inside the block, and take it out again.

        To look at, whatever the verdict says. Other threads that want the model wait until
        the block ends: use the model in the thread that entered it.

        The layer is found by its values: the one ``nn.Linear`` of the model with
        exactly the original's weights. After it is written its outputs are compared with
        the edited head's. A weight that is computed from others (weight norm) is written
        through them.

        Args:
            model: that the edited head came from.
            layer: which layer, as a module or its dotted name, where several have these
                weights.
            example: one batch as the model takes it, such as a few photos: then the
                logits of the whole model are compared too.

        Raises:
            ValueError: when no layer of the model, or more than one, has the original's
                weights, or they cannot be written.
            RuntimeError: when the layer or the model computes something else than the edited
                head; the original is back then.

        Warns:
            UserWarning: when a pass inside the block runs the layer more than once, so that the
                model's logits may be something else than the edited head's.
        """
        with exclusive(model):
            found = self._original_layer(model, layer)
            undo = write_head(model, found, self.head, example)
            try:
                with used_once(model, found):
                    yield model
            finally:
                undo()

    def apply_(
        self, model: nn.Module, *, layer: nn.Module | str | None = None, example: Any = None
    ) -> nn.Module:
        """Put the edited head into ``model`` for good, and return the model.

        The original stays where the edit is not kept (:attr:`is_kept`).

        Args:
            model: as in :meth:`applied`.
            layer: as in :meth:`applied`.
            example: as in :meth:`applied`.

        Raises:
            ValueError: as :meth:`applied`.
            RuntimeError: as :meth:`applied`.

        Warns:
            UserWarning: when the original stays.
        """
        with exclusive(model):
            found = self._original_layer(model, layer)
            if self.is_kept:
                write_head(model, found, self.head, example)
        if not self.is_kept:
            warnings.warn(f"the original head stays in the model. {self.verdict}", stacklevel=2)
        return model

    def revert_(
        self, model: nn.Module, *, layer: nn.Module | str | None = None, example: Any = None
    ) -> nn.Module:
        """Undo :meth:`apply_`: put the original's values back, and return the model.

        Args:
            model: as in :meth:`applied`.
            layer: as in :meth:`applied`.
            example: as in :meth:`applied`.

        Raises:
            ValueError: when no layer of the model, or more than one, has the edited
                head's weights.
            RuntimeError: as :meth:`applied`.
        """
        with exclusive(model):
            try:
                found = find_layer(model, self.as_decided().head, "the edited head", layer)
            except ValueError as error:
                raise ValueError(
                    f"{error}, expected exactly one: the edit is not applied to this model"
                ) from None
            write_head(model, found, self.original, example)
        return model

    def save(self, path: str | Path) -> Path:
        """Write both heads and the record of the edit as one safetensors file."""
        return save_edit(self, path)

    @classmethod
    def load(cls, path: str | Path) -> HeadEdit:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: when there is no such file, or it may not be read.
            ValueError: when it is something else or damaged; names it.
        """
        fields = read_edit(path)
        with reading(path, "HeadEdit"):
            return cls(**fields)

    def _original_layer(self, model: nn.Module, layer: nn.Module | str | None) -> nn.Linear:
        try:
            return find_layer(model, self.original, "the head that was edited", layer)
        except ValueError as error:
            raise ValueError(
                f"{error}, expected exactly one: the edit belongs to another model, "
                "or is applied already"
            ) from None

    @property
    def _how(self) -> str:
        return self.method.describe(self.head.out_features)

    def __repr__(self) -> str:
        return (
            f"HeadEdit(targets {list(self.targets)}, {self._how}, accuracy "
            f"{self.before.accuracy:.3f} -> {self.after.accuracy:.3f}, "
            f"verdict {self.verdict.decision!r})"
        )

    def _repr_html_(self) -> str:
        return as_html(self)


@undisturbed()
def compare_heads(
    original: nn.Linear,
    head: nn.Linear,
    validation: FeatureSet,
    targets: Mapping[int, Sequence[int]],
    *,
    train: FeatureSet | None = None,
    link: Link = "softmax",
    how: str = "two heads compared",
) -> HeadEdit:
    """A :class:`HeadEdit` of any two heads, however the second one came about.

    Args:
        original: the layer before; copied.
        head: the layer after.
        validation: what both are judged on.
        targets: neurons of each class whose ratios are reported.
        train: its groups' shares weight the adjusted accuracy.
        link: from logits to probabilities.
        how: in words, how the second head came about.

    Examples::

        >>> import torch
        >>> head, other = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> z = torch.rand(6, 2)
        >>> data = FeatureSet(z, head(z).detach(), torch.arange(6) % 3)
        >>> edit = compare_heads(head, other, data, {1: [0]})
        >>> edit.after.accuracy == data.with_head(other).accuracy()
        True
    """
    named = {int(target): tuple(map(int, neurons)) for target, neurons in targets.items()}
    shares = shares_of_groups(train)
    with exclusive(head, original):
        before, after = (
            evaluate(one, validation, named, link, shares, original) for one in (original, head)
        )
        original = copy_of(original)
    return HeadEdit(
        head=head,
        original=original,
        targets=named,
        before=before,
        after=after,
        method=ComparisonRecord(how),
        link=link,
        class_names=validation.class_names,
        group_shares=shares,
    )


_TOO_MANY = 2**53  # samples; a float counts no further
_HEADS = ("head", "original")
_METHODS = {
    "edit_head": ConstraintRecord,
    "mend": MendRecord,
    "remove_cue": RemovalRecord,
    "comparison": ComparisonRecord,
}
# 1 was written before 0.2; it is read where it has all fields.
_VERSION = 2
_PLAIN = (
    "targets",
    "before",
    "after",
    "link",
    "class_names",
    "group_shares",
    "is_kept",
    "remarks",
)


def save_edit(edit: HeadEdit, path: str | Path) -> Path:
    """Write an edit as one safetensors file with a record in JSON."""
    tensors = {
        f"{name}.{key}": value
        for name in _HEADS
        for key, value in getattr(edit, name).state_dict().items()
    }
    if edit.seen is not None:
        tensors["seen"] = edit.seen
    tensors |= _tensors_of(edit.judged)
    record: dict[str, Any] = {name: as_plain(getattr(edit, name)) for name in _PLAIN}
    (method,) = (name for name, kind in _METHODS.items() if type(edit.method) is kind)
    record["method"] = [method, as_plain(edit.method)]
    record["verdict"] = edit.verdict.as_dict()
    record["judged"] = None if edit.judged is None else edit.judged.how
    return write_kept(path, "HeadEdit", tensors, record, version=_VERSION)


def read_edit(path: str | Path) -> dict[str, Any]:
    """The fields of an edit that :func:`save_edit` wrote.

    Raises:
        OSError: when there is no such file, or it may not be read.
        ValueError: when it is something else or damaged; names it.
    """
    tensors, record = read_kept(path, "HeadEdit", version=_VERSION)
    with reading(path, "HeadEdit"):
        _check_whole(record)
        hints = hints_of(HeadEdit)
        record |= {name: from_plain(record[name], hints[name]) for name in _PLAIN}
        method, of_method = record["method"]
        record["method"] = from_plain(of_method, _METHODS[method])
        record["verdict"] = Verdict.from_dict(record["verdict"])
        record["seen"] = tensors.get("seen")
        record["judged"] = _judged(tensors, record["judged"], record["class_names"])
        record |= {name: _linear(tensors, name) for name in _HEADS}
        check_kinds(record, HeadEdit)
        _check_indices(record)
        _check_results(record)
        verdict = record["verdict"]
        if (verdict.p_value is None) != (verdict.overall_change is None):
            raise ValueError("its verdict has a test without a change, or a change without a test")
        _check_samples(record)
    return record


def _check_whole(record: dict[str, Any]) -> None:
    """Say what to do with an edit of before 0.2, which recorded its method in another way."""
    wanted = (*_PLAIN, "method", "verdict", "judged")
    missing = [name for name in wanted if name not in record]
    if missing:
        raise ValueError(
            f"it has no `{missing[0]}`, as a version before 0.2 wrote it: make the edit again with "
            "`edit_head`, `mend` or `neuroinspect edit`"
        )


def _check_indices(record: dict[str, Any]) -> None:
    head, original = record["head"], record["original"]
    if head.weight.shape != original.weight.shape:
        raise ValueError("its two heads have different shapes")
    n_classes = max(head.out_features, 2)  # a single output decides between two
    n_neurons = head.in_features
    for target, neurons in record["targets"].items():
        check_indices("target", torch.tensor([target]), n_classes, f"{n_classes} classes")
        check_indices("neuron", as_indices("neurons", neurons), n_neurons, f"{n_neurons} neurons")
    names = record["class_names"]
    if names is not None and len(names) != n_classes:
        raise ValueError(f"it has {len(names)} class names for {n_classes} classes")


def _check_results(record: dict[str, Any]) -> None:
    """One number for each neuron, class and group, before as after: they are shown in pairs."""
    before, after = record["before"], record["after"]
    n_classes = max(record["head"].out_features, 2)
    n_groups = len(before.group_accuracy or ())
    expected = {
        "ratios": sum(map(len, record["targets"].values())),
        "class_accuracy": n_classes,
        "class_samples": n_classes,
        "group_accuracy": n_groups,
        "group_samples": n_groups,
        "group_names": n_groups,
    }
    for name, n in expected.items():
        values = getattr(before, name), getattr(after, name)
        if any(value is not None and len(value) != n for value in values):
            raise ValueError(f"`{name}` before and after are {values}, expected {n} each")
    for one in (before, after):
        _check_shares("accuracy", (one.accuracy,), (one.n_samples,))
        _check_shares("class_accuracy", one.class_accuracy, one.class_samples)
        _check_shares("group_accuracy", one.group_accuracy or (), one.group_samples)


def _check_shares(name: str, shares: tuple[float, ...], counts: tuple[int, ...] | None) -> None:
    """Shares of so many samples: 0..1, and NaN where there are none."""
    if any(not 0 <= n < _TOO_MANY for n in counts or ()):
        raise ValueError(f"`{name}` is of {counts} samples, expected counts")
    known = counts or (0,) * len(shares)
    for share, n in zip(shares, known, strict=True):
        if not (0 <= share <= 1 or (math.isnan(share) and not n)):
            raise ValueError(f"`{name}` is {share} of {n} samples, expected 0..1")


def _check_samples(record: dict[str, Any]) -> None:
    """Names of samples that can be looked up, and judged samples of this head's classes."""
    seen, judged, n_outputs = record["seen"], record["judged"], record["head"].out_features
    if seen is not None and (seen.dtype, seen.ndim) != (torch.int64, 1):
        raise ValueError(f"the names of its samples are {seen.dtype}, expected (N,) int64")
    for part in () if judged is None else (judged.before, judged.after):
        if part.logits.shape[1] != n_outputs:
            raise ValueError(
                f"its judged samples have {part.logits.shape[1]} logits, the head {n_outputs}"
            )
        known = {"features": part.features, "logits": part.logits, "indices": part.indices}
        check_dtypes(known if part.groups is None else known | {"groups": part.groups})


def _tensors_of(judged: Judged | None) -> dict[str, Tensor]:
    if judged is None:
        return {}
    before = judged.before
    found = {"labels": before.labels, "indices": before.indices, "groups": before.groups}
    logits = {"before": before.logits, "after": judged.after.logits}
    return {f"judged.{n}": t for n, t in (found | logits).items() if t is not None}


def _judged(
    tensors: dict[str, Tensor], how: str | None, names: tuple[str, ...] | None
) -> Judged | None:
    if how is None:
        return None
    labels, groups = tensors["judged.labels"], tensors.get("judged.groups")
    nothing = torch.empty(len(labels), 0)
    before, after = (
        FeatureSet(
            nothing, tensors[f"judged.{when}"], labels, groups, names, tensors["judged.indices"]
        )
        for when in ("before", "after")
    )
    return Judged(before, after, how)


def _linear(tensors: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
    n_outputs, n_features = weight.shape
    layer = nn.utils.skip_init(
        nn.Linear, n_features, n_outputs, bias=bias is not None, dtype=weight.dtype
    )
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
