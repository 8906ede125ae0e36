"""Objectives for Lucent's ``render_vis``, to add and scale with Lucent's own.

Values are minimised and are means over the batch of :func:`illusion_loss`, which
never mixes images. An argument with one value per image is for the whole batch also
where ``batch`` chooses an image: it gets its own. Importing this module imports Lucent,
which `pip install "captum-neuroinspect[lucent]"` brings.

Lucent reads what a layer's output has become by the end of the pass: a ReLU that works
in place changes it. Layers of :class:`~captum_neuroinspect.optvis.GuidedModel` are safe.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect._core.modules import logits_of
from captum_neuroinspect._core.optional import LUCENT, optional
from captum_neuroinspect.optvis._objective_arguments import Index, OutputSelector, one_per_image
from captum_neuroinspect.optvis.loss import illusion_loss as illusion_loss
from captum_neuroinspect.optvis.units.activation import Token
from captum_neuroinspect.optvis.units.image_targets import HasWeights

__all__ = ["class_conditional", "clip_illusion", "illusion_loss", "unit_mean"]

_lucent = optional("lucent.optvis.objectives", LUCENT)
handle_batch, wrap_objective = _lucent.handle_batch, _lucent.wrap_objective

# Lucent hands an objective a function that gives a layer's output by the layer's name.
_Activations = Callable[[str], Tensor]


@wrap_objective()
def unit_mean(
    layer: str,
    n_channel: Index | Tensor | HasWeights,
    batch: int | None = None,
    token: Token = "mean",
) -> Callable[[_Activations], Tensor]:
    """Visualize a unit, ``-A``: the mean of a channel over positions.

    Lucent's ``channel`` is the same of layers ``(N, C, H, W)``; its ``neuron`` is the centre
    position only.

    Args:
        layer: Lucent's name of the layer (``layer4_1_conv2``); its output is
            ``(N, F)``, ``(N, C, H, W)`` or ``(N, T, D)``. Outputs ``(N, H, W, C)``, as in
            Swin, are shown with channels first by
            :class:`~captum_neuroinspect.optvis.GuidedModel`.
        n_channel: which channel, from 0, or a direction, ``(F,)`` floats, a weight for each
            channel, or a :class:`Direction`; one for all images, or one (a row) for each.
        batch: only this image of the batch; ``None``: the mean over all.
        token: for a layer of tokens, the ``"mean"``, ``"cls"`` (the first) or a number.

    Returns:
        A Lucent ``Objective``.

    Raises:
        TypeError: when ``batch`` or a channel is no whole number.
        ValueError: when there is no such image, channel or token, a direction of another length, or
            not one value per image.

    Examples::

        >>> from torch import nn
        >>> activations = {"features": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
        >>> unit_mean("features", 1)(activations.get)
        tensor(-3.)
        >>> (2 * unit_mean("features", 1, batch=0) + unit_mean("features", 0))(activations.get)
        tensor(-6.)
    """
    units = OutputSelector.units(n_channel, batch, token)

    @handle_batch(units.batch)
    def inner(model: _Activations) -> Tensor:
        return illusion_loss(units.of(model(layer))).mean()

    return inner


@wrap_objective()
def class_conditional(
    layer: str,
    n_channel: Index | Tensor | HasWeights,
    class_index: Index,
    gamma: float = 0.25,
    logits: str = "labels",
    batch: int | None = None,
    token: Token = "mean",
) -> Callable[[_Activations], Tensor]:
    """Visualize a neuron in a class, ``-(A + gamma * Z)``.

    Args:
        layer: Lucent's name of the neuron's layer.
        n_channel: which channel, from 0, or a direction, ``(F,)`` floats, a weight for each
            channel, or a :class:`Direction`; one for all images, or one (a row) for each.
        class_index: which class, from 0; one for all images or one for each.
        gamma: weight of the logit, 0..1; 0.5 in the paper.
        logits: Lucent's name of the layer that gives the logits. ``"labels"`` is the
            output of the module that was registered last: name the decision layer
            where that is another one, as in Lucent's ``InceptionV1``, which ends in a
            softmax (``softmax2_pre_activation_matmul``).
        batch: only this image of the batch; ``None``: the mean over all.
        token: for a layer of tokens, the ``"mean"``, ``"cls"`` (the first) or a number.

    Returns:
        A Lucent ``Objective``.

    Raises:
        TypeError: when ``batch``, a channel or a class is no whole number.
        ValueError: when there is no such image, channel, token or class, not one value per
            image, or a gamma outside 0..1.

    Examples::

        >>> features, labels = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 6.0]])
        >>> class_conditional("fc", 1, 0)({"fc": features, "labels": labels}.get)
        tensor(-2.)
        >>> class_conditional("fc", 1, 1)({"fc": features, "labels": labels}.get)
        tensor(-3.5000)
    """
    units = OutputSelector.units(n_channel, batch, token)
    classes = OutputSelector.classes(class_index, batch)

    @handle_batch(units.batch)
    def inner(model: _Activations) -> Tensor:
        activation, logit = units.of(model(layer)), classes.of(logits_of(model(logits)))
        return illusion_loss(activation, logit, gamma=gamma).mean()

    return inner


@wrap_objective()
def clip_illusion(
    layer: str,
    n_channel: Index | Tensor | HasWeights,
    class_index: Index,
    text_embedding: Tensor,
    gamma: float = 0.25,
    eps: float = 0.05,
    logits: str = "logits",
    embedding: str = "embedding",
    batch: int | None = None,
    token: Token = "mean",
) -> Callable[[_Activations], Tensor]:
    """Visualize a neuron in a class with an encoder, ``-(S + eps) * (A + gamma * Z)``.

    Made for :class:`~captum_neuroinspect.optvis.GuidedModel`, whose layers
    ``"features"``, ``"logits"`` and ``"embedding"`` come from one transformed image.

    Args:
        layer: Lucent's name of the neuron's layer, such as ``"features"``.
        n_channel: which channel, from 0, or a direction, ``(F,)`` floats, a weight for each
            channel, or a :class:`Direction`; one for all images, or one (a row) for each.
        class_index: which class, from 0; one for all images or one for each.
        text_embedding: embedding of the class's name, ``(D,)``, or ``(N, D)`` with
            one for each image; its length does not matter.
        gamma: weight of the logit, 0..1; 0.5 in the paper.
        eps: added to the similarity.
        logits: Lucent's name of the layer that gives the logits.
        embedding: Lucent's name of the layer that gives the images' embeddings.
        batch: only this image of the batch; ``None``: the mean over all.
        token: for a layer of tokens, the ``"mean"``, ``"cls"`` (the first) or a number.

    Returns:
        A Lucent ``Objective``.

    Raises:
        TypeError: when ``batch``, a channel or a class is no whole number.
        ValueError: when there is no such image, channel, token or class, not one value per
            image, a text embedding of another length than the image's, or a gamma
            outside 0..1.

    Examples::

        >>> activations = {
        ...     "features": torch.tensor([[1.0, 2.0]]),
        ...     "logits": torch.tensor([[0.0, 6.0]]),
        ...     "embedding": torch.tensor([[3.0, 4.0]]),
        ... }
        >>> text = torch.tensor([0.0, 1.0])  # its cosine with (3, 4) is 0.8
        >>> clip_illusion("features", 1, 1, text, eps=0.0)(activations.get)
        tensor(-2.8000)
    """
    units = OutputSelector.units(n_channel, batch, token)
    classes = OutputSelector.classes(class_index, batch)

    @handle_batch(units.batch)
    def inner(model: _Activations) -> Tensor:
        activation, logit = units.of(model(layer)), classes.of(logits_of(model(logits)))
        similarity = _similarity(model(embedding), text_embedding, units.batch)
        return illusion_loss(activation, logit, similarity, gamma=gamma, eps=eps).mean()

    return inner


def _similarity(embedding: Tensor, text: Tensor, batch: int | None) -> Tensor:
    """Cosines ``(N,)`` of image embeddings ``(N, D)`` and the embeddings of their texts."""
    texts = one_per_image("text_embedding", torch.atleast_2d(text), len(embedding), batch)
    if texts.shape != embedding.shape:
        raise ValueError(
            f"text_embedding has shape {tuple(text.shape)}, expected ({embedding.shape[-1]},) "
            "or one such row for each image"
        )
    return F.cosine_similarity(embedding, texts.to(embedding), dim=-1)
