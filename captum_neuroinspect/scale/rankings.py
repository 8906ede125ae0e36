"""A ranking of neurons over the mistakes of many photos: a map and an exact reduction."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.checks import check_whole
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import head_fingerprint, tensor_fingerprint
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect.attr import (
    FISTA,
    SGD,
    ElasticNet,
    NeuronCounterfactual,
    NeuronRanking,
    Reference,
)
from captum_neuroinspect.attr.neuron_ranking import (
    Order,
    VoteTotals,
    default_share,
    neuron_lists,
)
from captum_neuroinspect.scale._plan import begin
from captum_neuroinspect.scale._reducing import (
    commit,
    kept,
    kept_part,
    kept_parts,
    run_missing,
)
from captum_neuroinspect.scale._running import one_session
from captum_neuroinspect.scale.features import FeatureParts
from captum_neuroinspect.scale.options import ScaleOptions
from captum_neuroinspect.scale.reduction import ChangeDirections, ChangeTotals, combined
from captum_neuroinspect.scale.references import reference_at_scale

_VOTES, _CONTRAST_VOTES = 5, 20


@dataclass(frozen=True)
class MistakesToRank:
    """Which mistakes of the photos vote, and how.

    Attributes:
        target: only mistakes of this class. None: of all.
        predicted: only those that were taken for this class.
        k: votes of each mistake in each direction. None: five, with a reference 20, or all of
            fewer features.
        solver: of the counterfactual changes.
        penalty: the norms of equation (1). None: the paper's.
    """

    target: int | None = None
    predicted: int | None = None
    k: int | None = None
    solver: Literal["sgd", "fista"] | SGD | FISTA = "sgd"
    penalty: ElasticNet | None = None


def rank_at_scale(
    features: FeatureParts,
    head: nn.Linear,
    out: str | Path,
    *,
    mistakes: MistakesToRank | None = None,
    reference: Reference | FeatureParts | None = None,
    min_precision: float | None = None,
    by: Order | None = None,
    options: ScaleOptions | None = None,
) -> NeuronRanking:
    """Rank the neurons behind mistakes, part by part of the features.

    Each part's counterfactuals are solved by themselves, added up, and kept as a
    :class:`~captum_neuroinspect.scale.ChangeTotals`; these join without rounding, and so do the
    sums of a reference and of the changes' agreement. The ranking is the same to the last bit
    whatever the number of workers, the order in which parts end, and faults. It is that of
    :func:`~captum_neuroinspect.attr.rank_neurons` for the same changes: its votes are equal; its
    magnitudes, which ``rank_neurons`` adds up in float32 blocks, are rounded less.

    Args:
        features: of the photos.
        head: the decision layer that gave their logits.
        out: a folder of the partial results; a further call goes on from those that are there.
        mistakes: which mistakes, and how they vote. None: all, as the paper has it.
        reference: samples that the model gets right: features of photos, often the same ones
            (:func:`~captum_neuroinspect.scale.reference_at_scale`), or a
            :class:`~captum_neuroinspect.Reference`. Without a fixed ``effect`` the changes are
            solved and kept first, as large as their features, and their agreement gives it.
        min_precision: as in :func:`~captum_neuroinspect.attr.rank_neurons`, and so
        by: the order.
        options: workers; its ``part_size`` and ``batch_size`` play no role.

    Returns:
        The ranking.

    Raises:
        ValueError: when the head is not that of the logits, no mistake is found, ``reference``
            has other features or fewer than two correct photos, ``by`` is unknown, ``k`` or
            ``min_precision`` is out of range, or ``out`` was begun with other arguments.
        OSError: when the folder cannot be written.
    """
    options, mistakes, out = options or ScaleOptions(), mistakes or MistakesToRank(), Path(out)
    if by is None:
        by = "precision" if reference is None else "mean"
    k = _check(features, head, mistakes, reference, min_precision, by)
    settings = NeuronCounterfactual(head, head, solver=mistakes.solver, penalty=mistakes.penalty)
    plan = {
        "features": features.identity,
        "head": features.head_fingerprint,
        "target": mistakes.target,
        "predicted": mistakes.predicted,
        "k": k,
        "solver": repr(settings.solver),
        "penalty": repr(settings.penalty),
        "reference": _named(reference),
        "n_threads": options.n_threads,
    }
    n_parts = len(features)
    begin(out, plan)
    # With a reference there are several stages.
    with one_session(options) if reference is not None else nullcontext():
        if isinstance(reference, FeatureParts):
            reference = reference_at_scale(reference, out / "reference", options=options)
        weight, bias = head.weight.detach().cpu(), head.bias
        made = _MakeRankWork(
            str(features.folder.resolve()), str(out.resolve()), mistakes, k, weight,
            None if bias is None else bias.detach().cpu(), reference,
        )  # fmt: skip
        if reference is not None and reference.effect is None:
            changes = out / "changes"
            run_missing(changes, plan, n_parts, partial(_ChangesWork, made), options)
            found = combined(one.directions for one in kept(changes, n_parts, _Changes))
            reference = reference.weighted(found.agreement())
            made = replace(made, reference=reference, changes=str(changes.resolve()))
        run_missing(out, plan, n_parts, partial(_RankWork, made), options)
        return _ranking(combined(kept(out, n_parts, ChangeTotals)), by, min_precision, reference)


@dataclass(frozen=True)
class _MakeRankWork:
    """What is sent to a worker."""

    features: str
    out: str
    mistakes: MistakesToRank
    k: int
    weight: Tensor
    bias: Tensor | None
    reference: Reference | None
    changes: str | None = None  # a folder of those that are solved already

    def solver(self) -> NeuronCounterfactual:
        n_classes, n_features = self.weight.shape
        head = nn.utils.skip_init(nn.Linear, n_features, n_classes, bias=self.bias is not None)
        with torch.no_grad():
            head.weight.copy_(self.weight)
            if self.bias is not None:
                head.bias.copy_(self.bias)
        which = self.mistakes
        return NeuronCounterfactual(head, head, solver=which.solver, penalty=which.penalty)


@dataclass(frozen=True, eq=False)
class _Changes:
    """The changes of a part's mistakes, and where they point."""

    w: Tensor
    unfinished: Tensor
    directions: ChangeDirections

    def tensors(self) -> dict[str, Tensor]:
        return {"w": self.w, "unfinished": self.unfinished, **self.directions.tensors()}

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> _Changes:
        return cls(kept["w"], kept["unfinished"], ChangeDirections.from_tensors(kept))


