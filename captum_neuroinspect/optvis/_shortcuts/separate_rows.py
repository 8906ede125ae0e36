"""Linear layers whose rounding does not depend on who shares the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from captum_neuroinspect._core.batch_invariant import row_by_row
from captum_neuroinspect.optvis._shortcuts.swaps import swaps

# More rows are not images of one batch but their tokens, side by side.
_MOST_ROWS = 64


@contextmanager
def separate_rows(network: nn.Module) -> Iterator[None]:
    """Multiply the features of each image by themselves in linear layers inside the block.

    AdamW makes whole steps of gradients near 0, whose sign another order of sums can turn:
    after twenty steps one could see with how many others an image was optimised.

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
    product = partial(F.linear, weight=linear.weight, bias=linear.bias)
    are_images = features.ndim == 2 and 0 < len(features) <= _MOST_ROWS
    return row_by_row(product, features) if are_images else product(features)
