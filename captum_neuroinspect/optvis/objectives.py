"""Objectives for Lucent's ``render_vis``, to add and scale with Lucent's own.

Values are minimised and are means over the batch of :func:`illusion_loss`, which
never mixes images. Importing this module imports Lucent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lucent.optvis.objectives import handle_batch, wrap_objective
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect._modules import logits_of
from captum_neuroinspect.optvis.loss import illusion_loss as illusion_loss
from captum_neuroinspect.optvis.units import unit_activation

__all__ = ["class_conditional", "clip_illusion", "illusion_loss", "neuron"]

# Lucent hands an objective a function that gives a layer's output by the layer's name.
_Activations = Callable[[str], Tensor]
_Index = int | Sequence[int]


@wrap_objective()
def neuron(
    layer: str, n_channel: int | Sequence[int], batch: int | None = None
) -> Callable[[_Activations], Tensor]:
    """Visualize a neuron, ``-A``: the mean of a channel over positions.

    Args:
        layer: Lucent's name of the layer (``layer4_1_conv2``); its output is
            ``(N, F)``, ``(N, C, H, W)`` or ``(N, T, D)``.
        n_channel: which channel, one for all images or one for each.
        batch: only this image of the batch; ``None``: the mean over all.

    Returns:
        A Lucent ``Objective``.

    Examples::

        >>> from torch import nn
        >>> activations = {"features": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
        >>> neuron("features", 1)(activations.get)
        tensor(-3.)
        >>> (2 * neuron("features", 1, batch=0) + neuron("features", 0))(activations.get)
        tensor(-6.)
    """

    @handle_batch(batch)
    def inner(model: _Activations) -> Tensor:
        return illusion_loss(_activation(model, layer, n_channel)).mean()

    return inner


@wrap_objective()
def class_conditional(
    layer: str,
    n_channel: int | Sequence[int],
    class_index: int | Sequence[int],
    gamma: float = 0.5,
    logits: str = "labels",
    batch: int | None = None,
) -> Callable[[_Activations], Tensor]:
    """Visualize a neuron in a class, ``-(A + gamma * Z)``.

    Args:
        layer: Lucent's name of the neuron's layer.
        n_channel: which channel, one for all images or one for each.
        class_index: which class, one for all images or one for each.
        gamma: weight of the logit, 0..1.
        logits: Lucent's name of the layer that gives the logits. ``"labels"`` is the
            output of the module that was registered last: name the decision layer
            where that is another one.
        batch: only this image of the batch; ``None``: the mean over all.

    Returns:
        A Lucent ``Objective``.
    """

    @handle_batch(batch)
    def inner(model: _Activations) -> Tensor:
        activation = _activation(model, layer, n_channel)
        logit = _logit(model, logits, class_index)
        return illusion_loss(activation, logit, gamma=gamma).mean()

    return inner


@wrap_objective()
def clip_illusion(
    layer: str,
    n_channel: int | Sequence[int],
    class_index: int | Sequence[int],
    text_embedding: Tensor,
    gamma: float = 0.5,
    eps: float = 0.05,
    logits: str = "logits",
    embedding: str = "embedding",
    batch: int | None = None,
) -> Callable[[_Activations], Tensor]:
    """Visualize a neuron in a class with an encoder, ``-(S + eps) * (A + gamma * Z)``.

    Made for :class:`~captum_neuroinspect.optvis.GuidedModel`, whose layers
    ``"features"``, ``"logits"`` and ``"embedding"`` come from one transformed image.

    Args:
        layer: Lucent's name of the neuron's layer, such as ``"features"``.
        n_channel: which channel, one for all images or one for each.
        class_index: which class, one for all images or one for each.
        text_embedding: embedding of the class's name, ``(D,)``, or ``(N, D)`` with
            one for each image; its length does not matter.
        gamma: weight of the logit, 0..1.
        eps: added to the similarity.
        logits: Lucent's name of the layer that gives the logits.
        embedding: Lucent's name of the layer that gives the images' embeddings.
        batch: only this image of the batch; ``None``: the mean over all.

    Returns:
        A Lucent ``Objective``.
    """

    @handle_batch(batch)
    def inner(model: _Activations) -> Tensor:
        activation = _activation(model, layer, n_channel)
        logit = _logit(model, logits, class_index)
        image_embedding = model(embedding)
        text = text_embedding.to(image_embedding)
        similarity = F.cosine_similarity(image_embedding, torch.atleast_2d(text), dim=-1)
        return illusion_loss(activation, logit, similarity, gamma=gamma, eps=eps).mean()

    return inner


def _activation(model: _Activations, layer: str, n_channel: _Index) -> Tensor:
    output = model(layer)
    return unit_activation(output, _one_per_image(n_channel, output))


def _logit(model: _Activations, layer: str, class_index: _Index) -> Tensor:
    logits = logits_of(model(layer))
    return unit_activation(logits, _one_per_image(class_index, logits))


def _one_per_image(index: _Index, output: Tensor) -> Tensor:
    """An index for each image, int64 (N,); one index serves all images."""
    indices = torch.as_tensor(index, device=output.device)
    return indices.expand(len(output)) if indices.ndim == 0 else indices
