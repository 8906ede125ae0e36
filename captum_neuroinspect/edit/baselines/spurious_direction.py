"""Subtract one spurious direction from the target's logit, in the manner of SpuFix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect.edit.baselines.baseline import CheckedBaseline, Task, layer_like

Centre = Literal["all", "class"]


def without_spurious_direction(
    weight: Tensor,
    bias: Tensor,
    train: FeatureSet,
    target: int,
    neurons: Tensor,
    centre: Centre = "all",
) -> tuple[Tensor, Tensor]:
    r"""Take one direction's contribution out of the target's logit.

    With the weighted features :math:`\psi = W_c \odot z` of the target c, kept on the
    neurons only: the direction v is their mean over the target's training samples minus
    the mean over all training samples, scaled to length 1. Its contribution to the logit
    of z is

    .. math:: \alpha(z) = \langle 1, v \rangle \langle v, \psi(z) - \bar\psi \rangle

    with :math:`\bar\psi` the mean over all training samples or those of the class. The
    new logit is the old one minus :math:`\alpha(z)`: linear, so again a layer.

    Args:
        weight: ``(C, F)``.
        bias: ``(C,)``.
        train: samples of all classes, with some of the target.
        target: the class c.
        neurons: ``(K,)`` the features that carry the spurious direction.
        centre: whose mean :math:`\bar\psi` is; there the logit stays as it was.

    Returns:
        New weight and bias. Only ``weight[target, neurons]`` and ``bias[target]``
        differ; nothing does when the means are equal.

    Raises:
        ValueError: when ``train`` has no sample of the target.

    Examples::

        >>> import torch
        >>> z = torch.tensor([[4.0], [0.0]])  # the neuron is high for class 0
        >>> data = FeatureSet(z, torch.zeros(2, 2), torch.tensor([0, 1]))
        >>> weight, bias = torch.ones(2, 1), torch.zeros(2)
        >>> without_spurious_direction(weight, bias, data, 0, torch.tensor([0]))
        (tensor([[0.],
                [1.]]), tensor([2., 0.]))
    """
    is_target = train.labels == target
    if not is_target.any():
        raise ValueError(f"target={target} has no sample in train: its direction is unknown")
    psi = weight[target, neurons] * train.features[:, neurons]
    of_all, of_class = psi.mean(0), psi[is_target].mean(0)
    direction = F.normalize(of_class - of_all, dim=0)
    scaled = direction.sum() * direction
    weight, bias = weight.clone(), bias.clone()
    weight[target, neurons] -= scaled * weight[target, neurons]
    bias[target] += scaled @ (of_all if centre == "all" else of_class)
    return weight, bias


@dataclass(frozen=True)
class SpuriousDirectionRemoval(CheckedBaseline):
    """Subtract the given neurons' common direction; a relative of SpuFix, not SpuFix.

    Neuhaus et al., *Spurious Features Everywhere: Large-Scale Detection of Harmful
    Spurious Features in ImageNet*, ICCV 2023, arXiv 2212.04871. Theirs: components are
    principal axes of the class's weighted features, a person marks the spurious ones,
    and their contribution is subtracted where it is positive. Here: one direction, from
    the given neurons and class means instead of a person's choice among axes; and the
    contribution is subtracted whatever its sign, so that the result is a linear layer.
    See :func:`without_spurious_direction`.

    Nothing is trained. A head without bias stays without: then the direction is
    subtracted without its centre.

    Attributes:
        centre: contributions count from the mean of ``"all"`` training samples, or of
            the ``"class"`` as in the paper. When the whole class carries the cue, the
            latter leaves the class as strong as if every photo had it.

    Raises:
        ValueError: for another centre.

    Examples::

        >>> import torch
        >>> head, z = nn.Linear(3, 2), torch.rand(4, 3)
        >>> data = FeatureSet(z, head(z).detach(), torch.tensor([0, 1, 0, 1]))
        >>> new = SpuriousDirectionRemoval()(head, data, data, target=1, neurons=[0, 2])
        >>> (new.weight == head.weight).tolist()
        [[True, True, True], [False, True, False]]
    """

    centre: Centre = "all"

    def __post_init__(self) -> None:
        if self.centre not in ("all", "class"):
            raise ValueError(f"centre={self.centre!r}, expected 'all' or 'class'")

    @property
    def name(self) -> str:
        return f"spurious direction subtracted (like SpuFix, from the mean of {self.centre})"

    def _refitted(self, task: Task) -> nn.Linear:
        weight, bias = head_tensors(task.head)
        edited = without_spurious_direction(
            weight, bias, task.train, task.target, task.chosen, self.centre
        )
        return layer_like(task.head, *edited)
