"""Class names as text embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect.encoders.protocol import ImageTextEncoder

DEFAULT_TEMPLATES: tuple[str, ...] = (
    "a photo of a {}.",
    "a close-up picture of a {}.",
    "an illustration of a {}.",
    "the shape and texture of a {}.",
)


def class_embeddings(
    text_encoder: ImageTextEncoder | Callable[[list[str]], Tensor],
    class_names: Sequence[str],
    templates: Sequence[str] = DEFAULT_TEMPLATES,
) -> Tensor:
    """Embed each class name as the mean of its prompts' embeddings.

    Each prompt's embedding is brought to length 1 before the mean, and the mean
    after it. All prompts go to the encoder in one call.

    Args:
        text_encoder: an encoder, or a function from N texts to embeddings (N, D).
        class_names: C names; the same name may occur twice.
        templates: sentences in which ``{}`` stands for the name.

    Returns:
        Embeddings (C, D) of length 1.

    Raises:
        TypeError: for a single string, or an item that is not a string.
        ValueError: for no names, no templates, or a template without ``{}``.

    Example:
        >>> import torch
        >>> def count_letters(texts):
        ...     return torch.tensor([[text.count("c"), text.count("d")] for text in texts]).float()
        >>> class_embeddings(count_letters, ["cat", "dog"], ["one {}"])
        tensor([[1., 0.],
                [0., 1.]])
    """
    class_names = check_texts("class_names", class_names)
    templates = check_templates(templates)
    # Not isinstance: a protocol does not see the attributes of an encoder that is an nn.Module.
    encode_text: Any = getattr(text_encoder, "encode_text", text_encoder)
    # str.replace, for a template may contain other braces.
    prompts = [template.replace("{}", name) for name in class_names for template in templates]
    embeddings = F.normalize(encode_text(prompts), dim=-1)
    means = embeddings.unflatten(0, (len(class_names), len(templates))).mean(1)
    return F.normalize(means, dim=-1)


def check_templates(templates: Sequence[str]) -> list[str]:
    """Return ``templates`` as a list, refusing what has no place for a name.

    Raises:
        TypeError: for a single string, or an item that is not a string.
        ValueError: for no templates, or one without ``{}``.
    """
    found = check_texts("templates", templates)
    for template in found:
        if "{}" not in template:
            raise ValueError(f"templates holds {template!r}, expected '{{}}' where the name goes")
    return found


def clip_templates() -> tuple[str, ...]:
    """The 80 templates that CLIP's authors chose for ImageNet, as OpenCLIP carries them.

    They cost 20 times the text passes of :data:`DEFAULT_TEMPLATES`, once for each class.

    More details: Radford et al. 2021, https://arxiv.org/abs/2103.00020

    Examples::

        >>> len(clip_templates()), clip_templates()[0]
        (80, 'a bad photo of a {}.')
    """
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    # OpenCLIP has them as functions of the name.
    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
