"""The loss of CLIP-Illusion: pure maths on one value per image."""

from __future__ import annotations

from torch import Tensor

from captum_neuroinspect.optvis._checks import check_between


def illusion_loss(
    activation: Tensor,
    logit: Tensor | None = None,
    similarity: Tensor | None = None,
    *,
    gamma: float = 0.5,
    eps: float = 0.05,
) -> Tensor:
    """The value to minimise for each image, equations (2)-(4) of NeuroInspect.

    With activation A, logit Z and similarity S of one image:

    * A alone: ``-A`` (plain feature visualization);
    * A and Z: ``-(A + gamma * Z)``;
    * A, Z and S: ``-(S + eps) * (A + gamma * Z)``. It is a product: the picture must
      please the neuron and the encoder together. ``eps`` keeps a gradient where
      S is near 0.

    Images never mix: entry i depends on image i only.

    Args:
        activation: activation of the neuron, shape ``(N,)``.
        logit: logit of the class, shape ``(N,)``.
        similarity: cosine of image and text embedding, shape ``(N,)``, -1..1.
        gamma: weight of the logit, 0..1.
        eps: added to the similarity.

    Returns:
        Losses of shape ``(N,)``.

    Raises:
        ValueError: for a shape other than ``(N,)`` or a gamma outside 0..1.

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
    _check_shapes(activation=activation, logit=logit, similarity=similarity)
    value = activation if logit is None else activation + gamma * logit
    return -value if similarity is None else -(similarity + eps) * value


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
