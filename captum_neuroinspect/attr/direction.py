"""A direction in feature space that tells mistakes from samples that a class was learned from."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.same_model import check_same_backbone
from captum_neuroinspect._core.same_samples import row_numbers
from captum_neuroinspect.attr.reference import floored

# Higher than for rankings: one neuron that hardly moves would make any difference the direction.
_SMALLEST_SPREAD = 0.1


@dataclass(frozen=True, eq=False)
class Direction:
    r"""What mistakes lack, or have too much of, as one direction for all neurons together.

    A cue that many neurons carry a little is hardly in any of them. With :math:`\Delta` what
    separates the samples that a class was learned from and its mistakes, and :math:`\sigma` each
    neuron's natural spread, the *position* of features z is

    .. math:: p(z) = \frac{\sum_j z_j \Delta_j / \sigma_j^2}{\sum_j \Delta_j^2 / \sigma_j^2},

    which is as least squares in units of the spread would read it. One step, :math:`z + \Delta`,
    raises the position by 1: it takes the mean mistake to the mean of what was learned.

    It stands where a neuron may: :func:`render_illusions` shows what raises the position,
    :func:`~captum_neuroinspect.analysis.top_photos` sorts by it, :func:`remove_cue` removes it.
    ``-direction`` points from what
    was learned to the mistakes. To name it, give :func:`describe_units` the positions of photos as
    the activations of one unit.

    Attributes:
        shift: ``(F,)`` :math:`\Delta`; positive for a neuron that is too low in the mistakes.
        spread: ``(F,)`` :math:`\sigma`, above 0.
        located_by: ``(N,)`` int64, names of the mistakes that it was found in, or ``None``: they
            are no judges of an edit that removes it, and :meth:`HeadEdit.judge` leaves them out.

    Raises:
        TypeError: when these are not tensors of floating point numbers.
        ValueError: when they are not two vectors of one length, or have values that are not
            finite, a spread that is not above 0, or no shift at all.

    Examples::

        >>> direction = Direction(torch.tensor([2.0, 0.0]), torch.ones(2))
        >>> z = torch.tensor([[1.0, 5.0]])
        >>> direction.positions(z), direction.placed(z, 0.0)
        (tensor([0.5000]), tensor([[0., 5.]]))
    """

    shift: Tensor
    spread: Tensor
    located_by: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("shift", "spread"):
            value = getattr(self, name)
            if not (isinstance(value, Tensor) and value.is_floating_point()):
                raise TypeError(
                    f"{name} is {type(value).__name__}, expected a tensor of floating point numbers"
                )
            object.__setattr__(self, name, value.detach().to("cpu", torch.float32))
        if (names := self.located_by) is not None and (
            not isinstance(names, Tensor) or names.dtype != torch.int64
        ):
            raise TypeError(f"located_by is {names!r}, expected a tensor of int64, or None")
        shapes = tuple(self.shift.shape), tuple(self.spread.shape)
        if self.shift.ndim != 1 or shapes[0] != shapes[1]:
            raise ValueError(f"shift {shapes[0]} and spread {shapes[1]}, expected (F,) both")
        if not (self.shift.isfinite().all() and self.spread.isfinite().all()):
            raise ValueError("shift or spread has NaN or infinite values")
        if not (self.spread > 0).all():
            raise ValueError(f"spread goes down to {float(self.spread.min())}, expected above 0")
        if not self.shift.any():
            raise ValueError("shift is 0 everywhere, expected a direction")

    def __len__(self) -> int:
        return len(self.shift)

    def __neg__(self) -> Direction:
        return replace(self, shift=-self.shift)

    def __repr__(self) -> str:
        return f"Direction({len(self)} features, mostly neurons {list(self.neurons(5))})"

    @property
    def reading(self) -> Tensor:
        """``(F,)`` what positions are read with: ``features @ reading``."""
        in_units = self.shift.double() / self.spread.double()
        return (in_units / self.spread.double() / in_units.square().sum()).float()

    @property
    def weights(self) -> Tensor:
        """``(F,)`` weights of the neurons whose sum is the position, in units of its spread.

        As if neurons varied by themselves; what illusions of the direction activate.
        """
        in_units = self.shift.double() / self.spread.double()
        return (in_units / self.spread.double() / in_units.norm()).float()

    def positions(self, features: Tensor) -> Tensor:
        """``(N,)`` how far each of the features ``(N, F)`` lies along the direction, in steps."""
        kind = torch.promote_types(features.dtype, torch.float32)
        return features.to(kind) @ self.reading.to(features.device, kind)

    def placed(self, features: Tensor, positions: float | Tensor) -> Tensor:
        """Features ``(N, F)`` moved along the direction to these positions, one or ``(N,)``."""
        found = self.positions(features)
        steps = torch.as_tensor(positions).to(found) - found
        return features + steps[:, None] * self.shift.to(found)

    def drawn(self, seed: int) -> Direction:
        """A random direction of the same length in units of spread: what chance would give.

        Raises:
            TypeError: for a seed that is not a whole number.
            ValueError: for one below 0.

        Examples::

            >>> cue = Direction(torch.tensor([3.0, 8.0]), torch.tensor([1.0, 2.0]))
            >>> other = cue.drawn(0)
            >>> float((other.shift / other.spread).norm())
            5.0
        """
        check_whole("seed", seed)
        check_at_least("seed", seed, 0)
        rng = torch.Generator().manual_seed(seed)
        drawn = torch.randn(len(self), generator=rng, dtype=torch.float64)
        length = (self.shift.double() / self.spread.double()).norm()
        shift = self.spread.double() * drawn * (length / drawn.norm())
        return replace(self, shift=shift.float())

    def neurons(self, n_neurons: int | None = None) -> tuple[int, ...]:
        """The neurons that differ most in units of their spread, the first first."""
        size = (self.shift / self.spread).abs()
        return tuple(size.argsort(descending=True, stable=True)[:n_neurons].tolist())


def cue_direction(mistakes: FeatureSet, reference: FeatureSet) -> Direction:
    """The direction from a class's mistakes to the samples that it was learned from.

    Each mistake is set against the mean of its own class in ``reference``, so that mistakes of
    several classes may be given where one cue is behind them. The spread is that within classes.
    The fewer mistakes, the larger the part that chance has in each neuron's change: in the
    measurements of the documentation 20 located a cue better than 10, and 10 better than 5.

    Args:
        mistakes: samples that the head gets wrong, such as a class's in deployment; at least one.
        reference: what the class was learned from: its training samples, or the whole training
            set. Some of each class among the mistakes.

    Raises:
        TypeError: when either is no :class:`FeatureSet`.
        ValueError: when there is no mistake, a class of the mistakes is absent from ``reference``,
            features differ in number, labels are multi-hot, or mistakes and reference have the
            same mean.

    Warns:
        UserWarning: when samples among the mistakes are predicted right.

    Examples::

        >>> z, labels = torch.tensor([[1.0, 1.0], [3.0, 0.0], [0.0, 0.0]]), torch.zeros(3).long()
        >>> data = FeatureSet(z, torch.tensor([[0.0, 1.0]] * 3), labels)
        >>> reference, mistake = data.subset(torch.tensor([0, 1])), data.subset(torch.tensor([2]))
        >>> cue_direction(mistake, reference).shift
        tensor([2.0000, 0.5000])
    """
    _check(mistakes, reference)
    levels = torch.zeros(reference.n_classes, reference.features.shape[1], dtype=torch.float64)
    counts = reference.labels.bincount(minlength=reference.n_classes)
    levels.index_add_(0, reference.labels, reference.features.double())
    levels /= counts.clamp_min(1)[:, None]
    within = reference.features.double() - levels[reference.labels]
    spread = floored(within.square().mean(0).sqrt(), _SMALLEST_SPREAD)
    shift = (levels[mistakes.labels] - mistakes.features.double()).mean(0)
    if not shift.any():
        raise ValueError("mistakes have the mean of reference: no direction separates them")
    return Direction(shift.float(), spread.float(), row_numbers(mistakes.features))


def _check(mistakes: FeatureSet, reference: FeatureSet) -> None:
    for name, data in (("mistakes", mistakes), ("reference", reference)):
        if not isinstance(data, FeatureSet):
            raise TypeError(f"{name} is {type(data).__name__}, expected a FeatureSet")
        if not len(data):
            raise ValueError(f"{name} is empty: expected at least one sample")
        if data.is_multi_hot:
            raise ValueError(f"{name} has multi-hot labels, expected one class a sample")
    sizes = mistakes.features.shape[1], reference.features.shape[1]
    if sizes[0] != sizes[1]:
        raise ValueError(f"mistakes have {sizes[0]} features, reference {sizes[1]}")
    check_same_backbone(mistakes=mistakes, reference=reference)
    absent = set(mistakes.labels.tolist()) - set(reference.labels.tolist())
    if absent:
        raise ValueError(
            f"mistakes of class {min(absent)} have no sample of it in reference: expected some "
            "of each class, to set them against"
        )
    if n_right := int(mistakes.is_correct.sum()):
        warnings.warn(
            f"{n_right} of {len(mistakes)} samples of mistakes are predicted right, and take the "
            "direction away from the cue: give the mistakes alone, as data.mistakes(target) does",
            stacklevel=3,
        )
