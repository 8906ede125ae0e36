"""What makes steps cheaper: smaller images at first, and an encoder that skips steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect.optvis._rendering.scores import PairScorer, Scores


def halved(images: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` at half their height and width, means of 2 x 2 pixels."""
    return F.avg_pool2d(images, 2, ceil_mode=True, count_include_pad=False)


class SparseGuidance:
    """Scores of which the encoder's part is computed in every ``every``-th step only.

    In between its last values are used, without a gradient; in the steps in which it is
    computed its gradient counts ``every`` times. Over all steps it has the same weight.

    Args:
        n_images: of the batch.
        every: 1: always.
        device: of the images.
    """

    def __init__(self, n_images: int, every: int, device: torch.device) -> None:
        self._every = every
        self._similarity = torch.zeros(n_images, device=device)
        self._negative = torch.zeros(n_images, device=device)

    def scores(
        self, scorer: PairScorer, images: Tensor, silent: Tensor, rows: slice, step: int
    ) -> Scores:
        """Scores of the images ``rows`` of the batch in a step."""
        if scorer.encoder is None or self._every == 1:
            return scorer(images, redirected=silent)
        if step % self._every:
            blind = replace(scorer, encoder=None)(images, redirected=silent)
            negative = None if scorer.negative is None else self._negative[rows]
            return blind._replace(similarity=self._similarity[rows], negative=negative)
        seen = scorer(images, redirected=silent)
        return seen._replace(
            similarity=self._kept(self._similarity, seen.similarity, rows),
            negative=self._kept(self._negative, seen.negative, rows),
        )

    def _kept(self, memory: Tensor, value: Tensor | None, rows: slice) -> Tensor | None:
        if value is None:
            return None
        memory[rows] = value.detach()
        return memory[rows] + self._every * (value - value.detach())
