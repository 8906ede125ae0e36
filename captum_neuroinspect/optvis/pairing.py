"""Which classes to show a neuron in, and which neurons of a class, when none are given."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect._core.modules import as_indices, check_indices

_Pairs = tuple[list[int], list[int]]


def classes_of_neurons(
    head: nn.Linear, neurons: int | Sequence[int] | Tensor, n: int = 4
) -> _Pairs:
    """Pair neurons with the classes that they have the largest weights to.

    The classes of neuron j are those of the largest weights ``W[c, j]`` of the decision
    layer; of equal weights the first.

    Args:
        head: the decision layer.
        neurons: inputs of it.
        n: classes for each neuron.

    Returns:
        ``(neurons, classes)``, one pair for each image, the pairs of the first neuron
        first: ``render_illusions(model, *classes_of_neurons(head, 7))``.

    Raises:
        TypeError: when ``head`` is not linear, or a neuron or ``n`` is no whole number.
        ValueError: when there is no such neuron, or there are not ``n`` classes.

    Examples::

        >>> import torch
        >>> head = nn.Linear(2, 3)
        >>> head.weight.data = torch.tensor([[0.0, 5.0], [2.0, -1.0], [1.0, 3.0]])
        >>> classes_of_neurons(head, [1, 0], n=2)
        ([1, 1, 0, 0], [0, 2, 1, 2])
    """
    with exclusive(check_head(head)):
        return _strongest(head.weight.detach().T, "neurons", neurons, n, "classes")


def neurons_of_classes(
    head: nn.Linear, classes: int | Sequence[int] | Tensor, n: int = 4
) -> _Pairs:
    """Pair classes with the neurons that have the largest weights to them.

    The neurons of class c are those of the largest weights ``W[c, j]`` of the decision
    layer; of equal weights the first. Weights tell nothing of how often a neuron is
    active: for the neurons behind mistakes there is
    :func:`~captum_neuroinspect.rank_neurons`.

    Args:
        head: the decision layer.
        classes: outputs of it.
        n: neurons for each class.

    Returns:
        ``(neurons, classes)``, one pair for each image, the pairs of the first class
        first: ``render_illusions(model, *neurons_of_classes(head, 3))``.

    Raises:
        TypeError: when ``head`` is not linear, or a class or ``n`` is no whole number.
        ValueError: when there is no such class, or there are not ``n`` neurons.

    Examples::

        >>> import torch
        >>> head = nn.Linear(2, 3)
        >>> head.weight.data = torch.tensor([[0.0, 5.0], [2.0, -1.0], [1.0, 3.0]])
        >>> neurons_of_classes(head, [2, 1], n=1)
        ([1, 0], [2, 1])
    """
    with exclusive(check_head(head)):
        chosen, neurons = _strongest(head.weight.detach(), "classes", classes, n, "neurons")
    return neurons, chosen


def _strongest(
    weights: Tensor, name: str, rows: int | Sequence[int] | Tensor, n: int, others: str
) -> _Pairs:
    """Each of some rows ``n`` times, and the columns of its largest weights."""
    n_rows, n_columns = weights.shape
    indices = as_indices(name, rows)
    check_indices(name, indices, n_rows, f"{name} of the head")
    check_whole("n", n)
    check_at_least("n", n, 1)
    if n > n_columns:
        raise ValueError(f"n={n}, but the head has {n_columns} {others}")
    # Sorted, not `topk`: which of equal weights comes first must not change.
    order = weights[indices.to(weights.device)].argsort(dim=1, descending=True, stable=True)
    return indices.repeat_interleave(n).tolist(), order[:, :n].flatten().tolist()
