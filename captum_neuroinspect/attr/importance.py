"""How much each neuron by itself raises a class: equation (7), as the authors show it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head, head_tensors
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect._core.ratios import LINKS, Link, n_classes_of, single_ratios
from captum_neuroinspect._core.undisturbed import undisturbed

# Entries of the logits without one neuron each that are computed at once.
_ENTRIES = 2**22


@undisturbed()
def neuron_importance(
    head: nn.Linear, features: FeatureSet | Tensor, target: int, *, link: Link | None = None
) -> Tensor:
    r"""The class's probability with all neurons, over that without one, at mean features.

    .. math:: r_{c,j} = softmax(W\mu + b)_c / softmax(W(\mu \odot m_j) + b)_c

    where ``m_j`` zeroes neuron j. Above 1: the neuron raises the class more than the others;
    below 1: it speaks for other classes. The authors call it importance, and show it beside the
    ranking. :func:`~captum_neuroinspect.edit.probability_ratio` is the same of several neurons
    together, sample by sample.

    Args:
        head: the decision layer, F features to C classes.
        features: labelled samples, of which those of the class that are right are averaged; or
            mean features ``(F,)``, such as of all validation photos, where the authors look.
        target: class index ``c``.
        link: ``"softmax"``, or ``"sigmoid"`` for outputs that are decisions of their own. None:
            as the head and the labels say.

    Returns:
        ``(F,)`` float64 positive ratios on the CPU.

    Raises:
        TypeError: when ``head`` is not linear, or features are neither a set nor a tensor.
        ValueError: when the class is out of range or not one, the link is unknown, features do
            not fit the head or are not finite, or none of the samples of the class is right.

    Examples::

        >>> head = nn.Linear(2, 2, bias=False)
        >>> _ = head.weight.data.copy_(torch.eye(2))
        >>> neuron_importance(head, torch.tensor([1.0, 0.0]), target=0)  # e / (e + 1) over 1 / 2
        tensor([1.4621, 1.0000], dtype=torch.float64)
    """
    weight, bias = head_tensors(check_head(head))
    if link is None:
        is_multi_hot = isinstance(features, FeatureSet) and features.is_multi_hot
        link = "sigmoid" if is_multi_hot or head.out_features == 1 else "softmax"
    if link not in LINKS:
        raise ValueError(f"link={link!r}, expected one of {LINKS}")
    n_classes = n_classes_of(head.out_features, link)
    index = as_indices("target", target)
    if len(index) != 1:
        raise ValueError(f"target={target}, expected one class")
    check_indices("target", index, n_classes, f"{n_classes} classes")
    mean = _mean(features, int(index)).to("cpu", torch.float64)
    if mean.shape != (head.in_features,):
        raise ValueError(
            f"features give a mean {tuple(mean.shape)}, expected ({head.in_features},)"
        )
    if not mean.isfinite().all():
        raise ValueError("features have NaN or infinite values")
    weight, bias = weight.double(), bias.double()
    parts = torch.arange(len(mean)).split(max(1, _ENTRIES // len(weight)))
    return torch.cat([single_ratios(weight, bias, mean, p, int(index), link) for p in parts])


def _mean(features: FeatureSet | Tensor, target: int) -> Tensor:
    if isinstance(features, Tensor):
        return features.detach()
    if not isinstance(features, FeatureSet):
        raise TypeError(f"features is a {type(features).__name__}, expected a FeatureSet or (F,)")
    right = features.correct(target).features
    if not len(right):
        raise ValueError(
            f"target={target}: none of its samples is right, expected one to take the mean of"
        )
    return right.double().mean(0)
