"""From counterfactuals of many mistakes to the few neurons worth looking at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from captum_neuroinspect._core.blocks import all_finite, blocks, by_blocks
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.same_model import check_same_backbone
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.attr._tails import working_dtype
from captum_neuroinspect.attr.elastic_net import Counterfactual
from captum_neuroinspect.attr.reference import Reference

Order = Literal["precision", "magnitude", "mean"]

_PAPER_VOTES, _PAPER_MIN_PRECISION = 5, 0.03
# With a contrast, twenty votes name a cause's neurons more stably than the paper's five.
_CONTRAST_VOTES = 20
_FEW = 4  # mistakes, below which one is not few
_NO_REFERENCE = (
    "Ranked without a reference. features= and reference= (samples that the model gets right) "
    "find causes that this ranking misses."
)
_SHOWN = 10  # neurons a list in the printed table


@dataclass(frozen=True)
class NeuronList:
    """Ranked neurons, best first; the three tuples run in parallel.

    Attributes:
        neurons: indices of features.
        precision: share of the mistakes that voted (0..1) that have the neuron among
            their k strongest.
        magnitude: summed size of its change over all mistakes, contrasted with the
            reference where one was given; for ``by="mean"`` the size of the signed sum.
        importance: the ratio by which the neuron raises the class
            (:func:`neuron_importance`); empty where it is not known.
    """

    neurons: tuple[int, ...]
    precision: tuple[float, ...]
    magnitude: tuple[float, ...]
    importance: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.neurons)


@dataclass(frozen=True)
class NeuronRanking:
    """The neurons behind a set of mistakes.

    Attributes:
        insufficient: too little activation for the right class.
        excessive: undesired activation.
        both: neurons that reach ``min_precision`` in both directions; they stand in
            neither of the other lists. Precision and magnitude are sums of the two.
        n_mistakes: how many mistakes voted. Samples left out are in no share and no sum:
        n_right: samples without a change, which are right already;
        n_unfinished: samples whose change does not reach their class.
        k: votes of each mistake in each direction.
        effect: with a reference, the weight (0..1) of what the decision feels against
            what is unusual (:class:`Reference`), as it was used; else None.
    """

    insufficient: NeuronList
    excessive: NeuronList
    both: NeuronList
    n_mistakes: int
    k: int
    effect: float | None = None
    n_right: int = 0
    n_unfinished: int = 0

    def rows(self) -> list[dict[str, str | int | float]]:
        """One dictionary a neuron, ready for ``pandas.DataFrame``."""
        return [
            {"kind": kind, "rank": rank, **values}
            for kind in ("insufficient", "excessive", "both")
            for rank, values in enumerate(_lines(getattr(self, kind)), start=1)
        ]

    @property
    def has_importance(self) -> bool:
        """Whether it is known of the neurons that are listed."""
        return any(one.importance for one in (self.insufficient, self.excessive, self.both))

    def by_magnitude(self) -> list[dict[str, str | int | float]]:
        """The rows of all lists together, the largest magnitude first."""
        return sorted(self.rows(), key=lambda row: -float(row["magnitude"]))

    def _repr_html_(self) -> str:
        title = f"{self._title()}, the first {_SHOWN}"
        if self.effect is None:
            title += f". {_NO_REFERENCE}"
        sizes = ("magnitude", "importance") if self.has_importance else ("magnitude",)
        cells = (
            (
                *(r[name] for name in ("neuron", "kind", "rank")),
                f"{r['precision']:.3f}",
                *(f"{r[name]:.4g}" for name in sizes),
            )
            for r in self.rows()
            if int(r["rank"]) <= _SHOWN
        )
        return html_table(("neuron", "kind", "rank", "precision", *sizes), cells, title)

    def _title(self) -> str:
        left_out = [
            f"{n} {words}"
            for n, words in (
                (self.n_right, "that need no change"),
                (self.n_unfinished, "that did not reach their class"),
            )
            if n
        ]
        without = f" (without {' and '.join(left_out)})" if left_out else ""
        noun = "mistake" if self.n_mistakes == 1 else "mistakes"
        return f"{self.n_mistakes} {noun}{without}, top-{self.k} precision"

    def __str__(self) -> str:
        lines = [self._title()]
        sizes = ("magnitude", "importance") if self.has_importance else ("magnitude",)
        lines.append(
            f"{'kind':<13}{'rank':>5}{'neuron':>8}{'precision':>11}"
            + "".join(f"{name:>12}" for name in sizes)
        )
        lines += [
            f"{r['kind']:<13}{r['rank']:>5}{r['neuron']:>8}{r['precision']:>11.3f}"
            + "".join(f"{r[name]:>12.4g}" for name in sizes)
            for r in self.rows()
            if int(r["rank"]) <= _SHOWN
        ]
        lines += [
            f"{kind:<13}  and {n - _SHOWN} more"
            for kind in ("insufficient", "excessive", "both")
            if (n := len(getattr(self, kind))) > _SHOWN
        ]
        if self.effect is None:
            lines.append(_NO_REFERENCE)
        return "\n".join(lines)


@undisturbed(keep_autocast=True)
def rank_neurons(
    w: Tensor | Counterfactual,
    k: int | None = None,
    min_precision: float | None = None,
    *,
    by: Order | None = None,
    features: FeatureSet | Tensor | None = None,
    reference: FeatureSet | Reference | Tensor | None = None,
    target: Tensor | int | None = None,
    importance: Tensor | None = None,
    options: Literal["paper"] | None = None,
) -> NeuronRanking:
    """Rank the neurons behind a set of mistakes.

    The paper (section III-C) lets each mistake vote: its ``k`` largest positive changes
    for *insufficient*, its ``k`` most negative ones for *excessive*; precision = votes /
    mistakes. That is ``by="precision"``, the default when only ``w`` is known.

    ``w`` follows the head's weights and hardly knows what the photo contains. With
    ``features`` and ``reference`` each change is first contrasted with samples that the
    model gets right (:class:`Reference`), and neurons are ordered ``by="mean"``: the size
    of their mean over the mistakes, in which what differs from photo to photo cancels
    out. This finds causes of mistakes that the paper's votes miss
    (``docs/measurements/which-neurons.md``). Details of attributions that were made with a
    ``reference`` hold both already, and give the same ranking.

    Samples without a change are right already: they are no mistakes and count in no share.

    Args:
        w: ``(N, F)`` counterfactual changes of N mistakes; or their details
            (``return_details=True``), which tell more: samples whose change does not
            reach their class are then left out. Attributions that were made with a
            ``reference`` are contrasted sample by sample, with another weight of the
            effect than their ranking would take: give their details instead.
        k: votes a mistake and direction. None: the paper's 5; with a contrast 20, or all
            of fewer features.
        min_precision: smallest share of mistakes (0..1) that a neuron needs. None: the
            paper's 0.03 of votes; with a contrast two mistakes, or one of fewer than
            four: what one photo of many has of its own is no reason for the others.
        by: ``"precision"`` (ties by magnitude), ``"magnitude"`` (sums of the changes in
            each direction) or ``"mean"`` (sums of the changes with their signs; a neuron
            is on the side of its sum). None: ``"mean"`` with a reference, else
            ``"precision"``.
        features: ``(N, F)`` features of the same mistakes, or their FeatureSet.
        reference: samples that the model gets right: a FeatureSet (its correct samples
            are taken, class by class), or ``(R, F)`` features of the right class.
        target: ``(N,)`` right class of each mistake, for a reference with classes; known
            when ``features`` is a FeatureSet.
        importance: ``(F,)`` of each neuron (:func:`neuron_importance`), to be listed with it.
        options: ``"paper"``: what the paper's authors publish: five votes, ``by="precision"``,
            no reference, and a neuron needs *more* than ``min_precision`` (by default that much
            is enough, as in the paper's text). Samples that are right already have no vote, yet
            count among the mistakes.

    Returns:
        A :class:`NeuronRanking`.

    Raises:
        TypeError: when ``w`` is neither a tensor nor details.
        ValueError: for empty or non-finite ``w``, ``w`` that is zero everywhere (no
            mistakes), details of which no sample reached its class, a bad ``k``,
            ``min_precision`` or ``by``, only one of ``features`` and ``reference``, or two
            that do not fit ``w`` or are not finite, an ``importance`` of another size, other
            ``options``, or ``"paper"`` with a reference.

    Examples::

        >>> w = torch.tensor([[0.9, 0.0, -0.2], [0.5, 0.1, 0.0]])
        >>> ranking = rank_neurons(w, k=1)
        >>> ranking.insufficient.neurons, ranking.insufficient.precision
        ((0,), (1.0,))
        >>> ranking.excessive.neurons, ranking.excessive.precision
        ((2,), (0.5,))
    """
    has_contrast = reference is not None or _is_contrasted(w)
    is_paper = _is_paper(options, has_contrast)
    if by is None:
        by = "mean" if has_contrast else "precision"
    changes, unfinished = _changes(w)
    if k is None:
        k = _default_votes(changes, has_contrast)
    _check(changes, k, min_precision, by)
    _check_importance(importance, changes)
    voters = _voters(changes, unfinished)
    if unfinished is not None:  # those without a change add nothing to the sums as they are
        changes = changes.where(voters[:, None], 0)
    n_unfinished = 0 if unfinished is None else int(unfinished.sum())
    n_voters = len(changes) - n_unfinished if is_paper else int(voters.sum())
    if min_precision is None:
        min_precision = default_share(n_voters, by, has_contrast)
    usual, contrast = _contrast(w, changes, features, reference, target)
    totals = VoteTotals.of(changes, contrast, k, n_voters)
    insufficient, excessive, both = neuron_lists(
        totals, min_precision, by, importance, more_than=is_paper
    )
    return NeuronRanking(
        insufficient=insufficient,
        excessive=excessive,
        both=both,
        n_mistakes=n_voters,
        k=k,
        effect=None if usual is None else usual.effect,
        n_right=len(changes) - n_voters - n_unfinished,
        n_unfinished=n_unfinished,
    )


def neuron_lists(
    totals: VoteTotals,
    min_precision: float,
    by: Order,
    importance: Tensor | None = None,
    *,
    more_than: bool = False,
) -> tuple[NeuronList, NeuronList, NeuronList]:
    """Which neurons are insufficient, excessive and both, by what was added up of them.

    Args:
        totals: of all mistakes.
        min_precision: the share of votes that a neuron needs.
        by: the order.
        importance: ``(F,)``, to be listed.
        more_than: whether the share itself is too little, as in the paper's code.
    """
    more, less = totals.sides(by)
    wanted, unwanted = totals.more_votes, totals.less_votes
    reaches = torch.gt if more_than else torch.ge
    is_wanted, is_unwanted = (
        (side > 0) & reaches(votes, min_precision) & ((votes > 0) | (by == "mean"))
        for side, votes in ((more, wanted), (less, unwanted))
    )
    return (
        _ordered(is_wanted & ~is_unwanted, wanted, more, by, importance),
        _ordered(is_unwanted & ~is_wanted, unwanted, less, by, importance),
        _ordered(is_wanted & is_unwanted, wanted + unwanted, more + less, by, importance),
    )


def _is_paper(options: object, has_contrast: bool) -> bool:
    if options not in (None, "paper"):
        raise ValueError(f"options={options!r}, expected 'paper' or None")
    if options == "paper" and has_contrast:
        raise ValueError("options='paper' ranks without a reference, expected none")
    return options == "paper"


def _check_importance(importance: Tensor | None, changes: Tensor) -> None:
    if importance is not None and importance.shape != changes.shape[1:]:
        raise ValueError(
            f"importance has shape {tuple(importance.shape)}, expected one value for each of "
            f"{changes.shape[1]} neurons"
        )


def _is_contrasted(w: object) -> bool:
    return isinstance(w, Counterfactual) and w.reference is not None


def _default_votes(changes: Any, has_contrast: bool) -> int:
    n = changes.shape[-1] if isinstance(changes, Tensor) and changes.ndim else 0
    return min(_CONTRAST_VOTES, max(1, n)) if has_contrast else _PAPER_VOTES


def default_share(n_voters: int, by: str, has_contrast: bool) -> float:
    """The smallest share of mistakes that a neuron needs where none is given."""
    if has_contrast:
        return (2 if n_voters >= _FEW else 1) / n_voters
    return 0.0 if by == "mean" else _PAPER_MIN_PRECISION


def _changes(w: Any) -> tuple[Any, Tensor | None]:
    """The changes, and ``(N,)`` which of them do not reach their class; None: not known."""
    if not isinstance(w, Counterfactual):
        return w, None
    changes = w.w
    unfinished = ~(w.converged | w.already_correct)
    if unfinished.all():
        raise ValueError(
            f"none of the {len(w)} samples reached its class: there is no change to rank (give "
            "the solver more steps, as SGD(max_steps=10000), or weaker norms)"
        )
    return changes, unfinished if unfinished.any() else None


def _voters(w: Tensor, unfinished: Tensor | None) -> Tensor:
    """``(N,)`` the samples that have a change, and that it suffices for."""
    changed = by_blocks(lambda block: block.ne(0).any(1), w)
    voters = changed if unfinished is None else changed & ~unfinished
    if not voters.any():
        raise ValueError(
            f"none of the {len(w)} samples has a change that reaches its class: there is "
            "nothing to rank"
        )
    return voters


def _check(w: Tensor, k: int, min_precision: float | None, by: str) -> None:
    if not isinstance(w, Tensor):
        raise TypeError(
            f"w is {type(w).__name__}, expected a tensor (N, F), or the details of attributions"
        )
    if w.ndim != 2 or not w.numel():
        raise ValueError(f"w has shape {tuple(w.shape)}, expected (N, F) with at least one mistake")
    if not all_finite(w):
        raise ValueError("w has NaN or infinite values")
    if not w.any():
        raise ValueError("w is zero everywhere: no mistakes to rank, the head is right on all")
    if not 1 <= k <= w.shape[1]:
        raise ValueError(f"k={k}, expected 1..{w.shape[1]} (the number of features)")
    if min_precision is not None and not 0 <= min_precision <= 1:
        raise ValueError(f"min_precision={min_precision}, expected a share in 0..1")
    if by not in ("precision", "magnitude", "mean"):
        raise ValueError(f"by={by!r}, expected 'precision', 'magnitude' or 'mean'")


def _contrast(
    w: Tensor | Counterfactual,
    changes: Tensor,
    features: FeatureSet | Tensor | None,
    reference: FeatureSet | Reference | Tensor | None,
    target: Tensor | int | None,
) -> tuple[Reference | None, Callable[[slice], Tensor]]:
    """The reference, weighted for these mistakes, and a function that gives contrasted rows."""
    if (features is None) != (reference is None):
        raise ValueError("features and reference go together: the contrast needs both")
    if features is None or reference is None:
        return _own_contrast(w, changes)
    if isinstance(features, FeatureSet) and isinstance(reference, FeatureSet):
        check_same_backbone(features=features, reference=reference)
    usual = Reference.of(reference).for_mistakes(changes)
    if isinstance(features, FeatureSet):
        target = features.labels if target is None else target
        features = features.features
    if features.shape != changes.shape:
        raise ValueError(f"features {tuple(features.shape)} do not fit w {tuple(changes.shape)}")
    if not all_finite(features):
        raise ValueError("features have NaN or infinite values")
    classes = usual.classes(changes, target)
    dtype = working_dtype(changes, features)
    return usual, lambda rows: usual.contrast(
        changes[rows].to(dtype), features[rows], classes[rows]
    )


def _own_contrast(
    w: Tensor | Counterfactual, changes: Tensor
) -> tuple[Reference | None, Callable[[slice], Tensor]]:
    """That of the details, where they have a reference; else the changes as they are."""
    dtype = working_dtype(changes)
    if isinstance(w, Counterfactual) and w.reference is not None and w.shortfall is not None:
        usual, shortfall = w.reference.for_mistakes(changes), w.shortfall
        return usual, lambda rows: usual.contrast_of(
            changes[rows].to(dtype), shortfall[rows].to(dtype)
        )
    return None, lambda rows: changes[rows].to(dtype)


@dataclass(frozen=True)
class VoteTotals:
    """Sums over mistakes, all ``(F,)``: changes by direction, and shares of votes."""

    more: Tensor
    less: Tensor
    more_votes: Tensor
    less_votes: Tensor

    @classmethod
    def of(
        cls, w: Tensor, contrast: Callable[[slice], Tensor], k: int, n_voters: int
    ) -> VoteTotals:
        # Block by block: a hundred thousand mistakes must not be copied several times.
        sums = torch.zeros(4, w.shape[1], dtype=torch.float64, device=w.device)
        start = 0
        for block in blocks(w):
            change = contrast(slice(start, start + len(block)))
            start += len(block)
            for i, side in enumerate((change.clamp(min=0), -change.clamp(max=0))):
                sums[i] += side.sum(0)
                sums[2 + i] += _votes(side, k)
        return cls(sums[0], sums[1], sums[2] / n_voters, sums[3] / n_voters)

    def sides(self, by: Order) -> tuple[Tensor, Tensor]:
        """What puts a neuron in a list: for ``mean`` only the side of its sum."""
        if by == "mean":
            net = self.more - self.less
            return net.clamp(min=0), (-net).clamp(min=0)
        return self.more, self.less


def _votes(size: Tensor, k: int) -> Tensor:
    """How many mistakes have the neuron among their k largest; a zero is no vote."""
    strongest = size.topk(k, dim=1)
    votes = torch.zeros_like(size).scatter_(1, strongest.indices, (strongest.values > 0).to(size))
    return votes.sum(0)


def _ordered(
    chosen: Tensor, precision: Tensor, magnitude: Tensor, by: Order, importance: Tensor | None
) -> NeuronList:
    neurons = chosen.nonzero().flatten().tolist()
    first, second = (precision, magnitude) if by == "precision" else (magnitude, precision)
    # The index breaks the last ties, so that equal input gives equal output everywhere.
    neurons.sort(key=lambda j: (-float(first[j]), -float(second[j]), j))
    return NeuronList(
        neurons=tuple(neurons),
        precision=tuple(float(precision[j]) for j in neurons),
        magnitude=tuple(float(magnitude[j]) for j in neurons),
        importance=() if importance is None else tuple(float(importance[j]) for j in neurons),
    )


def _lines(ranked: NeuronList) -> list[dict[str, int | float]]:
    """What is known of each neuron, by name."""
    found: list[dict[str, int | float]] = [
        {"neuron": n, "precision": p, "magnitude": m}
        for n, p, m in zip(ranked.neurons, ranked.precision, ranked.magnitude, strict=True)
    ]
    for line, value in zip(found, ranked.importance, strict=False):
        line["importance"] = value
    return found
