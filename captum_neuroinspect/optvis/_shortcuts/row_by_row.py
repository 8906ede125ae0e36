"""Linear layers whose rounding does not depend on who shares the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_neuroinspect.optvis._shortcuts.swaps import swaps

# More rows are not images of one batch but their tokens, side by side.
_MOST_ROWS = 64


@contextmanager
def row_by_row(network: nn.Module) -> Iterator[None]:
    """Multiply the features of each image by themselves in linear layers inside the block.

    On a CPU a product of few rows adds up in another order for another number of rows.
    AdamW makes whole steps of gradients near 0, whose sign such a difference can turn:
    after twenty steps one could see with how many others an image was optimised. On
    other devices this would cost too much, and their convolutions differ anyway.

    Args:
        network: in eval mode.
    """
    with swaps() as changes:
        for module in network.modules():
            # Exactly this class: a subclass may compute something else.
            if type(module) is nn.Linear and "forward" not in vars(module):
                changes.forward(module, partial(_each_row, module))
        yield


def _each_row(linear: nn.Linear, features: Tensor) -> Tensor:
    weight, bias = linear.weight, linear.bias
    are_images = features.ndim == 2 and 0 < len(features) <= _MOST_ROWS
    if not are_images or features.device.type != "cpu":
        return F.linear(features, weight, bias)
    return torch.stack([F.linear(row, weight, bias) for row in features])
