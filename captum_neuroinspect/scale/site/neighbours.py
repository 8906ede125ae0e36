"""Which neurons are near each other: rows of like direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect._core.optional import SCALE, optional

N_NEAR = 6
# Cosines are compared after this rounding: the order of a sum decides nothing.
_DECIMALS = 6
_BLOCK = 1024

Near = dict[int, list[list[float]]]


def nearest(names: Sequence[int], rows: Tensor, n: int = N_NEAR, above: float = 0.0) -> Near:
    """The nearest others of each row, nearest first; of equally near ones the first.

    Args:
        names: N numbers.
        rows: ``(N, F)``; a row of zeros is near nothing.
        n: others, at most.
        above: their cosines are larger than this.

    Returns:
        For each name the others' names with their cosines, rounded to three decimals.

    Examples::

        >>> nearest([3, 5, 9], torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]]), n=1)
        {3: [[5, 0.999]], 5: [[3, 0.999]], 9: [[5, 0.05]]}
    """
    directions, found = F.normalize(rows.double(), dim=1), Near()
    for first in range(0, len(names), _BLOCK):
        block = directions[first : first + _BLOCK]
        cosines = (block @ directions.T).round(decimals=_DECIMALS)
        own = torch.arange(len(block))
        cosines[own, first + own] = -torch.inf
        order = cosines.argsort(dim=1, descending=True, stable=True)[:, :n]
        for row, others in enumerate(order.tolist()):
            values = cosines[row, order[row]].tolist()
            found[names[first + row]] = [
                [names[other], round(value, 3)]
                for other, value in zip(others, values, strict=True)
                if value > above
            ]
    return found


def nearest_by_words(words: Mapping[int, Sequence[str]], n: int = N_NEAR) -> Near:
    """The same by the words of their phrases, where rare words count for more.

    Raises:
        ImportError: when scikit-learn is missing; says how to install it.

    Examples::

        >>> nearest_by_words({1: ["a wooden fence"], 4: ["fence"], 6: ["a red car"]})
        {1: [[4, 0.605]], 4: [[1, 0.605]], 6: []}
    """
    if not words:
        return {}
    texts = [" ".join(phrases) for phrases in words.values()]
    text = optional("sklearn.feature_extraction.text", SCALE)
    # Letters and digits of any language; its own pattern leaves single signs out.
    count = text.TfidfVectorizer(token_pattern=r"\w\w+")
    try:
        counted = count.fit_transform(texts)
    except ValueError:  # no words at all
        return {neuron: [] for neuron in words}
    return nearest([*words], torch.from_numpy(counted.toarray()), n)
