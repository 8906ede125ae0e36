"""An edit on given data: the results before and after, and the photos that changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.edit import HeadEdit
from captum_neuroinspect.edit.evaluation import evaluate_decisions, ratios_of

__all__ = ["Comparison", "compare_photos"]

Outcome = Literal["corrected", "broken", "still wrong"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What an edit does on some data.

    Attributes:
        edit: with ``before`` and ``after`` measured on these data.
        before: the samples, judged by the original head.
        after: the same, judged by the edited one; in cross-fitting each by a head that was made
            in the same way without it.
        how: which samples these are, in words; empty for any.
    """

    edit: HeadEdit
    before: FeatureSet
    after: FeatureSet
    how: str = ""

    def rows(self, outcome: Outcome | None = None) -> Tensor:
        """Rows of the samples that are judged differently now.

        Args:
            outcome: only those that are ``"corrected"``, ``"broken"`` or ``"still wrong"``.

        Raises:
            ValueError: for another outcome.
        """
        was, now = self.before.is_correct, self.after.is_correct
        changed = self.before.predictions != self.after.predictions
        kinds = {
            "corrected": ~was & now,
            "broken": was & ~now,
            "still wrong": changed & ~was & ~now,
        }
        if outcome is not None and outcome not in kinds:
            raise ValueError(f"outcome={outcome!r}, expected one of {', '.join(map(repr, kinds))}")
        return (changed if outcome is None else kinds[outcome]).nonzero().flatten()

    def __str__(self) -> str:
        return f"{self.edit.summary()}\n{self._counts()}"

    def __repr__(self) -> str:
        old, new = self.edit.before.accuracy, self.edit.after.accuracy
        return (
            f"Comparison({len(self.before)} samples, accuracy {old:.3f} -> {new:.3f}; "
            f"{self._counts()})"
        )

    def _repr_html_(self) -> str:
        return f"{self.edit._repr_html_()}<p>{self._counts()}</p>"

    def _counts(self) -> str:
        n_corrected, n_broken = len(self.rows("corrected")), len(self.rows("broken"))
        return f"{n_corrected} corrected, {n_broken} broken{self.how and f' of {self.how}'}"


def compare_photos(edit: HeadEdit, features: FeatureSet) -> Comparison:
    """Judge an edit on data that it was not chosen by.

    Args:
        edit: of the head that these features are for.
        features: with one class a sample.

    Raises:
        ValueError: for multi-hot labels, or features of another length.

    Examples::

        >>> import torch
        >>> from captum_neuroinspect.edit import compare_heads
        >>> heads = [torch.nn.Linear(2, 3) for _ in range(2)]
        >>> data = FeatureSet(z := torch.rand(9, 2), heads[0](z).detach(), torch.arange(9) % 3)
        >>> found = compare_photos(compare_heads(*heads, data, {1: [0]}), data)
        >>> len(found.rows()) >= len(found.rows("corrected"))
        True
    """
    if features.is_multi_hot:
        raise ValueError("features have multi-hot labels, expected one class a sample")
    # Each head decides once, and its results are read off: of many classes this takes long.
    judged = [features.with_head(head) for head in (edit.original, edit.head)]
    before, after = (
        evaluate_decisions(
            one, ratios_of(head, features, edit.targets, edit.link), edit.group_shares
        )
        for one, head in zip(judged, (edit.original, edit.head), strict=True)
    )
    changed = replace(edit, before=before, after=after, class_names=features.class_names)
    return Comparison(changed, judged[0], judged[1])


def compare_judged(edit: HeadEdit) -> Comparison:
    """An edit on the samples that judged it, which were used for nothing else.

    The neurons' ratios stay those of the edit: they are not about single samples.

    Raises:
        ValueError: when nothing judged the edit.
    """
    judged = edit.judged
    if judged is None:
        raise ValueError("nothing judged the edit: give it to compare_photos with features")
    before, after = (
        evaluate_decisions(one, known.ratios, edit.group_shares)
        for one, known in ((judged.before, edit.before), (judged.after, edit.after))
    )
    names = judged.before.class_names or edit.class_names
    changed = replace(edit, before=before, after=after, class_names=names)
    return Comparison(changed, judged.before, judged.after, judged.how)
