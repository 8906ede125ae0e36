"""The same values from fewer or larger matrix products, for vision transformers."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from captum_neuroinspect.optvis._shortcuts.swaps import Forward, Swaps

# Below this the rearranged pixels cost more than a product saves.
_SMALLEST_PATCH = 8


def use_equivalents(network: nn.Module, keep: Collection[nn.Module], changes: Swaps) -> None:
    """Compute patch embeddings and self-attentions as plain matrix products.

    Args:
        network: in eval mode.
        keep: modules that stay as they are.
        changes: keeps what is changed.
    """
    for module in network.modules():
        # Exactly these classes: a subclass may compute something else.
        if module in keep:
            continue
        if type(module) is nn.Conv2d and _cuts_patches(module):
            changes.forward(module, partial(_patches, module))
        elif type(module) is nn.MultiheadAttention and _is_plain(module):
            changes.forward(module, partial(_attention, module, module.forward))


def _cuts_patches(conv: nn.Conv2d) -> bool:
    side = conv.kernel_size[0]
    return (
        side >= _SMALLEST_PATCH
        and conv.kernel_size == conv.stride == (side, side)
        and conv.padding in ((0, 0), "valid")
        and conv.dilation == (1, 1)
        and conv.groups == 1
    )


def _patches(conv: nn.Conv2d, images: Tensor) -> Tensor:
    side = conv.kernel_size[0]
    rows, columns = images.shape[-2] // side, images.shape[-1] // side
    cut = images[..., : rows * side, : columns * side].unflatten(3, (columns, side))
    cut = cut.unflatten(2, (rows, side)).permute(0, 2, 4, 1, 3, 5)
    embedded = F.linear(cut.flatten(3).flatten(0, 2), conv.weight.flatten(1), conv.bias)
    return embedded.view(len(images), rows, columns, -1).permute(0, 3, 1, 2)


def _is_plain(attention: nn.MultiheadAttention) -> bool:
    return (
        attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
    )


def _attention(
    module: nn.MultiheadAttention, otherwise: Forward, query: Tensor, *args: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Self-attention without weights; any other call goes to ``otherwise``.

    PyTorch's own multiplies a transposed view by the packed weights, as one small product
    for each image.
    """
    if not _is_self_attention(query, *args, **kwargs):
        result: tuple[Tensor, Tensor | None] = otherwise(query, *args, **kwargs)
        return result
    packed = F.linear(query.flatten(0, 1), module.in_proj_weight, module.in_proj_bias)
    packed = packed.view(*query.shape[:2], 3, module.num_heads, module.head_dim)
    if not module.batch_first:
        packed = packed.transpose(0, 1)
    q, k, v = packed.permute(2, 0, 3, 1, 4)  # each: image, head, token, channel
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    if not module.batch_first:
        mixed = mixed.transpose(0, 1)
    out = module.out_proj
    projected = F.linear(mixed.flatten(2).flatten(0, 1), out.weight, out.bias)
    return projected.view(query.shape), None


def _is_self_attention(query: Tensor, *args: Any, **kwargs: Any) -> bool:
    names = ("key", "value", "key_padding_mask", "need_weights", "attn_mask")
    given = dict(zip(names, args, strict=False)) | kwargs
    return (
        query.ndim == 3
        and given.get("key") is query
        and given.get("value") is query
        and given.get("need_weights") is False
        and given.get("key_padding_mask") is None
        and given.get("attn_mask") is None
    )
