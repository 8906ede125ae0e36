"""From the mistakes on a class to the neurons behind them, in one step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal

from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect._core.same_model import check_same_backbone, check_same_head
from captum_neuroinspect._core.shares import share_with_interval
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.attr import (
    Counterfactual,
    NeuronCounterfactual,
    NeuronRanking,
    Slices,
    neuron_importance,
    rank_neurons,
    slice_mistakes,
)
from captum_neuroinspect.attr.slices import NSlices

__all__ = ["Explanation", "explain_mistakes", "mistakes_about"]

_N_SHOWN = 20  # rows in a notebook


@dataclass(frozen=True, eq=False)
class Explanation:
    """The neurons behind the mistakes on a class.

    Attributes:
        target: the class that was missed.
        predicted: the class that it was taken for, or ``None`` for any.
        mistakes: what was explained, M samples.
        w: ``(M, F)`` their counterfactual changes of the features.
        ranking: the neurons, as :func:`rank_neurons` orders them.
        slices: the mistakes by their causes, where these were looked for; else ``None``.
    """

    target: int
    predicted: int | None
    mistakes: FeatureSet
    w: Tensor
    ranking: NeuronRanking
    slices: Slices | None = None

    def __post_init__(self) -> None:
        if len(self.w) != len(self.mistakes):
            raise ValueError(f"w has {len(self.w)} rows for {len(self.mistakes)} mistakes")
        if self.slices is not None and sum(map(len, self.slices)) != len(self.mistakes):
            raise ValueError(f"slices do not have {len(self.mistakes)} mistakes together")

    def of_slices(self) -> tuple[Explanation, ...]:
        """An explanation of each slice; of all mistakes where they are in one."""
        if self.slices is None or len(self.slices) == 1:
            return (self,)
        return tuple(
            Explanation(self.target, self.predicted, one.mistakes, one.w, one.ranking)
            for one in self.slices
        )

    def rows(self) -> list[dict[str, str | int | float]]:
        """One dictionary a neuron, the largest magnitude first, ready for pandas."""
        return self.ranking.by_magnitude()

    def neurons(self, n: int | None = None) -> tuple[int, ...]:
        """The neurons to look at: the best of each kind in turn, the largest magnitude first.

        With several slices, the best of each slice in turn, the largest slice first.

        Args:
            n: how many at most; ``None``: all that were ranked.
        """
        parts = self.of_slices()
        if len(parts) > 1:
            return tuple(_in_turn(part.neurons() for part in parts))[:n]
        lists = [getattr(self.ranking, kind) for kind in ("insufficient", "excessive", "both")]
        lists.sort(key=lambda one: -max(one.magnitude, default=0.0))
        return tuple(_in_turn(one.neurons for one in lists))[:n]

    @property
    def confused(self) -> int:
        """The class that most of the mistakes were taken for."""
        return int(self.mistakes.predictions.bincount().argmax())

    def __str__(self) -> str:
        parts = self.of_slices()
        if self.slices is None or len(parts) == 1:
            return f"{self._title()}\n{self.ranking}"
        said = (f"slice {i}, {part}" for i, part in enumerate(parts, start=1))
        return "\n\n".join([f"{self._title()}, {self.slices.reason}", *said])

    def __repr__(self) -> str:
        return f"Explanation({self._title()})"

    def _repr_html_(self) -> str:
        known = ("importance",) if self.ranking.has_importance else ()
        columns = ("neuron", "kind", "in mistakes", "magnitude", *known)
        cells = (_cells(row, len(self.mistakes)) for row in self.rows()[:_N_SHOWN])
        return html_table(columns, cells, self._title())

    def _title(self) -> str:
        name = self.mistakes.class_name
        taken = "" if self.predicted is None else f" taken for {name(self.predicted)}"
        plural = "" if len(self.mistakes) == 1 else "s"
        return shown(f"{len(self.mistakes)} mistake{plural} on {name(self.target)}{taken}")


@undisturbed()
def explain_mistakes(
    head: nn.Linear,
    features: FeatureSet,
    reference: FeatureSet | None = None,
    *,
    target: int,
    predicted: int | None = None,
    k: int | None = None,
    w: Tensor | Counterfactual | None = None,
    options: Literal["paper"] | None = None,
    slices: NSlices | None = None,
    seed: int = 0,
) -> Explanation:
    """Find the neurons behind the mistakes on a class.

    :class:`NeuronCounterfactual`, then :func:`rank_neurons` against samples that the head gets
    right, with their defaults. Beside each neuron stands its importance for the class
    (:func:`~captum_neuroinspect.attr.neuron_importance`) at the mean of the class's right samples
    in ``reference``; it is left out where none is right.

    Args:
        head: the decision layer.
        features: labelled samples, right ones and mistakes.
        reference: samples of which those that the head gets right are the contrast, best
            what it was trained on; ``None``: those of ``features``.
        target: the class whose mistakes are explained.
        predicted: only those that were taken for this class.
        k: votes of each mistake in each direction, as in :func:`rank_neurons`.
        w: the mistakes' counterfactuals, if they are known already: the details, or the
            changes ``(M, F)`` alone.
        options: ``"paper"``: what the paper's authors publish: changes without a bound, votes
            without a reference, and the importance at the mean of all ``features``.
        slices: part the mistakes by their causes, :func:`slice_mistakes`: ``"auto"``, or in so
            many slices; ``None``: do not.
        seed: of the slices.

    Raises:
        ImportError: for slices, when scikit-learn is not installed.
        TypeError: when ``head`` is not linear, or ``slices`` of another kind.
        ValueError: when there are no such mistakes, none of them can be turned right, or a
            class is out of range; for other ``options``, or ``"paper"`` with a reference or
            slices; for a number of slices that the mistakes cannot be put in.

    Examples::

        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> head, labels = nn.Linear(6, 2), torch.arange(40) % 2
        >>> z = torch.rand(40, 6)
        >>> found = explain_mistakes(head, FeatureSet(z, head(z).detach(), labels), target=0)
        >>> found.w.shape == (len(found.mistakes), 6)
        True
    """
    check_head(head)
    if options not in (None, "paper"):
        raise ValueError(f"options={options!r}, expected 'paper' or None")
    if options == "paper" and (reference is not None or slices is not None):
        given = "none" if reference is not None else "no slices, which are ranked against one"
        raise ValueError(f"options='paper' ranks without a reference, expected {given}")
    check_same_head(head, features=features, reference=reference)
    check_same_backbone(features=features, reference=reference)
    mistakes = features.mistakes(target, predicted)
    if not len(mistakes):
        raise ValueError(_no_mistakes(features, target, predicted))
    if w is None:
        method = NeuronCounterfactual(head, head, options=options)
        w = method.attribute_features(mistakes.features, target, return_details=True)
    changes = w.w if isinstance(w, Counterfactual) else w
    if len(changes) != len(mistakes):
        raise ValueError(f"w has {len(changes)} rows for {len(mistakes)} mistakes")
    k = None if k is None else min(k, changes.shape[1])
    usual = features if reference is None else reference
    if options == "paper":
        at = neuron_importance(head, features.features.double().mean(0), target)
        ranking = rank_neurons(w, k=k, importance=at, options=options)
        return Explanation(target, predicted, mistakes, changes, ranking)
    known = neuron_importance(head, usual, target) if len(usual.correct(target)) else None
    found = None
    if slices is not None:
        found = slice_mistakes(
            w, mistakes, usual, n_slices=slices, k=k, importance=known, seed=seed
        )
    ranking = rank_neurons(w, k=k, features=mistakes, reference=usual, importance=known)
    return Explanation(target, predicted, mistakes, changes, ranking, found)


def check_outputs(head: nn.Linear) -> None:
    """Refuse a head that gives no output for the class that is missed, as a session shows them.

    Raises:
        TypeError: when it is not linear.
        ValueError: when it has a single output.
    """
    if check_head(head).out_features == 1:
        raise ValueError(
            "head has a single output, expected one a class, of which one is missed: illusions and "
            "edits need an output for each class; explain_mistakes(head, features, target=0 or 1) "
            "explains the mistakes of one"
        )


def mistakes_about(features: FeatureSet, target: int) -> FeatureSet | None:
    """Both kinds of mistakes about a class, if any: missed, and predicted where it is not.

    Example::

        >>> import torch
        >>> from captum_neuroinspect import FeatureSet
        >>> logits = torch.eye(3)[[0, 1, 0, 2]]  # what is predicted
        >>> features = FeatureSet(torch.rand(4, 5), logits, torch.tensor([0, 0, 2, 2]))
        >>> mistakes_about(features, 0).labels.tolist()  # a missed 0, and a 2 taken for one
        [0, 2]
    """
    about = (features.labels == target) | (features.predictions == target)
    wrong = features.subset(~features.is_correct & about)
    return wrong if len(wrong) else None


def _in_turn(lists: Iterable[Iterable[int]]) -> list[int]:
    """The first of each list, then the second, and so on; each neuron once."""
    together = chain.from_iterable(zip_longest(*lists))
    return list(dict.fromkeys(neuron for neuron in together if neuron is not None))


def _cells(row: dict[str, str | int | float], n_mistakes: int) -> tuple[object, ...]:
    share = min(float(row["precision"]), 1.0)  # "both" adds two shares
    size = float(row["magnitude"])
    counted = share_with_interval(round(share * n_mistakes), n_mistakes)
    known = (f"{row['importance']:.4g}",) if "importance" in row else ()
    return row["neuron"], row["kind"], counted, f"{size:.4g}", *known


def _no_mistakes(features: FeatureSet, target: int, predicted: int | None) -> str:
    taken = "" if predicted is None else f" taken for {features.class_name(predicted)!r}"
    n_samples = int(features.of_class(target).sum())
    return (
        f"target={target}: none of the {n_samples} samples of {features.class_name(target)!r} "
        f"is wrong{taken}, expected at least one mistake to explain"
    )
