"""A change of a decision layer, apart from the layer: to apply, to add up, to look at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect.edit._layers import changed, difference


@dataclass(frozen=True, eq=False)
class HeadDiff:
    """What an edit added to a decision layer, and to which one.

    Two changes of the same head add up: ``a + b``. That says nothing of how well the
    sum does: evaluate it.

    Attributes:
        d_weight: ``(C, F)`` float64.
        d_bias: ``(C,)`` float64; zero for a head without bias.
        of: fingerprint of the head that it changes.

    Examples::

        >>> import torch
        >>> head, other = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> diff = HeadDiff.between(head, other)
        >>> torch.equal(diff.apply_to(head).weight, other.weight)
        True
    """

    d_weight: Tensor
    d_bias: Tensor
    of: str

    @classmethod
    def between(cls, original: nn.Linear, head: nn.Linear) -> HeadDiff:
        """What turns one layer into another of the same shape.

        Raises:
            ValueError: when the shapes differ.
        """
        if original.weight.shape != head.weight.shape:
            shapes = tuple(original.weight.shape), tuple(head.weight.shape)
            raise ValueError(f"heads have weights of shapes {shapes}, expected the same")
        return cls(*difference(head, original), head_fingerprint(original))

    @property
    def norm(self) -> float:
        """Frobenius norm of dW."""
        return float(self.d_weight.norm())

    @property
    def n_changed(self) -> int:
        """Number of coefficients of W that differ."""
        return int(self.d_weight.count_nonzero())

    def apply_to(self, head: nn.Linear) -> nn.Linear:
        """A new layer: ``head`` with the change; ``head`` stays as it is.

        Raises:
            TypeError: when ``head`` is not linear.
            ValueError: when it is not the head that the change belongs to, or has no
                bias to change.
        """
        found = head_fingerprint(check_head(head))
        if found != self.of:
            raise ValueError(
                f"head has fingerprint {found}, the change belongs to {self.of}: "
                "it is another head, or is changed already"
            )
        if head.bias is None and self.d_bias.any():
            raise ValueError("head has no bias, the change has one")
        return changed(head, self.d_weight, self.d_bias)

    def __add__(self, other: HeadDiff) -> HeadDiff:
        if not isinstance(other, HeadDiff):
            return NotImplemented
        if other.of != self.of:
            raise ValueError(
                f"changes of two heads, {self.of} and {other.of}, do not add up: "
                "expected edits of the same original"
            )
        return HeadDiff(self.d_weight + other.d_weight, self.d_bias + other.d_bias, self.of)

    def __repr__(self) -> str:
        n_classes, n_features = self.d_weight.shape
        return (
            f"HeadDiff({self.n_changed} of {n_classes}x{n_features} coefficients, "
            f"norm {self.norm:.4g}, of head {self.of})"
        )
