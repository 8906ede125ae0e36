"""What judges an edit: photos that its head was not fitted to and not chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect.edit._outcomes import logits_of, with_logits_of


@dataclass(frozen=True, eq=False)
class Judged:
    """Samples that were used for nothing else, before an edit and after it; row i is one sample.

    Logits, labels, indices and groups; the features, which take room, are left out. Of more than
    1,000 classes ``before`` shares the logits of the set that judged, where these are the
    original head's: ``after`` is the only copy, N x C x 4 bytes.

    Attributes:
        before: what the original head says of them.
        after: what heads say that were neither fitted to a sample nor chosen by it: the edited
            head, or for each sample one that was made in the same way without it.
        how: in words: "60 photos that were used for nothing else", or "60 photos, cross-fitted
            over 5 folds".

    Raises:
        ValueError: when the two are not of the same samples.
    """

    before: FeatureSet
    after: FeatureSet
    how: str

    def __post_init__(self) -> None:
        before, after = self.before, self.after
        if len(before) != len(after) or not torch.equal(before.labels, after.labels):
            raise ValueError(
                f"before has {len(before)} samples and after {len(after)}, expected the same "
                "samples in the same order"
            )

    def __len__(self) -> int:
        return len(self.before)

    def __repr__(self) -> str:
        return (
            f"Judged({self.how}: accuracy {self.before.accuracy():.3f} -> "
            f"{self.after.accuracy():.3f})"
        )


def judged_by(original: nn.Linear, head: nn.Linear, test: FeatureSet) -> Judged:
    """Both heads on samples that are test photos and nothing else.

    Examples::

        >>> z, labels = torch.eye(2), torch.tensor([0, 1])
        >>> heads = [nn.Linear(2, 2) for _ in range(2)]
        >>> judged_by(*heads, FeatureSet(z, heads[0](z).detach(), labels)).how
        '2 photos that were used for nothing else'
    """
    before = _bare(with_logits_of(test, original))
    logits = logits_of(test, head, original)
    after = replace(before, logits=logits, head_fingerprint=head_fingerprint(head))
    return Judged(before, after, f"{n_photos(len(test))} that were used for nothing else")


def judged_in_folds(
    original: nn.Linear, heads: Sequence[nn.Linear], held_out: FeatureSet, folds: Tensor
) -> Judged:
    """Each sample by the head that was made without its fold.

    Args:
        original: the head before.
        heads: one a fold.
        held_out: N samples.
        folds: ``(N,)`` fold of each.
    """
    logits = torch.empty(len(held_out), original.out_features)
    for fold, head in enumerate(heads):
        logits[folds == fold] = logits_of(held_out.subset(folds == fold), head, original)
    after = replace(_bare(held_out), logits=logits, head_fingerprint=None)
    how = f"{n_photos(len(held_out))}, cross-fitted over {len(heads)} folds"
    return Judged(_bare(with_logits_of(held_out, original)), after, how)


def n_photos(n: int) -> str:
    return f"{n:,} photo{'' if n == 1 else 's'}"


def _bare(data: FeatureSet) -> FeatureSet:
    return replace(data, features=data.features[:, :0])
