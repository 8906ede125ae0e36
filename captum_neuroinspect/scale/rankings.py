"""A ranking of neurons over the mistakes of many photos: a map and an exact reduction."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.fingerprint import head_fingerprint, tensor_fingerprint
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect._core.kept_file import read_kept, write_kept
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
from captum_neuroinspect.scale._running import run_parts
from captum_neuroinspect.scale.committed import CommittedParts
from captum_neuroinspect.scale.features import FeatureParts
from captum_neuroinspect.scale.options import ScaleOptions
from captum_neuroinspect.scale.reduction import ChangeTotals, combined

_KIND = "ChangeTotals"
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
    reference: Reference | None = None,
    min_precision: float | None = None,
    by: Order | None = None,
    options: ScaleOptions | None = None,
) -> NeuronRanking:
    """Rank the neurons behind mistakes, part by part of the features.

    Each part's counterfactuals are solved by themselves, added up, and kept as a
    :class:`~captum_neuroinspect.scale.ChangeTotals`; these join without rounding. The ranking is
    the same to the last bit whatever the number of workers, the order in which parts end, and
    faults. It is that of :func:`~captum_neuroinspect.attr.rank_neurons` for the same changes:
    its votes are equal; its magnitudes, which ``rank_neurons`` adds up in float32 blocks, are
    rounded less.

    Args:
        features: of the photos.
        head: the decision layer that gave their logits.
        out: a folder of the partial results; a further call goes on from those that are there.
        mistakes: which mistakes, and how they vote. None: all, as the paper has it.
        reference: samples that the model gets right, with a fixed ``effect``: the agreement of
            all changes, which gives it in ``rank_neurons``, is not known to one part.
        min_precision: as in :func:`~captum_neuroinspect.attr.rank_neurons`, and so
        by: the order.
        options: workers; its ``part_size`` and ``batch_size`` play no role.

    Returns:
        The ranking.

    Raises:
        ValueError: when the head is not that of the logits, no mistake is found, ``reference``
            has no ``effect`` or other features, ``by`` is unknown, ``k`` or ``min_precision`` is
            out of range, or ``out`` was begun with other arguments.
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
    begin(out, plan)
    parts = CommittedParts(out / "parts", ".safetensors")
    parts.folder.mkdir(parents=True, exist_ok=True)
    parts.clear()
    missing = [part for part in range(len(features)) if parts.record(part) is None]
    weight, bias = head.weight.detach().cpu(), head.bias
    work = _MakeRankWork(
        str(features.folder.resolve()), str(out.resolve()), mistakes, k, weight,
        None if bias is None else bias.detach().cpu(), reference,
    )  # fmt: skip
    run_parts(work, missing, options, "parts")
    parts.clear()
    found = combined(
        ChangeTotals.from_tensors(read_kept(parts.path(part), _KIND)[0])
        for part in range(len(features))
    )
    return _ranking(found, by, min_precision, reference)


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

    def __call__(self) -> _RankWork:
        n_classes, n_features = self.weight.shape
        head = nn.utils.skip_init(nn.Linear, n_features, n_classes, bias=self.bias is not None)
        with torch.no_grad():
            head.weight.copy_(self.weight)
            if self.bias is not None:
                head.bias.copy_(self.bias)
        return _RankWork(self, head)


class _RankWork:
    """Solves the mistakes of a part, and adds them up."""

    def __init__(self, made: _MakeRankWork, head: nn.Linear) -> None:
        self._made = made
        self._features = FeatureParts.open(made.features)
        self._parts = CommittedParts(Path(made.out) / "parts", ".safetensors")
        which = made.mistakes
        self._changes = NeuronCounterfactual(head, head, solver=which.solver, penalty=which.penalty)

    def do(self, part: int) -> None:
        if self._parts.record(part) is not None:
            return
        totals = self._totals(part)
        self._parts.commit(
            part,
            lambda file: write_kept(file, _KIND, totals.tensors(), {}),
            {"n_voters": totals.n_voters},
        )

    def _totals(self, part: int) -> ChangeTotals:
        which, reference = self._made.mistakes, self._made.reference
        features = self._features[part].features
        found = features.mistakes(which.target, which.predicted)
        if not len(found):
            return ChangeTotals.of(found.features, self._made.k)
        with warnings.catch_warnings():
            # The ranking counts those that do not reach their class.
            warnings.simplefilter("ignore", RuntimeWarning)
            solved = self._changes.attribute_features(
                found.features, found.labels, return_details=True
            )
        w = solved.w
        if reference is not None:
            w = reference.contrast(w, found.features, found.labels)
        return ChangeTotals.of(w, self._made.k, ~(solved.converged | solved.already_correct))


def _check(
    features: FeatureParts,
    head: nn.Linear,
    mistakes: MistakesToRank,
    reference: Reference | None,
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
    if reference is not None and reference.effect is None:
        raise ValueError(
            "reference has no effect, expected a fixed weight (Reference.of(..., effect=0.25)): "
            "one part does not know how far all mistakes agree"
        )
    if reference is not None and reference.level.shape[1] != head.in_features:
        raise ValueError(
            f"reference has {reference.level.shape[1]} features, the head takes {head.in_features}"
        )
    usual = _VOTES if reference is None else _CONTRAST_VOTES
    k = min(usual, head.in_features) if mistakes.k is None else mistakes.k
    if not 1 <= k <= head.in_features:
        raise ValueError(f"k={k}, expected 1..{head.in_features} (the number of features)")
    return k


def _named(reference: Reference | None) -> object:
    if reference is None:
        return None
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
