"""Rounds of finding neurons and fitting, each judged on samples that its fit did not see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect.edit._blame import blamed_neurons
from captum_neuroinspect.edit._few_rows import FewRows
from captum_neuroinspect.edit._layers import changed, copy_of
from captum_neuroinspect.edit._mend_fit import anchored_fit
from captum_neuroinspect.edit._moved_samples import moved_samples
from captum_neuroinspect.edit._outcomes import is_right, with_logits_of

_ANCHOR = 1e-2
_N_FOLDS = 3


@dataclass(frozen=True)
class MendRound:
    """What a round of :func:`mend` found, and what samples say that its head did not see.

    Attributes:
        neurons: those that were found in this round; the head is fitted with all so far.
        held_out_target: accuracy on the target's samples met in use, 0..1.
        held_out_mean: mean of that and of the other classes' accuracies on validation and
            met samples.
        kept: whether the round was worth it.
    """

    neurons: tuple[int, ...]
    held_out_target: float
    held_out_mean: float
    kept: bool = False


@dataclass(frozen=True, eq=False)
class Mending:
    """One head to mend, with the samples and settings that all its rounds share.

    ``given`` are the neurons of the first round; ``None``: they are found like the others.
    ``max_classes`` are the rows of a large head that are fitted, by sets that have its logits;
    ``None``: all.
    """

    head: nn.Linear
    train: FeatureSet
    validation: FeatureSet
    met: FeatureSet
    target: int
    n_neurons: int
    target_weight: float
    seed: int
    given: Tensor | None = None
    max_classes: int | None = None

    @cached_property
    def before(self) -> MendRound:
        """The head as it is, as a round that found nothing."""
        return self._judged((), [self.head] * _N_FOLDS, self._parts(self.met))

    def rounds(self) -> Iterator[MendRound]:
        """Without end; each head has the neurons of the rounds before and those found anew."""
        parts = self._parts(self.met)
        # A chain of rounds for all samples, and one without each part, to be judged on it.
        sets = [torch.ones_like(parts, dtype=torch.bool), *(parts != p for p in range(_N_FOLDS))]
        neurons, n_known = [self.first(self.met.subset(one)) for one in sets], 0
        while True:
            heads = (  # one at a time
                self.fitted(self.met.subset(one), found)
                for one, found in zip(sets[1:], neurons[1:], strict=True)
            )
            yield self._judged(tuple(neurons[0][n_known:].tolist()), heads, parts)
            n_known = len(neurons[0])
            neurons = [
                self._with_more(self.met.subset(one), found)
                for one, found in zip(sets, neurons, strict=True)
            ]

    def fitted(self, met: FeatureSet, neurons: Tensor) -> nn.Linear:
        """A head near the original in which these neurons no longer tell the target."""
        if not (met.labels == self.target).any():
            return copy_of(self.head)
        if self._few_rows is not None:
            return self._few_rows.fitted(met, neurons, _ANCHOR)
        weight, bias = head_tensors(self.head)
        samples = moved_samples(self.train, met, self.target, neurons, self.target_weight)
        has_bias = self.head.bias is not None
        new = anchored_fit(samples, weight, bias, anchor=_ANCHOR, has_bias=has_bias)
        d_weight, d_bias = (
            now.double() - old.double() for now, old in zip(new, (weight, bias), strict=True)
        )
        return changed(self.head, d_weight, d_bias)

    @cached_property
    def _few_rows(self) -> FewRows | None:
        if self.max_classes is None:
            return None
        return FewRows(
            self.head, self.train, self.target, self.target_weight, self.max_classes, self.seed
        )

    def first(self, met: FeatureSet) -> Tensor:
        """The given neurons, or those that the target's mistakes blame most, if there are any."""
        if self.given is not None:
            return self.given
        return self._blamed([(self.head, met)])

    def _with_more(self, met: FeatureSet, neurons: Tensor) -> Tensor:
        """And those that are blamed for what is wrong still.

        That is what heads fitted without a sample get wrong: a head gets those that it was
        fitted to right, nearly always.
        """
        parts = self._parts(met)
        judged = [
            (self.fitted(met.subset(parts != part), neurons), met.subset(parts == part))
            for part in range(_N_FOLDS)
        ]
        found = self._blamed(judged)
        return torch.cat([neurons, found[~torch.isin(found, neurons)]])

    def _blamed(self, judged: list[tuple[nn.Linear, FeatureSet]]) -> Tensor:
        if not self.n_neurons:
            return torch.empty(0, dtype=torch.int64)
        wrong = []
        for head, met in judged:
            is_wrong = ~is_right(met, head, self.head)
            wrong.append((head, met.subset(is_wrong & (met.labels == self.target))))
        return blamed_neurons(wrong, with_logits_of(self.train, self.head))[: self.n_neurons]

    def _judged(
        self, neurons: tuple[int, ...], heads: Iterable[nn.Linear], parts: Tensor
    ) -> MendRound:
        """Each head on validation, where their mean counts, and on its own part."""
        validation, met = self.validation, self.met
        on_validation, on_met = torch.zeros(len(validation)), torch.zeros(len(met))
        for part, head in enumerate(heads):
            on_validation += is_right(validation, head, self.head) / _N_FOLDS
            on_met[parts == part] = is_right(met, head, self.head)[parts == part].float()
        hits, labels = (
            torch.cat([on_validation, on_met]),
            torch.cat([validation.labels, met.labels]),
        )
        mine = float(on_met[met.labels == self.target].mean())
        others = [
            float(hits[labels == c].mean()) for c in labels.unique().tolist() if c != self.target
        ]
        return MendRound(neurons, mine, (mine + sum(others)) / (1 + len(others)))

    def _parts(self, met: FeatureSet) -> Tensor:
        """``(N,)`` part of each sample: each class's right and wrong ones are dealt out in turn."""
        shuffled = torch.randperm(len(met), generator=torch.Generator().manual_seed(self.seed))
        kind = 2 * met.labels + met.is_correct.long()
        order = shuffled[kind[shuffled].argsort(stable=True)]
        parts = torch.empty(len(met), dtype=torch.int64)
        parts[order] = torch.arange(len(met)) % _N_FOLDS
        return parts


def worthwhile_rounds(
    mending: Mending, max_cost: float, n_rounds: int
) -> tuple[tuple[MendRound, ...], str]:
    """Rounds up to the first that is not worth keeping, which stays on record; and why then."""
    before, done = mending.before, list[MendRound]()
    for now in mending.rounds():
        objection = _objection(now, done[-1] if done else None, before, max_cost)
        done.append(replace(now, kept=objection is None))
        if objection is not None:
            return tuple(done), objection
        if len(done) == n_rounds:
            return tuple(done), f"n_rounds={n_rounds} reached"
    raise AssertionError("rounds have no end")


def _objection(
    now: MendRound, last: MendRound | None, before: MendRound, max_cost: float
) -> str | None:
    if last is None:
        cost = before.held_out_mean - now.held_out_mean
        if cost > max_cost:
            return f"the edit costs {100 * cost:.1f} points of mean held-out accuracy"
    elif not now.neurons:
        return "what is wrong still blames no further neuron"
    elif now.held_out_target <= last.held_out_target:
        return "a further round gains nothing for the target on held-out samples"
    elif now.held_out_mean < last.held_out_mean:
        return "a further round costs mean held-out accuracy"
    return None
