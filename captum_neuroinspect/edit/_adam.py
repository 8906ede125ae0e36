"""Adam on one small tensor, with a pull towards zero that is exact at any weight."""

from __future__ import annotations

import torch
from torch import Tensor


class Adam:
    """Kingma and Ba's Adam, as ``torch.optim.Adam``, for one tensor and little overhead.

    ``pull`` adds ``pull * ||x||^2`` to what is minimised, as a proximal step in Adam's
    own metric. Adam normalises gradients, so a large pull in the loss would throw the
    tensor from one side of zero to the other; the proximal step takes it to zero.

    Examples::

        >>> x = torch.tensor([3.0])
        >>> adam = Adam(x)
        >>> adam.step(torch.tensor([10.0]), lr=0.5)
        >>> x
        tensor([2.5000])
    """

    def __init__(
        self, x: Tensor, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self.x, self.betas, self.eps = x, betas, eps
        self.n_steps = 0
        self._mean, self._square = torch.zeros_like(x), torch.zeros_like(x)
        self._scale = torch.empty_like(x)

    def step(self, gradient: Tensor, lr: float, pull: float = 0.0) -> None:
        """Move ``x`` in place."""
        self.n_steps += 1
        first, second = self.betas
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = torch.div(self._square, 1 - second**self.n_steps, out=self._scale)
        scale.sqrt_().add_(self.eps)
        self.x.addcdiv_(self._mean, scale, value=-lr / (1 - first**self.n_steps))
        if pull:
            self.x.div_(1 + 2 * lr * pull / scale)
