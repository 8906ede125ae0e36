"""Activations of samples that the model gets right: mistakes are contrasted with them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect.attr._tails import working_dtype

# A neuron that never moves in the reference would turn any difference into a sensation.
_SMALLEST_SPREAD = 1e-2
_EFFECT = 0.25
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Reference:
    r"""Correct samples, as each neuron's natural level in a class and its natural spread.

    A counterfactual ``w`` follows the weights behind the layer and hardly depends on what the
    photo contains: it changes many neurons that are at their normal level. A cause of the
    mistake is a neuron that the decision would have to change *and* that is abnormal. With
    :math:`\Delta_j` = natural level - activation, two numbers measure this: the *effect*
    :math:`|w_j \Delta_j|` and the *surprise* :math:`|\Delta_j| / \sigma_j`. The contrast is
    their geometric mean with weights ``effect`` and ``1 - effect``,

    .. math:: v_j = |w_j|^e \, \Delta_j \, \sigma_j^{-(1 - e)},

    which keeps the sign of :math:`\Delta_j`: positive for a neuron that is too low
    (insufficient), negative for one that is too high (excessive).

    How much should the effect count? If all mistakes need the same change (one class
    that the model misses), the effect says which abnormal neurons matter to that decision. If
    they need different changes (a blur over photos of every class), they have only the
    abnormal neurons in common. So a ranking takes for ``e`` the mean cosine of the changes.
    Not from the paper; measured against it in ``docs/measurements/which-neurons.md``.

    Attributes:
        level: ``(C, F)`` mean activation of each class's correct samples, over all
            classes where a class has none; ``(1, F)``: one level for every class.
        spread: ``(F,)`` standard deviation over all correct samples.
        effect: weight ``e`` of the effect in 0..1. 1: only the effect on the decision,
            0: only what is abnormal. None: in a ranking the agreement of its mistakes,
            0.25 for attributions, in which samples do not influence each other.
    """

    level: Tensor
    spread: Tensor
    effect: float | None = None

    def __post_init__(self) -> None:
        if self.effect is not None and not 0 <= self.effect <= 1:
            raise ValueError(f"effect={self.effect}, expected a weight in 0..1")

    @classmethod
    def of(
        cls, samples: FeatureSet | Tensor | Reference, *, effect: float | None = None
    ) -> Reference:
        """Measure level and spread.

        Args:
            samples: a :class:`~captum_neuroinspect.FeatureSet`, of which the correct
                samples count, class by class; or activations ``(R, F)`` (or
                ``(R, *shape)``, flattened) of correct samples, taken as one class. A
                ``Reference`` stays what it is, but for ``effect``.
            effect: see above. None leaves that of a ``Reference`` as it is.

        Raises:
            TypeError: for anything else.
            ValueError: for fewer than two correct samples, values that are not finite, or
                multi-hot labels.

        Examples::

            >>> correct = torch.tensor([[1.0, 0.0], [3.0, 0.0], [1.0, 2.0], [3.0, 2.0]])
            >>> reference = Reference.of(correct)
            >>> reference.level
            tensor([[2., 1.]])
            >>> w = torch.tensor([[1.0, -1.0]])
            >>> contrast = reference.contrast(w, features=torch.tensor([[2.0, 4.0]]))
            >>> contrast[0, 0].item(), bool(contrast[0, 1] < 0)  # normal; far too high
            (0.0, True)
        """
        if isinstance(samples, Reference):
            return samples if effect is None else replace(samples, effect=effect)
        if isinstance(samples, FeatureSet):
            if samples.is_multi_hot:
                raise ValueError(
                    "reference has multi-hot labels, expected samples of one class each: give "
                    "the activations (R, F) of correct samples"
                )
            right = samples.is_correct  # not `correct()`, which copies the logits as well
            rows, labels = samples.features[right], samples.labels[right]
            return cls._measured(rows, labels, samples.n_classes, effect)
        if not isinstance(samples, Tensor):
            raise TypeError(
                f"reference is {type(samples).__name__}, expected a FeatureSet or activations "
                "(R, F) of correct samples"
            )
        rows = samples.detach().flatten(1) if samples.ndim > 1 else samples[:0]
        rows = rows.to(working_dtype(rows))
        return cls._measured(rows, torch.zeros(len(rows), dtype=torch.int64), 1, effect)

    @classmethod
    def _measured(
        cls, features: Tensor, labels: Tensor, n_classes: int, effect: float | None
    ) -> Reference:
        if len(features) < 2:
            raise ValueError(
                f"reference has {len(features)} correct sample(s), expected (R, F) with R >= 2"
            )
        if not all_finite(features):
            raise ValueError("reference has NaN or infinite values")
        counts = torch.bincount(labels, minlength=n_classes).to(features)[:, None]
        sums = features.new_zeros(n_classes, features.shape[1])
        sums.index_add_(0, labels.to(features.device), features)
        # In place: of many classes it is as large as the head.
        level = sums.div_(counts.clamp(min=1))
        level[counts[:, 0] == 0] = features.mean(0)
        return cls(level, floored(features.std(0)), effect)

    def for_mistakes(self, w: Tensor) -> Reference:
        """With a weight of the effect that suits these changes, unless one was given."""
        return self if self.effect is not None else self.weighted(agreement(w))

    def weighted(self, agreement: float | None) -> Reference:
        """With the weight that suits changes of this :func:`agreement`."""
        return replace(self, effect=_EFFECT if agreement is None else agreement)

    def contrast(self, w: Tensor, features: Tensor, target: Tensor | int | None = None) -> Tensor:
        """The contrast of each neuron in each sample with the reference.

        Args:
            w: ``(N, F)`` counterfactual changes.
            features: ``(N, F)`` activations of the same samples.
            target: ``(N,)`` right class of each; may be missing where the reference
                has one level.

        Returns:
            ``(N, F)`` with a sign, 0 where ``w`` is.

        Raises:
            ValueError: when shapes do not fit, or target is missing or out of range.
        """
        return self.contrast_of(w, self.shortfall(w, features, target))

    def shortfall(self, w: Tensor, features: Tensor, target: Tensor | int | None = None) -> Tensor:
        """``(N, F)`` natural level - activation, Delta above.

        Args and errors are those of :meth:`contrast`; ``w`` gives the precision.
        """
        if w.shape != features.shape:
            raise ValueError(f"features {tuple(features.shape)} do not fit w {tuple(w.shape)}")
        classes = self.classes(w, target).to(self.level.device)
        return self.level[classes].to(w) - features.to(w)

    def contrast_of(self, w: Tensor, shortfall: Tensor) -> Tensor:
        """``(N, F)`` the contrast of changes whose shortfall is known."""
        effect = _EFFECT if self.effect is None else self.effect
        size = w.abs().pow(effect) * (w != 0)  # 0**0 is 1
        return size * shortfall * self.spread.to(w).pow(effect - 1)

    def classes(self, w: Tensor, target: Tensor | int | None) -> Tensor:
        """``(N,)`` rows of ``level`` that belong to the samples of ``w`` (N, F).

        Raises:
            ValueError: when target is missing where it is needed, of another length than
                ``w``, or out of range; or ``w`` has other features than the reference.
        """
        n_levels, n_features = self.level.shape
        if w.ndim != 2 or w.shape[1] != n_features:
            raise ValueError(f"reference has {n_features} features, w has {tuple(w.shape)}")
        if n_levels == 1:
            return torch.zeros(len(w), dtype=torch.int64, device=w.device)
        if target is None:
            raise ValueError(
                f"target is missing: the reference has levels for {n_levels} classes, "
                "give the right class of each sample"
            )
        classes = as_indices("target", target)
        classes = classes.expand(len(w)) if classes.numel() == 1 else classes
        if len(classes) != len(w):
            raise ValueError(f"target has {len(classes)} entries for {len(w)} samples")
        check_indices("target", classes, n_levels, f"the reference has {n_levels} classes")
        return classes.to(w.device)


def agreement(w: Tensor) -> float | None:
    """How much counterfactual changes point the same way: their mean cosine, at least 0.

    Args:
        w: ``(N, F)``; changes that are zero do not count.

    Returns:
        0..1 over all pairs of samples; None for fewer than two changes.

    Examples::

        >>> agreement(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]]))
        1.0
    """
    total, n = torch.zeros(w.shape[1], dtype=torch.float64, device=w.device), 0
    for chunk in w.split(_CHUNK):
        pointing = directions(chunk)
        total += pointing.sum(0)
        n += int(pointing.any(1).sum())
    return agreement_of_sum(total, n)


def directions(w: Tensor) -> Tensor:
    """``(N, F)`` float64 changes of length 1; a change that is zero stays zero."""
    w = w.double()
    length = w.norm(dim=1, keepdim=True)
    return w / length.where(length > 0, 1.0)


def agreement_of_sum(total: Tensor, n: int) -> float | None:
    """The :func:`agreement` of n changes, by the sum ``(F,)`` of their :func:`directions`."""
    if n < 2:
        return None
    # The square of the sum holds every pair twice, and each change with itself. Rounding leaves
    # changes that are all alike a hair above 1.
    return min(max(0.0, float((total @ total - n) / (n * (n - 1)))), 1.0)


def floored(spread: Tensor, smallest: float = _SMALLEST_SPREAD) -> Tensor:
    """Spreads, at least this share of their mean: a neuron that never moves would be everything."""
    typical = spread.mean()
    return spread.clamp(min=smallest * float(typical) if typical > 0 else 1.0)
