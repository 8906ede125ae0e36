"""What :func:`mend` finds and fits, and what held-out samples say of it beside the original."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect.edit._few_rows import FewRows
from captum_neuroinspect.edit._mend_fit import anchored_fit, moved_samples
from captum_neuroinspect.edit._outcomes import is_right, with_logits_of
from captum_neuroinspect.edit.head_diff import changed, copy_of
from captum_neuroinspect.edit.method_records import HeldOutAccuracy

_ANCHOR = 1e-2
_N_FOLDS = 3
_N_VOTES = 5  # of each mistake, in each direction


@dataclass(frozen=True, eq=False)
class Mending:
    """One head to mend, with the samples and settings.

    ``given`` are the neurons to move; ``None``: they are found. ``max_classes`` are the rows of a
    large head that are fitted, by sets that have its logits; ``None``: all.
    """

    head: nn.Linear
    train: FeatureSet
    validation: FeatureSet
    deployment: FeatureSet
    target: int
    n_neurons: int
    target_weight: float
    seed: int
    given: Tensor | None = None
    max_classes: int | None = None

    def candidates(self) -> tuple[HeldOutAccuracy, HeldOutAccuracy]:
        """The original head, and heads that were found and fitted without a third of the samples.

        Each of these is judged on the third that it was not fitted to.
        """
        parts = self._parts(self.deployment)
        heads = (self._without(parts == part) for part in range(_N_FOLDS))  # one at a time
        return (
            self._judged([self.head] * _N_FOLDS, parts),
            self._judged(heads, parts),
        )

    def fitted(self, deployment: FeatureSet, neurons: Tensor) -> nn.Linear:
        """A head near the original in which these neurons no longer tell the target."""
        if not (deployment.labels == self.target).any():
            return copy_of(self.head)
        if self._few_rows is not None:
            return self._few_rows.fitted(deployment, neurons, _ANCHOR)
        weight, bias = head_tensors(self.head)
        samples = moved_samples(self.train, deployment, self.target, neurons, self.target_weight)
        has_bias = self.head.bias is not None
        new = anchored_fit(samples, weight, bias, anchor=_ANCHOR, has_bias=has_bias)
        d_weight, d_bias = (
            now.double() - old.double() for now, old in zip(new, (weight, bias), strict=True)
        )
        return changed(self.head, d_weight, d_bias)

    def neurons(self, deployment: FeatureSet) -> Tensor:
        """The given neurons, or those behind the target's mistakes, if there are any."""
        if self.given is not None:
            return self.given
        if not self.n_neurons:
            return torch.empty(0, dtype=torch.int64)
        is_wrong = ~is_right(deployment, self.head)
        wrong = deployment.subset(is_wrong & (deployment.labels == self.target))
        reference = with_logits_of(self.train, self.head)
        return neurons_behind(self.head, wrong, reference)[: self.n_neurons]

    @cached_property
    def _few_rows(self) -> FewRows | None:
        if self.max_classes is None:
            return None
        return FewRows(
            self.head, self.train, self.target, self.target_weight, self.max_classes, self.seed
        )

    def _without(self, part: Tensor) -> nn.Linear:
        deployment = self.deployment.subset(~part)
        return self.fitted(deployment, self.neurons(deployment))

    def _judged(self, heads: Iterable[nn.Linear], parts: Tensor) -> HeldOutAccuracy:
        """Each head on validation, where their mean counts, and on its own part."""
        validation, deployment = self.validation, self.deployment
        on_validation, on_deployment = torch.zeros(len(validation)), torch.zeros(len(deployment))
        for part, head in enumerate(heads):
            on_validation += is_right(validation, head, self.head) / _N_FOLDS
            on_deployment[parts == part] = is_right(deployment, head, self.head)[
                parts == part
            ].float()
        hits, labels = (
            torch.cat([on_validation, on_deployment]),
            torch.cat([validation.labels, deployment.labels]),
        )
        mine = float(on_deployment[deployment.labels == self.target].mean())
        others = [
            float(hits[labels == c].mean()) for c in labels.unique().tolist() if c != self.target
        ]
        return HeldOutAccuracy(mine, (mine + sum(others)) / (1 + len(others)))

    def _parts(self, deployment: FeatureSet) -> Tensor:
        """``(N,)`` part of each sample: each class's right and wrong ones are dealt out in turn."""
        shuffled = torch.randperm(
            len(deployment), generator=torch.Generator().manual_seed(self.seed)
        )
        kind = 2 * deployment.labels + deployment.is_correct.long()
        order = shuffled[kind[shuffled].argsort(stable=True)]
        parts = torch.empty(len(deployment), dtype=torch.int64)
        parts[order] = torch.arange(len(deployment)) % _N_FOLDS
        return parts


def neurons_behind(head: nn.Linear, mistakes: FeatureSet, reference: FeatureSet) -> Tensor:
    """Rank neurons by mistakes, those that explain most first.

    Args:
        head: that makes them.
        mistakes: samples that it gets wrong; may be empty.
        reference: samples to contrast the mistakes with; those that are right count.

    Returns:
        ``(K,)`` int64, none without mistakes.
    """
    # Captum imports matplotlib, which an edit by itself does not need.
    from captum_neuroinspect.attr import NeuronCounterfactual, rank_neurons

    nothing = torch.empty(0, dtype=torch.int64)
    if not len(mistakes):
        return nothing
    w = NeuronCounterfactual(head, head).attribute_features(mistakes.features, mistakes.labels)
    if not w.any():
        return nothing
    ranking = rank_neurons(
        w,
        min(_N_VOTES, w.shape[1]),  # a head may have fewer features
        min_precision=0.0,
        features=mistakes.features,
        reference=reference,
        target=mistakes.labels,
    )
    return torch.tensor([int(row["neuron"]) for row in ranking.by_magnitude()], dtype=torch.int64)
