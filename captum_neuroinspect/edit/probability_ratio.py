"""How much neurons raise a class above the others: equations (6) and (7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_neuroinspect._head import check_head, head_tensors
from captum_neuroinspect._modules import as_indices, check_indices


def probability_ratio(
    head: nn.Linear, features: Tensor, neurons: int | list[int] | tuple[int, ...], target: int
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

    Returns:
        ``(N,)`` positive ratios.

    Raises:
        TypeError: when ``head`` is not linear or ``neurons`` are not whole numbers.
        ValueError: when an index is out of range, ``neurons`` is empty or repeats
            one, or features do not fit the head.

    Examples::

        >>> head = nn.Linear(2, 2, bias=False)
        >>> _ = head.weight.data.copy_(torch.eye(2))
        >>> probability_ratio(head, torch.tensor([[0.0, 1.0]]), 0, target=0)
        tensor([1.])
    """
    weight, bias = head_tensors(check_head(head))
    chosen = checked_neurons(neurons, head.in_features)
    check_target(target, head.out_features)
    if features.ndim != 2 or features.shape[1] != head.in_features:
        raise ValueError(
            f"features have shape {tuple(features.shape)}, expected (N, {head.in_features})"
        )
    features = features.detach().to("cpu", torch.float32)
    logits = features @ weight.T + bias
    return ratio_from_logits(logits, logits - share_of(features, weight, chosen), target)


def share_of(features: Tensor, weight: Tensor, neurons: Tensor) -> Tensor:
    """What the neurons add to each logit, ``(N, C)``: the masked logits are the rest."""
    return features[:, neurons] @ weight[:, neurons].T


def ratio_from_logits(logits: Tensor, masked_logits: Tensor, target: int) -> Tensor:
    """Equation (7) from both sets of logits ``(N, C)``, by differences of logarithms."""
    log_ratio = logits.log_softmax(1)[:, target] - masked_logits.log_softmax(1)[:, target]
    return log_ratio.exp()


def single_ratios(
    weight: Tensor, bias: Tensor, mean: Tensor, neurons: Tensor, target: int
) -> Tensor:
    """The ratio of each neuron by itself, at one vector of mean features; ``(len(neurons),)``."""
    logits = (weight @ mean + bias).expand(len(neurons), -1)
    without = logits - weight[:, neurons].T * mean[neurons, None]
    return ratio_from_logits(logits, without, target)


def checked_neurons(neurons: int | list[int] | tuple[int, ...], n_features: int) -> Tensor:
    """Neurons as indices: at least one, none twice, all in range.

    Raises:
        ValueError: when that is not so.
    """
    chosen = as_indices("neurons", neurons)
    if not len(chosen):
        raise ValueError("neurons is empty: expected at least one index")
    if len(chosen.unique()) != len(chosen):
        raise ValueError(f"neurons={chosen.tolist()} repeats an index, expected each once")
    check_indices("neuron", chosen, n_features, f"the head takes {n_features} features")
    return chosen


def check_target(target: int | None, n_classes: int) -> None:
    """Refuse a missing class or one out of range."""
    if target is None:
        raise ValueError("target is missing: give the index of the class that is to be mended")
    check_indices("target", as_indices("target", target), n_classes, f"{n_classes} classes")
