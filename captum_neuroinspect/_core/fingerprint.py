"""Short names for weights and texts: the same values, the same name, on any device."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.head import head_values

_N_DIGITS = 16  # of sha256: a collision within a project is out of the question


def head_fingerprint(head: nn.Linear) -> str:
    """Name a decision layer by its values in float32; no bias counts as a bias of zero.

    Examples::

        >>> head = nn.Linear(3, 2)
        >>> head_fingerprint(head) == head_fingerprint(head.double())
        True
    """
    digest = hashlib.sha256()
    with exclusive(head):  # another thread may try an edit in it
        for tensor in head_values(head):
            feed(digest, tensor)
    return digest.hexdigest()[:_N_DIGITS]


def backbone_fingerprint(model: nn.Module, head: nn.Linear | None = None) -> str:
    """Name all parameters and buffers of a model, but those of its decision layer if given."""
    digest = hashlib.sha256()
    with exclusive(model):
        own = {id(t) for t in head.state_dict(keep_vars=True).values()} if head is not None else ()
        for name, value in model.state_dict(keep_vars=True).items():
            if isinstance(value, Tensor) and id(value) not in own:
                digest.update(name.encode())
                feed(digest, value)
    return digest.hexdigest()[:_N_DIGITS]


def weights_fingerprint(model: nn.Module, head: nn.Linear | None = None) -> str:
    """Name what a model has learned: the same in a wrapper that only normalises.

    Names play no role, nor do buffers of modules without parameters, such as a mean that is taken
    off the pixels; running statistics of a normalisation layer do.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        >>> weights_fingerprint(model) == weights_fingerprint(nn.Sequential(nn.Identity(), model))
        True
    """
    digest = hashlib.sha256()
    with exclusive(model):
        left_out = {
            id(buffer)
            for module in model.modules()
            if not isinstance(module, _NormBase)
            and next(module.parameters(recurse=False), None) is None
            for buffer in module.buffers(recurse=False)
        }
        if head is not None:
            left_out |= {id(t) for t in head.state_dict(keep_vars=True).values()}
        for value in model.state_dict(keep_vars=True).values():
            if isinstance(value, Tensor) and id(value) not in left_out:
                feed(digest, value)
    return digest.hexdigest()[:_N_DIGITS]


def tensor_fingerprint(tensor: Tensor) -> str:
    """Name a tensor by its dtype, shape and values.

    Examples::

        >>> import torch
        >>> tensor_fingerprint(torch.zeros(2)) == tensor_fingerprint(torch.zeros(2, 1))
        False
    """
    digest = hashlib.sha256()
    feed(digest, tensor)
    return digest.hexdigest()[:_N_DIGITS]


def text_fingerprint(text: str) -> str:
    """Name a text, such as settings written as JSON.

    Examples::

        >>> text_fingerprint("a") == text_fingerprint("b")
        False
    """
    return hashlib.sha256(text.encode()).hexdigest()[:_N_DIGITS]


def feed(digest: hashlib._Hash, tensor: Tensor) -> None:
    """Add a tensor's dtype, shape and values to a digest."""
    tensor = tensor.detach().cpu()
    tensor = tensor.dequantize() if tensor.is_quantized else tensor.to_dense()
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    # As bytes, because numpy has no bfloat16.
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
