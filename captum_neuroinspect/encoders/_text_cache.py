"""Each text is embedded once: one text costs as much as an image or more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_neuroinspect._core.texts import check_texts


class TextCache:
    """A text encoder that remembers, in memory, what it has embedded.

    Args:
        encode_fn: from N distinct texts to embeddings (N, D) of any length.

    Example:
        >>> cache = TextCache(lambda texts: torch.tensor([[3.0, 4.0]] * len(texts)))
        >>> cache(["cat", "cat"])
        tensor([[0.6000, 0.8000],
                [0.6000, 0.8000]])
    """

    def __init__(self, encode_fn: Callable[[list[str]], Tensor]) -> None:
        self._encode_fn = encode_fn
        self._text2embedding: dict[str, Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (N, D) of length 1, float32, on the CPU, without gradient.

        Raises:
            TypeError: for a single string, an item that is not a string, or an
                encoder that returns no tensor.
            ValueError: for no texts, or an encoder that returns another shape.
        """
        texts = check_texts("texts", texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._text2embedding]
        if new:
            self._text2embedding.update(zip(new, self._encode(new), strict=True))
        return torch.stack([self._text2embedding[text] for text in texts])

    def _encode(self, texts: list[str]) -> Tensor:
        # What is remembered must serve later too, when there are gradients to compute.
        with torch.inference_mode(False), torch.no_grad():
            embeddings = self._encode_fn(texts)
        if not isinstance(embeddings, Tensor):
            raise TypeError(
                f"the text encoder returned {type(embeddings).__name__}, expected a tensor (N, D)"
            )
        if embeddings.ndim != 2 or len(embeddings) != len(texts):
            raise ValueError(
                f"the text encoder returned shape {tuple(embeddings.shape)} for {len(texts)} "
                f"texts, expected ({len(texts)}, D)"
            )
        return F.normalize(embeddings.detach().to("cpu", torch.float32), dim=-1)
