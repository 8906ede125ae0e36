"""From counterfactuals of many mistakes to the few neurons worth looking at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class NeuronList:
    """Ranked neurons, best first; the three tuples run in parallel.

    Attributes:
        neurons: indices of features.
        precision: share of the mistakes (0..1) that have the neuron among their k
            strongest.
        magnitude: summed size of its (weighted) change over all mistakes.
    """

    neurons: tuple[int, ...]
    precision: tuple[float, ...]
    magnitude: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.neurons)


@dataclass(frozen=True)
class NeuronRanking:
    """The neurons behind a set of mistakes.

    Attributes:
        insufficient: too little activation for the right class.
        excessive: undesired activation.
        both: neurons that reach ``min_precision`` in both directions; they stand in
            neither of the other lists. Precision and magnitude are sums of the two.
        n_mistakes: how many mistakes voted.
        k: votes of each mistake in each direction.
    """

    insufficient: NeuronList
    excessive: NeuronList
    both: NeuronList
    n_mistakes: int
    k: int

    def rows(self) -> list[dict[str, str | int | float]]:
        """One dictionary a neuron, ready for ``pandas.DataFrame``."""
        return [
            {"kind": kind, "rank": rank, "neuron": n, "precision": p, "magnitude": m}
            for kind in ("insufficient", "excessive", "both")
            for rank, (n, p, m) in enumerate(_zipped(getattr(self, kind)), start=1)
        ]

    def __str__(self) -> str:
        lines = [f"{self.n_mistakes} mistakes, top-{self.k} precision"]
        lines.append(f"{'kind':<13}{'rank':>5}{'neuron':>8}{'precision':>11}{'magnitude':>11}")
        lines += [
            f"{r['kind']:<13}{r['rank']:>5}{r['neuron']:>8}{r['precision']:>11.3f}"
            f"{r['magnitude']:>11.4g}"
            for r in self.rows()
        ]
        return "\n".join(lines)


def rank_neurons(
    w: Tensor,
    k: int = 5,
    min_precision: float = 0.03,
    *,
    by: Literal["precision", "magnitude"] = "precision",
    features: Tensor | None = None,
    reference: Tensor | None = None,
) -> NeuronRanking:
    """Rank neurons by how many mistakes they stand behind (paper, section III-C).

    In each mistake the ``k`` largest positive changes vote for *insufficient* and the
    ``k`` most negative for *excessive*; precision = votes / mistakes. Neurons under
    ``min_precision`` are dropped.

    ``w`` follows the head's weights and hardly knows what the photo contains. With
    ``features`` and ``reference`` each change is weighted by the contrast with samples
    that the head gets right: a wish for more counts by how far the activation lies
    below the reference, a wish for less by how far it lies above.

    Args:
        w: ``(N, F)`` counterfactual changes of N mistakes.
        k: votes a mistake and direction.
        min_precision: smallest share of mistakes (0..1) that a neuron needs.
        by: order by ``"precision"`` (the paper; ties by magnitude) or by summed
            ``"magnitude"``.
        features: ``(N, F)`` features of the same mistakes.
        reference: ``(R, F)`` features of correct samples of the right class, or their
            mean ``(F,)``.

    Returns:
        A :class:`NeuronRanking`.

    Raises:
        ValueError: for empty or non-finite ``w``, ``w`` that is zero everywhere (no
            mistakes), a bad ``k`` or ``min_precision``, only one of ``features`` and
            ``reference``, or two that do not fit ``w`` or are not finite.

    Examples::

        >>> w = torch.tensor([[0.9, 0.0, -0.2], [0.5, 0.1, 0.0]])
        >>> ranking = rank_neurons(w, k=1)
        >>> ranking.insufficient.neurons, ranking.insufficient.precision
        ((0,), (1.0,))
        >>> ranking.excessive.neurons, ranking.excessive.precision
        ((2,), (0.5,))
    """
    _check(w, k, min_precision, by)
    weighted = _contrasted(w, features, reference)
    more, less = weighted.clamp(min=0), (-weighted).clamp(min=0)
    wanted, unwanted = _precision(more, k), _precision(less, k)
    is_wanted, is_unwanted = (
        (precision >= min_precision) & (precision > 0) for precision in (wanted, unwanted)
    )
    return NeuronRanking(
        insufficient=_ordered(is_wanted & ~is_unwanted, wanted, more.sum(0), by),
        excessive=_ordered(is_unwanted & ~is_wanted, unwanted, less.sum(0), by),
        both=_ordered(is_wanted & is_unwanted, wanted + unwanted, (more + less).sum(0), by),
        n_mistakes=len(w),
        k=k,
    )


def _check(w: Tensor, k: int, min_precision: float, by: str) -> None:
    if w.ndim != 2 or not w.numel():
        raise ValueError(f"w has shape {tuple(w.shape)}, expected (N, F) with at least one mistake")
    if not w.isfinite().all():
        raise ValueError("w has NaN or infinite values")
    if not w.any():
        raise ValueError("w is zero everywhere: no mistakes to rank, the head is right on all")
    if not 1 <= k <= w.shape[1]:
        raise ValueError(f"k={k}, expected 1..{w.shape[1]} (the number of features)")
    if not 0 <= min_precision <= 1:
        raise ValueError(f"min_precision={min_precision}, expected a share in 0..1")
    if by not in ("precision", "magnitude"):
        raise ValueError(f"by={by!r}, expected 'precision' or 'magnitude'")


def _contrasted(w: Tensor, features: Tensor | None, reference: Tensor | None) -> Tensor:
    if features is None and reference is None:
        return w
    if features is None or reference is None:
        raise ValueError("features and reference go together: the contrast needs both")
    if features.shape != w.shape:
        raise ValueError(f"features {tuple(features.shape)} do not fit w {tuple(w.shape)}")
    fits = 1 <= reference.ndim <= 2 and reference.shape[-1] == w.shape[1] and len(reference)
    if not fits:
        raise ValueError(
            f"reference has shape {tuple(reference.shape)}, expected (R, {w.shape[1]}) with at "
            f"least one correct sample, or ({w.shape[1]},)"
        )
    if not (features.isfinite().all() and reference.isfinite().all()):
        raise ValueError("features or reference have NaN or infinite values")
    typical = reference.mean(0) if reference.ndim == 2 else reference
    shortfall = typical - features
    return w.clamp(min=0) * shortfall.clamp(min=0) + w.clamp(max=0) * (-shortfall).clamp(min=0)


def _precision(size: Tensor, k: int) -> Tensor:
    """Share of mistakes with the neuron among its k largest; a zero is no vote."""
    strongest = size.topk(k, dim=1)
    votes = torch.zeros_like(size).scatter_(1, strongest.indices, (strongest.values > 0).float())
    return votes.mean(0)


def _ordered(chosen: Tensor, precision: Tensor, magnitude: Tensor, by: str) -> NeuronList:
    neurons = chosen.nonzero().flatten().tolist()
    first, second = (precision, magnitude) if by == "precision" else (magnitude, precision)
    # The index breaks the last ties, so that equal input gives equal output everywhere.
    neurons.sort(key=lambda j: (-float(first[j]), -float(second[j]), j))
    return NeuronList(
        neurons=tuple(neurons),
        precision=tuple(float(precision[j]) for j in neurons),
        magnitude=tuple(float(magnitude[j]) for j in neurons),
    )


def _zipped(ranked: NeuronList) -> list[tuple[int, float, float]]:
    return list(zip(ranked.neurons, ranked.precision, ranked.magnitude, strict=True))
