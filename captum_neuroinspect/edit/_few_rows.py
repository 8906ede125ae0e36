"""A large head fitted in the rows that matter to a class, by a sample of what the others are.

A sample's cross entropy depends on the rows that stay through one number, the logarithm of the
sum of their exponentials. It is computed once, so that a step costs what the few rows cost, and
what is minimised is the cross entropy over all classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import head_values
from captum_neuroinspect.edit._mend_fit import Weighted, anchored_fit, cue_of, moved_samples
from captum_neuroinspect.edit._outcomes import block_size
from captum_neuroinspect.edit.head_diff import changed_rows

# Samples of the fitted classes, and of the others, that are taken at most from each set.
_MOST_SAMPLES = 1000


@dataclass(frozen=True, eq=False)
class FewRows:
    """What is fitted of a head with many classes.

    Memory beside the sets: a few copies of the head, and features and logits of the fitted
    classes of at most some 6,000 samples and of those of the target.

    Attributes:
        head: C classes.
        train: with the head's logits.
        target: the class to mend.
        target_weight: beside 1 for each other class.
        max_classes: rows that are fitted at most, the target's among them.
        seed: draws the samples.
    """

    head: nn.Linear
    train: FeatureSet
    target: int
    target_weight: float
    max_classes: int
    seed: int

    def fitted(self, deployment: FeatureSet, neurons: Tensor, anchor: float) -> nn.Linear:
        """A head that differs from the original in the fitted classes only.

        Args:
            deployment: with the head's logits, and samples of the target.
            neurons: the chosen features, int64; may be empty.
            anchor: weight of the squared distance from the original.
        """
        weight, bias = head_values(self.head)
        cue = cue_of(self.train, deployment, self.target, neurons)
        classes = self._classes(deployment, weight[:, neurons] @ cue[neurons])
        samples = moved_samples(
            self.train,
            deployment,
            self.target,
            neurons,
            self.target_weight,
            stands_for=(
                self._stands_for(self.train, classes),
                self._stands_for(deployment, classes),
            ),
        )
        stays = self._log_sum_of_others(samples, deployment, classes, neurons, weight)
        places = torch.full((len(weight),), len(classes))
        places[classes] = torch.arange(len(classes))
        new = anchored_fit(
            replace(samples, labels=places[samples.labels]),
            weight[classes],
            bias[classes],
            anchor=anchor,
            has_bias=self.head.bias is not None,
            others=stays,
        )
        differences = (
            now.double() - old[classes].double()
            for now, old in zip(new, (weight, bias), strict=True)
        )
        return changed_rows(self.head, classes, *differences)

    def _classes(self, deployment: FeatureSet, response: Tensor) -> Tensor:
        """The target, classes confused with it, classes in deployment, those the cue raises.

        Args:
            deployment: as in :meth:`fitted`.
            response: ``(C,)`` what the cue adds to each logit.
        """
        given = torch.cat([self._train_given, deployment.predictions])
        labels = torch.cat([self.train.labels, deployment.labels])
        mine, taken = labels == self.target, given == self.target
        confused = _by_count(torch.cat([given[mine], labels[taken]]))
        in_deployment = _by_count(torch.cat([deployment.labels, deployment.predictions]))
        raised = (
            response.argsort(descending=True, stable=True) if response.any() else in_deployment[:0]
        )
        found = dict.fromkeys([self.target, *confused.tolist()])
        for both in zip_longest(in_deployment.tolist(), raised[: self.max_classes].tolist()):
            found |= dict.fromkeys(c for c in both if c is not None)
        return torch.tensor(sorted(list(found)[: self.max_classes]))

    @cached_property
    def _train_given(self) -> Tensor:
        return self.train.predictions

    def _stands_for(self, data: FeatureSet, classes: Tensor) -> Tensor:
        """``(N,)`` how many samples each stands for; 0: it is left out.

        All of the target; of the fitted classes, and of the others, so many that the fit stays
        small, drawn at random.
        """
        rng = torch.Generator().manual_seed(self.seed)
        counts = torch.ones(len(data))
        is_fitted, is_mine = torch.isin(data.labels, classes), data.labels == self.target
        for kind in (is_fitted & ~is_mine, ~is_fitted):
            rows = kind.nonzero()[:, 0]
            if len(rows) > _MOST_SAMPLES:
                drawn = rows[torch.randperm(len(rows), generator=rng)[:_MOST_SAMPLES]]
                counts[rows] = 0
                counts[drawn] = len(rows) / _MOST_SAMPLES
        return counts

    def _log_sum_of_others(
        self,
        samples: Weighted,
        deployment: FeatureSet,
        classes: Tensor,
        neurons: Tensor,
        weight: Tensor,
    ) -> Tensor:
        """``(N,)`` logarithm of the summed exponentials of the logits that stay."""
        columns = weight[:, neurons]
        found = [
            _moved(logits, now, was, columns).index_fill_(1, classes, -torch.inf).logsumexp(1)
            for logits, now, was in self._blocks(samples, deployment, neurons)
        ]
        return torch.cat(found)

    def _blocks(
        self, samples: Weighted, deployment: FeatureSet, neurons: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Logits ``(n, C)`` before the move, and the chosen neurons ``(n, K)`` after and before."""
        n_train, n_classes = len(self.train), self.head.out_features
        for rows in torch.arange(len(samples.labels)).split(block_size(deployment)):
            sources = samples.sources[rows]
            of_train = sources < n_train
            pairs = (self.train, sources[of_train]), (deployment, sources[~of_train] - n_train)
            logits, was = torch.empty(len(rows), n_classes), torch.empty(len(rows), len(neurons))
            for where, (data, at) in zip((of_train, ~of_train), pairs, strict=True):
                logits[where] = data.logits[at].float()
                was[where] = data.features[at][:, neurons]
            yield logits, samples.features[rows][:, neurons], was


def _moved(logits: Tensor, now: Tensor, was: Tensor, columns: Tensor) -> Tensor:
    """Logits after the move of a few neurons, in place."""
    return logits if now.equal(was) else logits.addmm_(now - was, columns.T)


def _by_count(classes: Tensor) -> Tensor:
    """Different classes, the most frequent first, of equals the smaller index."""
    found, counts = classes.unique(return_counts=True)
    return found[counts.argsort(descending=True, stable=True)]
