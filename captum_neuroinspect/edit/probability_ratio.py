"""How much neurons raise a class above the others: equations (6) and (7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.head import check_head, head_tensors
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect._core.ratios import LINKS, Link, log_ratios, n_classes_of
from captum_neuroinspect._core.undisturbed import undisturbed


def data_loss(logits: Tensor, labels: Tensor, link: Link) -> Tensor:
    """Cross entropy of the labels, of each output by itself for ``"sigmoid"``: the mean."""
    if link == "softmax":
        return F.cross_entropy(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits).view_as(logits))


def divergence(original: Tensor, logits: Tensor, link: Link) -> Tensor:
    """KL divergence from the original's predictions to the new ones, mean over the batch.

    For ``"sigmoid"`` also the mean over the outputs, as in :func:`data_loss`.
    """
    if link == "softmax":
        old, new = original.log_softmax(-1), logits.log_softmax(-1)
        return F.kl_div(new, old, reduction="batchmean", log_target=True)
    old = original.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(original, old)
    return F.binary_cross_entropy_with_logits(logits, old) - entropy


@undisturbed()
def probability_ratio(
    head: nn.Linear,
    features: Tensor,
    neurons: int | list[int] | tuple[int, ...],
    target: int,
    *,
    link: Link = "softmax",
) -> Tensor:
    r"""The target's probability with the neurons, over that without them.

    .. math:: r_c(z) = softmax(Wz + b)_c / softmax(W(z \odot m) + b)_c

    where ``m`` zeroes the neurons together. ``r > 1``: they raise the class; ``r = 1``:
    the class treats them as the other classes do.

    Args:
        head: the decision layer, F features to C classes.
        features: ``(N, F)``.
        neurons: the features to leave out, all at once.
        target: class index ``c``.
        link: ``"softmax"``, or ``"sigmoid"`` for a head whose outputs are decisions of
            their own: then it takes the place of the softmax. A single output decides
            between class 1 (sigmoid of the logit) and class 0 (of its negative).

    Returns:
        ``(N,)`` positive ratios.

    Raises:
        TypeError: when ``head`` is not linear or ``neurons`` are not whole numbers.
        ValueError: when an index is out of range, ``neurons`` is empty or repeats
            one, ``link`` is unknown, or features do not fit the head.

    Examples::

        >>> head = nn.Linear(2, 2, bias=False)
        >>> _ = head.weight.data.copy_(torch.eye(2))
        >>> probability_ratio(head, torch.tensor([[0.0, 1.0]]), 0, target=0)
        tensor([1.])
    """
    weight, bias = head_tensors(check_head(head))
    if link not in LINKS:
        raise ValueError(f"link={link!r}, expected one of {LINKS}")
    chosen = checked_neurons(neurons, head.in_features)
    index = check_target(target, n_classes_of(head.out_features, link))
    if features.ndim != 2 or features.shape[1] != head.in_features:
        raise ValueError(
            f"features have shape {tuple(features.shape)}, expected (N, {head.in_features})"
        )
    features = features.detach().to("cpu", torch.float32)
    logits = features @ weight.T + bias
    share = (features[:, chosen] @ weight[:, chosen].T)[:, None]
    return log_ratios(logits, share, torch.tensor([index]), link)[:, 0, 0].exp()


def checked_neurons(
    neurons: int | list[int] | tuple[int, ...] | Tensor, n_features: int, name: str = "neurons"
) -> Tensor:
    """Neurons as indices: at least one, none twice, all in range.

    Args:
        neurons: as people give them.
        n_features: of the head.
        name: of the argument.

    Raises:
        TypeError: when they are not whole numbers.
        ValueError: when that is not so.
    """
    if isinstance(neurons, str):
        raise TypeError(f"{name}={neurons!r}, expected indices of features")
    chosen = as_indices(name, neurons)
    if not len(chosen):
        raise ValueError(f"{name} is empty: expected at least one index")
    if len(chosen.unique()) != len(chosen):
        raise ValueError(f"{name}={chosen.tolist()} repeats an index, expected each once")
    check_indices("neuron", chosen, n_features, f"the head takes {n_features} features")
    return chosen


def check_target(target: int | None, n_classes: int) -> int:
    """Refuse a missing class or one out of range."""
    if target is None:
        raise ValueError("target is missing: give the index of the class that is to be edited")
    index = as_indices("target", target)
    check_indices("target", index, n_classes, f"{n_classes} classes")
    return int(index)
