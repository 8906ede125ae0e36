"""Tiny seeded networks and a fake encoder, fast enough to optimise images with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_neuroinspect.optvis import Guidance, IllusionOptions, Illusions, render_illusions

N_FEATURES, N_CLASSES, EMBEDDING = 6, 4, 5


class TinyNet(nn.Module):
    """Conv, BatchNorm, ReLU, mean over positions, linear head."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv = nn.Conv2d(3, N_FEATURES, 3, padding=1)
        self.norm = nn.BatchNorm2d(N_FEATURES)
        self.act = nn.ReLU()
        self.fc = nn.Linear(N_FEATURES, N_CLASSES)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
            self.norm.weight.fill_(1)
            self.norm.bias.fill_(bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(self.norm(self.conv(x))).mean((2, 3)))


class FakeEncoder:
    """Embeds an image by a strided convolution and a text by its letters."""

    def __init__(self) -> None:
        self.network = nn.Conv2d(3, EMBEDDING, 4, stride=4)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def encode_image(self, images: Tensor) -> Tensor:
        if images.min() < 0 or images.max() > 1:
            raise ValueError("images outside 0..1")
        return F.normalize(self.network(images).mean((2, 3)), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        seeds = [sum(text.encode()) for text in texts]
        rows = [torch.randn(EMBEDDING, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return F.normalize(torch.stack(rows), dim=-1)


CLASS_NAMES = ("ant", "bee", "cat", "dog")


def render(*args: Any, **arguments: Any) -> Illusions:
    """``render_illusions`` with the options beside the other arguments."""
    guidance = {f.name: arguments.pop(f.name) for f in fields(Guidance) if f.name in arguments}
    options = {
        f.name: arguments.pop(f.name) for f in fields(IllusionOptions) if f.name in arguments
    }
    chosen = IllusionOptions(guidance=Guidance(**guidance), **options)
    return render_illusions(*args, **arguments, options=chosen)


def state(*modules: nn.Module) -> list[object]:
    """Everything about modules that a function must leave as it was."""
    found: list[object] = []
    for root in modules:
        for module in root.modules():
            hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
            found += [module.training, *(len(h) for h in hooks)]
        found += [p.requires_grad for p in root.parameters()]
        found += [p.grad is None for p in root.parameters()]
        found += [t.clone().tolist() for t in root.state_dict().values()]
    return found