class _ChangesWork:
    """Solves the mistakes of a part."""

    def __init__(self, made: _MakeRankWork) -> None:
        self._made, self._changes = made, made.solver()
        self._features = FeatureParts.open(made.features)
        self._out = Path(made.out) / "changes"

    def do(self, part: int) -> None:
        if kept_parts(self._out).record(part) is None:
            mistakes = _mistakes(self._features, part, self._made)
            commit(self._out, part, _solved(self._changes, mistakes))


class _RankWork:
    """Adds up the changes of a part's mistakes."""

    def __init__(self, made: _MakeRankWork) -> None:
        self._made = made
        self._changes = made.solver() if made.changes is None else None
        self._features = FeatureParts.open(made.features)

    def do(self, part: int) -> None:
        if kept_parts(self._made.out).record(part) is None:
            commit(self._made.out, part, self._totals(part))

    def _totals(self, part: int) -> ChangeTotals:
        made = self._made
        mistakes = _mistakes(self._features, part, made)
        if self._changes is not None:
            found = _solved(self._changes, mistakes)
        else:
            assert made.changes is not None
            found = kept_part(Path(made.changes), part, _Changes)
        w = found.w
        if made.reference is not None and len(w):
            w = made.reference.contrast(w, mistakes.features, mistakes.labels)
        return ChangeTotals.of(w, made.k, found.unfinished)


def _mistakes(features: FeatureParts, part: int, made: _MakeRankWork) -> FeatureSet:
    return features[part].features.mistakes(made.mistakes.target, made.mistakes.predicted)


def _solved(changes: NeuronCounterfactual, mistakes: FeatureSet) -> _Changes:
    w, unfinished = mistakes.features, torch.zeros(0, dtype=torch.bool)
    if len(mistakes):
        with warnings.catch_warnings():
            # The ranking counts those that do not reach their class.
            warnings.simplefilter("ignore", RuntimeWarning)
            solved = changes.attribute_features(
                mistakes.features, mistakes.labels, return_details=True
            )
        w, unfinished = solved.w, ~(solved.converged | solved.already_correct)
    return _Changes(w, unfinished, ChangeDirections.of(w[~unfinished]))


def _check(
    features: FeatureParts,
    head: nn.Linear,
    mistakes: MistakesToRank,
    reference: Reference | FeatureParts | None,
    min_precision: float | None,
    by: str,
) -> int:
    """Refuse what cannot be ranked; the number of votes."""
    if head_fingerprint(check_head(head)) != features.head_fingerprint:
        raise ValueError("head is not the decision layer that gave the features' logits")
    if by not in ("precision", "magnitude", "mean"):
        raise ValueError(f"by={by!r}, expected 'precision', 'magnitude' or 'mean'")
    if min_precision is not None and not 0 <= min_precision <= 1:
        raise ValueError(f"min_precision={min_precision}, expected a share in 0..1")
    if isinstance(reference, Reference) and reference.level.shape[1] != head.in_features:
        raise ValueError(
            f"reference has {reference.level.shape[1]} features, the head takes {head.in_features}"
        )
    usual = _VOTES if reference is None else _CONTRAST_VOTES
    k = min(usual, head.in_features) if mistakes.k is None else mistakes.k
    check_whole("k", k)
    if not 1 <= k <= head.in_features:
        raise ValueError(f"k={k}, expected 1..{head.in_features} (the number of features)")
    return k


def _named(reference: Reference | FeatureParts | None) -> object:
    if reference is None:
        return None
    if isinstance(reference, FeatureParts):
        return reference.identity
    return [
        tensor_fingerprint(reference.level),
        tensor_fingerprint(reference.spread),
        reference.effect,
    ]


def _ranking(
    found: ChangeTotals, by: Order, min_precision: float | None, reference: Reference | None
) -> NeuronRanking:
    if not found.n_voters:
        raise ValueError(
            "no mistake has a change that reaches its class: there is nothing to rank "
            f"({found.n_right} need none, {found.n_unfinished} did not reach it)"
        )
    if min_precision is None:
        min_precision = default_share(found.n_voters, by, reference is not None)
    totals = VoteTotals(
        found.more.value(),
        found.less.value(),
        found.more_votes.double() / found.n_voters,
        found.less_votes.double() / found.n_voters,
    )
    insufficient, excessive, both = neuron_lists(totals, min_precision, by)
    return NeuronRanking(
        insufficient,
        excessive,
        both,
        n_mistakes=found.n_voters,
        k=found.k,
        effect=None if reference is None else reference.effect,
        n_right=found.n_right,
        n_unfinished=found.n_unfinished,
    )
