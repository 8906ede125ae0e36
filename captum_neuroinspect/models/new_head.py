"""A new decision layer on frozen features, trained as in the paper's experiments."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.descent import backward, descend
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.modules import module_name


def train_decision_layer(
    train: FeatureSet,
    validation: FeatureSet,
    *,
    n_epochs: int = 20,
    batch_size: int = 32,
    lr: float = 2e-3,
    seed: int = 0,
) -> nn.Linear:
    """Train a linear layer on collected features and keep the best validation epoch.

    Adam with a cosine schedule, as for the false correlations of the paper
    (section IV-B and appendix). The logits of the two sets are not used.

    Args:
        train: features with labels to train on.
        validation: features with labels that choose the epoch.
        n_epochs: passes over ``train``.
        batch_size: samples a step.
        lr: Adam's first step size.
        seed: draws the first weights and the order of the samples.

    Returns:
        The layer, without gradients, on the CPU.

    Example::

        >>> labels = torch.arange(60) % 3
        >>> z = torch.rand(60, 4) + 2 * torch.eye(3, 4)[labels]
        >>> features = FeatureSet(z, torch.zeros(60, 3), labels)  # logits are not used
        >>> head = train_decision_layer(features, features, n_epochs=50, lr=0.1)
        >>> features.with_head(head).accuracy()
        1.0
    """
    rng = torch.Generator().manual_seed(seed)
    head = _new_linear(train.features.shape[1], train.n_classes, rng)
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_epochs)

    def loss(rows: Tensor) -> float:
        return backward(optimizer, F.cross_entropy(head(train.features[rows]), train.labels[rows]))

    def accuracy() -> float:
        schedule.step()  # once an epoch
        return validation.with_head(head).accuracy()

    went = descend(
        optimizer,
        lambda _: (len(train), loss),
        accuracy,
        rng,
        n_epochs=n_epochs,
        batch_size=batch_size,
    )
    with torch.no_grad():
        for parameter, best in zip(head.parameters(), went.best, strict=True):
            parameter.copy_(best)
    return head.requires_grad_(False)


def replace_layer(model: nn.Module, layer: nn.Module, new: nn.Module) -> nn.Module:
    """Put ``new`` where ``layer`` is in ``model``, in place, and return the model.

    Raises:
        ValueError: when ``layer`` is not a submodule of ``model``.

    Example::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
        >>> replace_layer(model, model[1], nn.Linear(12, 3))[1]
        Linear(in_features=12, out_features=3, bias=True)
    """
    name = module_name(model, layer)
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)
    return model


def _new_linear(n_features: int, n_classes: int, rng: torch.Generator) -> nn.Linear:
    head = nn.utils.skip_init(nn.Linear, n_features, n_classes)
    bound = n_features**-0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=rng)
        head.bias.zero_()
    return head
