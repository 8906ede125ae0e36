"""Which phrases an image-text encoder finds nearest to pictures of a neuron."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect.describe._embedding import embed_images, embed_phrases
from captum_neuroinspect.describe.unit_description import Descriptions, UnitDescription
from captum_neuroinspect.describe.vocabulary import without_repeats, word_list
from captum_neuroinspect.encoders.protocol import ImageTextEncoder, check_images

# One template: with four each phrase costs four times as much and is hardly better found.
TEMPLATES: tuple[str, ...] = ("a photo of {}.",)

# Other neurons' evidence often shows the same thing. Taken off whole, it would take off
# their right word as well.
_SHARE_OF_OTHERS = 0.5


def describe_pictures(
    evidence: Mapping[int, Sequence[Tensor] | Tensor],
    encoder: ImageTextEncoder,
    *,
    phrases: Sequence[str] | None,
    class_names: Sequence[str],
    n_phrases: int,
    templates: Sequence[str],
    background: Tensor | None,
    batch_size: int,
    progress: bool,
) -> Descriptions:
    """Name each neuron by the phrases that its pictures are nearest to.

    What :func:`describe_neurons` does with pictures; it has the arguments. A high score says that
    the encoder takes the pictures for that, not that the neuron stands for it. A low one says
    nothing: with ``LabelSpaceEncoder.pretrained()`` and a background, first words of known contents
    were right in 9 of 10 cases above 0.4, and in 1 of 40 below 0.2
    (``tests/benchmarks/describe.py``).
    """
    _check_numbers(n_phrases=n_phrases, batch_size=batch_size)
    images = _checked_evidence(evidence)
    _check_background(background)
    names = _phrases(phrases, class_names)
    texts = embed_phrases(names, encoder, templates, progress)
    if background is not None and background.ndim == 4:
        background = embed_images(list(background), encoder, batch_size, progress)
    flat = [image for of_neuron in images.values() for image in of_neuron]
    counts = [len(of_neuron) for of_neuron in images.values()]
    parts = embed_images(flat, encoder, batch_size, progress).split(counts)
    means = F.normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)
    best = _best(contrasted(means, texts, background), names, n_phrases)
    return Descriptions(
        UnitDescription(neuron, *phrases_and_scores, n_images=n_images)
        for neuron, phrases_and_scores, n_images in zip(images, best, counts, strict=True)
    )


def contrasted(means: Tensor, texts: Tensor, background: Tensor | None = None) -> Tensor:
    """Cosines of images and texts, less the text's mean over the background.

    Args:
        means: ``(J, D)`` of length 1, one a neuron.
        texts: ``(P, D)`` of length 1.
        background: ``(N, D)``; ``None``: the other rows of ``means``, at half.

    Returns:
        Scores ``(J, P)``.

    Raises:
        ValueError: for a background of another D.

    Examples::

        >>> means, texts = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
        >>> contrasted(means, texts)
        tensor([[ 1.0000,  0.2000],
                [-0.5000,  0.5000]])
    """
    cosines = means @ texts.T
    if background is not None:
        if background.shape[1] != texts.shape[1]:
            raise ValueError(
                f"background has {background.shape[1]} numbers an embedding, expected the "
                f"encoder's {texts.shape[1]}"
            )
        usual = F.normalize(background.detach().to(texts), dim=-1) @ texts.T
        return cosines - usual.mean(0)
    n_others = max(len(cosines) - 1, 1)
    return cosines - _SHARE_OF_OTHERS * (cosines.sum(0) - cosines) / n_others


def _check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        check_whole(name, value)
        check_at_least(name, value, 1)


def _checked_evidence(
    evidence: Mapping[int, Sequence[Tensor] | Tensor],
) -> dict[int, list[Tensor]]:
    if not evidence:
        raise ValueError("evidence is empty, expected images of at least one neuron")
    for neuron in evidence:
        check_whole("neuron", neuron)
    images = {int(neuron): list(of_neuron) for neuron, of_neuron in evidence.items()}
    for neuron, of_neuron in images.items():
        if not of_neuron:
            raise ValueError(f"evidence of neuron {neuron} is empty, expected at least one image")
        for image in of_neuron:
            batch = image[None] if isinstance(image, Tensor) else image
            _check_images(f"evidence of neuron {neuron}, as a batch", batch)
    return images


def _check_background(background: Tensor | None) -> None:
    if background is None:
        return
    if not isinstance(background, Tensor):
        raise TypeError(f"background is a {type(background).__name__}, expected a tensor")
    if background.ndim == 4:
        _check_images("background", background)
    elif background.ndim != 2 or not len(background):
        raise ValueError(
            f"background has shape {tuple(background.shape)}, expected images (N, 3, H, W) or "
            "embeddings (N, D), N >= 1"
        )
    elif not all_finite(background):
        raise ValueError("background has NaN or infinite embeddings")


def _check_images(name: str, images: Tensor) -> None:
    """The encoder would refuse them too, but not say whose they are."""
    try:
        check_images(images)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def _best(
    scores: Tensor, names: Sequence[str], n_phrases: int
) -> Iterator[tuple[tuple[str, ...], tuple[float, ...]]]:
    # Not topk: which of equal values it takes depends on the machine.
    values, order = scores.sort(dim=1, descending=True, stable=True)
    for value, best in zip(values[:, :n_phrases], order[:, :n_phrases], strict=True):
        yield tuple(names[p] for p in best.tolist()), tuple(value.tolist())


def _phrases(phrases: Sequence[str] | None, class_names: Sequence[str]) -> tuple[str, ...]:
    if phrases is None:
        return word_list(class_names=class_names)
    names = check_texts("class_names", class_names) if len(class_names) else []
    return without_repeats([*names, *check_texts("phrases", phrases)])
