"""Whether feature sets are of one model, as far as they know which they are of."""

from __future__ import annotations

from torch import nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import head_fingerprint


def check_same_head(head: nn.Linear, **sets: FeatureSet | None) -> None:
    """Refuse sets whose logits are known to be another head's; ``None`` is no set.

    Raises:
        ValueError: names the set, both heads, and what to do.
    """
    expected = head_fingerprint(head)
    for name, data in sets.items():
        if data is not None and data.head_fingerprint not in (None, expected):
            raise ValueError(
                f"{name} was judged by another head (fingerprint {data.head_fingerprint}, this "
                f"head has {expected}): collect it with this model, or, if only the head "
                f"differs, give {name}.with_head(head)"
            )


def check_same_backbone(**sets: FeatureSet | None) -> None:
    """Refuse sets whose features are known to be of different models; ``None`` is no set.

    Raises:
        ValueError: names the sets with their backbones.

    Examples::

        >>> import torch
        >>> z = torch.eye(2)
        >>> one = FeatureSet(z, z, torch.tensor([0, 1]), backbone_fingerprint="a")
        >>> check_same_backbone(train=one, test=FeatureSet(z, z, torch.tensor([0, 1])))
    """
    known = {
        name: data.backbone_fingerprint
        for name, data in sets.items()
        if data is not None and data.backbone_fingerprint
    }
    if len(set(known.values())) > 1:
        raise ValueError(f"the sets come from different backbones: {known}")
