"""Whether a picture shows its class and its neuron, from what another network sees in it."""

from __future__ import annotations

import torch
from torch import Tensor


def near_classes(weight: Tensor, n: int) -> Tensor:
    """The n classes nearest to each by the angle of a head's weights ``(C, F)``: ``(C, n)``."""
    rows = torch.nn.functional.normalize(weight.detach(), dim=1)
    cosines = rows @ rows.T
    return cosines.fill_diagonal_(-torch.inf).topk(n, dim=1).indices


def told_among(logits: Tensor, truth: Tensor, others: Tensor) -> Tensor:
    """Where the true class ``(N,)`` beats each of the others ``(N, n)``, bool ``(N,)``.

    Logits are ``(N, C)``. A class that is the first of all beats these too: the question tells,
    where the class is *not* the first, a mistake between neighbours from any other.
    """
    own = logits.gather(1, truth.unsqueeze(1))
    return (own > logits.gather(1, others)).all(1)


def neurons_told(excited: Tensor) -> Tensor:
    """Where picture i of one class excites neuron i most of all neurons, bool ``(G,)``.

    Args:
        excited: how much each picture excites each neuron, ``(G, K)``; K is G or more. A
            neuron's level in all pictures says nothing about one of them, and is taken away.
    """
    own = torch.arange(len(excited), device=excited.device)
    return (excited - excited.mean(0)).argmax(1) == own


def standard(features: Tensor, like: Tensor) -> Tensor:
    """Features in standard deviations of others from their mean."""
    return (features - like.mean(0)) / like.std(0).clamp(min=1e-6)


def translation(ours: Tensor, theirs: Tensor, ridge: float = 1000.0) -> Tensor:
    """Ridge regression of our units on the other network's, on photos: ``(theirs, ours)``."""
    known, wanted = standard(theirs, theirs), standard(ours, ours)
    # As many equations as photos, which may be fewer than units.
    gram = known @ known.T + ridge * torch.eye(len(known))
    return known.T @ torch.linalg.solve(gram, wanted)
