"""A space of three numbers, in which all is worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# "picture" is a little near to everything: a word that would be said of every neuron.
WORDS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "picture": (1.0, 1.0, 1.0),
}


class ColourEncoder:
    """An image is its mean colour, a text the colour that it ends with."""

    def __init__(self) -> None:
        self.network = nn.Identity()
        self.shapes: list[torch.Size] = []
        self.n_texts: list[int] = []

    def encode_image(self, images: Tensor) -> Tensor:
        self.shapes.append(images.shape)
        return F.normalize(images.mean((2, 3)), dim=1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.n_texts.append(len(texts))
        vectors = [WORDS.get(text.rstrip(".").split()[-1], (0.6, 0.0, 0.8)) for text in texts]
        return F.normalize(torch.tensor(vectors), dim=1)


def plain(red: float, green: float, blue: float, height: int = 6, width: int = 6) -> Tensor:
    """An image of one colour."""
    return torch.tensor([red, green, blue])[:, None, None].expand(3, height, width).clone()
