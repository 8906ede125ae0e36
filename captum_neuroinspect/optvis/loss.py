"""The loss of CLIP-Illusion: pure maths on one value per image."""

from __future__ import annotations

from torch import Tensor

from captum_neuroinspect._core.checks import check_at_least, check_between


def illusion_loss(
    activation: Tensor,
    logit: Tensor | None = None,
    similarity: Tensor | None = None,
    negative: Tensor | None = None,
    *,
    gamma: float = 0.25,
    eps: float = 0.05,
    negative_weight: float = 4.0,
) -> Tensor:
    """The value to minimise for each image, equations (2)-(4) of NeuroInspect.

    With activation A, logit Z and similarity S of one image:

    * A alone: ``-A`` (plain feature visualization);
    * A and Z: ``-(A + gamma * Z)``;
    * A, Z and S: ``-(S + eps) * (A + gamma * Z)``. It is a product: the picture must
      please the neuron and the encoder together. ``eps`` keeps a gradient where
      S is near 0;
    * A, Z, S and the similarity B to what should not be in the picture: the product P
      above times ``exp(-negative_weight * max(0, B))``, or divided by it where P is
      below 0, so that B always makes it worse. Subtracting B from S instead could turn
      the sign of the product, and the neuron would be switched off. The pull away from
      B is as strong as that to the class where ``S + eps`` is ``1 / negative_weight``.

    Images never mix: entry i depends on image i only.

    Args:
        activation: activation of the neuron, shape ``(N,)``.
        logit: logit of the class, shape ``(N,)``.
        similarity: cosine of image and text embedding, shape ``(N,)``, -1..1.
        negative: cosine of image and unwanted text, shape ``(N,)``, -1..1; only with
            ``similarity``.
        gamma: weight of the logit, 0..1; 0.5 in the paper.
        eps: added to the similarity.
        negative_weight: how much ``negative`` counts, at least 0.

    Returns:
        Losses of shape ``(N,)``.

    Raises:
        ValueError: for a shape other than ``(N,)``, a gamma outside 0..1, a negative
            weight below 0, or ``negative`` without ``similarity``.

    Examples::

        >>> import torch
        >>> activation, logit = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 2.0])
        >>> illusion_loss(activation)
        tensor([-1., -2.])
        >>> illusion_loss(activation, logit, gamma=0.5)
        tensor([-3., -3.])
        >>> illusion_loss(activation, logit, torch.tensor([0.25, 0.5]), gamma=0.5, eps=0.0)
        tensor([-0.7500, -1.5000])
    """
    check_between("gamma", gamma, 0, 1)
    check_at_least("negative_weight", negative_weight, 0)
    _check_shapes(activation=activation, logit=logit, similarity=similarity, negative=negative)
    value = activation if logit is None else activation + gamma * logit
    if similarity is None:
        if negative is not None:
            raise ValueError("negative is given without similarity, expected both or neither")
        return -value
    product = (similarity + eps) * value
    if negative is not None:
        product = product * (-negative_weight * product.sign() * negative.clamp_min(0)).exp()
    return -product


def _check_shapes(**values: Tensor | None) -> None:
    """Refuse (N, 1), which would broadcast against (N,) to (N, N) and couple the images."""
    n_images = None
    for name, value in values.items():
        if value is None:
            continue
        if value.ndim != 1 or n_images not in (None, len(value)):
            expected = "(N,)" if n_images is None else f"({n_images},)"
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected {expected}: one value per image"
            )
        n_images = len(value)
