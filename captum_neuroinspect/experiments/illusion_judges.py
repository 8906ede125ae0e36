"""Networks that took no part in an illusion say whether they see its class and its neuron in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_neuroinspect.experiments.illusion_draws import GROUP, N_CANDIDATES, Draw
from captum_neuroinspect.experiments.illusion_scores import (
    near_classes,
    neurons_told,
    standard,
    told_among,
    translation,
)
from captum_neuroinspect.features import FeatureSet, collect_features

N_NEAR = 20  # classes beside the true one
N_OF_CLASS = 10  # neurons of a class, the drawn ones among them


def shown(network: nn.Module, images: Tensor) -> FeatureSet:
    """Features and logits of images ``(N, 3, H, W)`` in 0..1; the labels mean nothing."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    return collect_features(network, (images, labels), progress=False)


def resized(images: Tensor, side: int | None) -> Tensor:
    """Images at so many pixels a side; ``None`` leaves them as they are."""
    if side is None:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True).clamp(0, 1)


class IllusionJudge:
    """One network, and what natural photos say of it and of the inspected network.

    Args:
        network: of the same classes as the inspected one.
        ours: features of photos, of the inspected network.
        theirs: of the same photos, of ``network``.
        head: of the inspected network.
        size: pixels at which images are judged, or ``None`` for their own.
    """

    def __init__(
        self, network: nn.Module, ours: Tensor, theirs: Tensor, head: nn.Linear, size: int | None
    ) -> None:
        self.network, self.theirs, self.size = network, theirs, size
        self.translation = translation(ours, theirs)
        self.near = near_classes(head.weight, min(N_NEAR, head.out_features - 1))
        n = min(N_CANDIDATES, head.in_features)
        self.best = head.weight.detach().topk(n, dim=1).indices

    def look(self, images: Tensor) -> FeatureSet:
        """What it finds in images at its own size."""
        return shown(self.network, resized(images, self.size))

    def __call__(self, draw: Draw, images: Tensor) -> dict[str, Tensor]:
        """An answer for each image, of each question."""
        seen, truth = self.look(images), torch.tensor(draw.classes)
        hit = seen.logits.topk(5).indices == truth.unsqueeze(1)
        return {
            "top-1": hit[:, 0],
            "top-5": hit.any(1),
            "near": told_among(seen.logits, truth, self.near[truth]),
            "neuron": self.told(seen.features, draw, GROUP),
            "ten": self.told(seen.features, draw, N_OF_CLASS),
        }

    def told(self, features: Tensor, draw: Draw, n: int) -> Tensor:
        """Where an image excites its own translated neuron most, of n of its class."""
        excited = standard(features, self.theirs)
        found = []
        for start in range(0, len(draw.neurons), GROUP):
            own = draw.neurons[start : start + GROUP]
            others = [j for j in self.best[draw.classes[start]].tolist() if j not in own]
            columns = self.translation[:, [*own, *others][:n]]
            found.append(neurons_told(excited[start : start + GROUP] @ columns))
        return torch.cat(found)
