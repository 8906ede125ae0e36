"""Decision layers as things: made like another, compared, and the change between two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect._core.head import check_head, head_tensors


def empty_like(head: nn.Linear) -> nn.Linear:
    """A new layer with the shape, device, dtype and bias (or none) of ``head``, not filled."""
    return nn.utils.skip_init(
        nn.Linear,
        head.in_features,
        head.out_features,
        bias=head.bias is not None,
        device=head.weight.device,
        dtype=head.weight.dtype,
    )


def copy_of(head: nn.Linear) -> nn.Linear:
    """A plain ``nn.Linear`` with the same values, on the same device, without hooks."""
    layer = empty_like(head)
    with exclusive(head), torch.no_grad():
        layer.weight.copy_(head.weight)
        if head.bias is not None:
            layer.bias.copy_(head.bias)
    return layer


def changed(head: nn.Linear, d_weight: Tensor, d_bias: Tensor) -> nn.Linear:
    """A new layer with a difference added: in the dtype and on the device of ``head``.

    What does not change stays bit-identical. A head without bias stays without.
    """
    layer = empty_like(head)
    with exclusive(head), torch.no_grad():
        layer.weight.copy_(_sum(head.weight.detach(), d_weight))
        if head.bias is not None:
            layer.bias.copy_(_sum(head.bias.detach(), d_bias))
    return layer


def changed_rows(head: nn.Linear, rows: Tensor, d_weight: Tensor, d_bias: Tensor) -> nn.Linear:
    """:func:`changed` where only some classes' rows ``(R,)`` differ: dW ``(R, F)``, db ``(R,)``."""
    with exclusive(head), torch.no_grad():
        layer, at = copy_of(head), rows.to(head.weight.device)
        layer.weight[at] = _sum(head.weight.detach()[at], d_weight)
        if head.bias is not None:
            layer.bias[at] = _sum(head.bias.detach()[at], d_bias)
    return layer


def difference(head: nn.Linear, original: nn.Linear) -> tuple[Tensor, Tensor]:
    """What was added to the original: dW ``(C, F)`` and db ``(C,)`` in double precision.

    There the difference of two float32 numbers, added again and rounded, gives the
    second number back bit by bit.
    """
    with exclusive(head, original):
        d_weight = head.weight.detach().to("cpu", torch.float64, copy=True)
        d_weight -= original.weight.detach().cpu()  # in place: of a large head it takes its room
        return d_weight, _bias(head) - _bias(original)


def same_values(layer: nn.Linear, head: nn.Linear) -> bool:
    """Whether two layers compute the same; no bias counts as a bias of zero."""
    if layer.weight.shape != head.weight.shape:
        return False
    pairs = zip(head_tensors(head), head_tensors(layer), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def _bias(head: nn.Linear) -> Tensor:
    if head.bias is None:
        return torch.zeros(head.out_features, dtype=torch.float64)
    return head.bias.detach().cpu().double()


def _sum(values: Tensor, change: Tensor) -> Tensor:
    change = change.to(values.device, torch.float64)
    # Not +0 everywhere: it would turn a -0 into a 0.
    return torch.where(change != 0, (values.double() + change).to(values.dtype), values)


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
