"""Neurons in words, in one line: from photos and features, or from pictures alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.describe.matching import TEMPLATES, describe_pictures
from captum_neuroinspect.describe.seen_photos import SeenPhotos
from captum_neuroinspect.describe.unit_description import Descriptions
from captum_neuroinspect.describe.units import DescribeOptions, check_given, describe_units
from captum_neuroinspect.encoders.protocol import ImageTextEncoder


@undisturbed()
def describe_neurons(
    evidence: FeatureSet | Mapping[int, Sequence[Tensor] | Tensor],
    encoder: ImageTextEncoder | None = None,
    *,
    images: Iterable[Tensor] | None = None,
    neurons: Sequence[int] | None = None,
    together: Sequence[int] | Tensor | None = None,
    phrases: Sequence[str] | None = None,
    class_names: Sequence[str] = (),
    n_phrases: int = 5,
    templates: Sequence[str] = TEMPLATES,
    background: Tensor | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> Descriptions:
    r"""Name the neurons of a decision layer: by the photos that they answer to, or by pictures.

    With a :class:`FeatureSet` and its photos: :func:`describe_units` on all of them. Concepts are
    colours, light, sharpness and patterns of the photos (:func:`attribute_scores`), the set's own
    classes and groups, and, with an encoder, phrases. Half of the photos choose the words, half
    judge them.

    With pictures alone, such as illusions, each neuron gets the phrases that its pictures are
    nearest to: a difference of cosines, in -2..2,

    .. math:: s_{jp} = \cos(m_j, t_p) - u_p

    with m_j the mean embedding of the neuron's pictures, t_p the embedding of the phrase, and u_p
    the level of the phrase: its mean cosine with the ``background``, as some words are near every
    picture. Without a background, u_p is half of the phrase's mean cosine with the other neurons'
    m, and nothing when there is one neuron only. No photo judges such words: they are never
    *certain*. Illusions that an encoder guided, or that were made in a class, show what they were
    asked for, and the same encoder reads it back: give illusions made without class and encoder. Of
    others give each neuron's in several classes, and all of them as ``background``; to take away
    the other neurons' illusions of a single class is not enough
    (``docs/measurements/words-from-illusions.md``).

    Args:
        evidence: features of N photos; or for each neuron its pictures, each ``(3, H, W)`` in
            0..1, of any size.
        encoder: embeds images and texts. ``None``: only what needs none is said of photos.
        images: with features: their N photos ``(3, H, W)`` in 0..1, in the same order. They are
            read one after the other.
        neurons: with features: which are described; ``None``: all.
        together: with features: ``(N,)`` which photos belong together, such as crops of one photo;
            see :func:`describe_units`.
        phrases: what may be said by the encoder; ``None`` for the built-in :func:`word_list`.
        class_names: may be said by the encoder as well.
        n_phrases: how many a neuron, at most.
        templates: sentences in which ``{}`` stands for the phrase.
        background: with pictures: ``(M, 3, H, W)`` in 0..1, photos chosen without regard to the
            neurons (some dozens), or their embeddings ``(M, D)``. Better than none.
        batch_size: images of one size that are embedded at a time.
        progress: show bars.

    Returns:
        A :class:`UnitDescription` for each neuron, in their order. Its ``n_images`` and
        ``n_held_out`` say what it rests on.

    Raises:
        TypeError: for evidence or an encoder of another kind, neurons or numbers that are not
            whole, images that are no floating-point tensors, or texts that are no strings.
        ValueError: for an argument of the other kind of evidence, photos that do not fit the
            features, fewer than 20 of them, a neuron without pictures, images of another shape or
            range, no phrases, pictures or phrases without an encoder, or numbers below 1.

    Examples::

        >>> import torch
        >>> from torch import nn
        >>> class Colours:  # a space of three numbers: how red, green and blue
        ...     network = nn.Identity()
        ...     def encode_image(self, images):
        ...         return nn.functional.normalize(images.mean((2, 3)), dim=1)
        ...     def encode_text(self, texts):
        ...         words = ("red", "green", "blue")
        ...         return torch.tensor([[float(word in text) for word in words] for text in texts])
        >>> grass = torch.tensor([0.1, 0.9, 0.1])[:, None, None].expand(3, 8, 8)
        >>> print(describe_neurons({7: [grass]}, Colours(), phrases=["red", "green"]))
        unit 7: uncertain: green (0.99), red (0.11) (1 picture, no held-out photos)
        >>> photos = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> brightness = photos.mean((1, 2, 3))[:, None]
        >>> features = FeatureSet(brightness, brightness, torch.zeros(60, dtype=torch.int64))
        >>> describe_neurons(features, images=photos)[0].phrases[0]
        'bright'
    """
    of_both: dict[str, Any] = {
        "encoder": encoder,
        "phrases": phrases,
        "class_names": class_names,
        "n_phrases": n_phrases,
        "templates": templates,
        "batch_size": batch_size,
        "progress": progress,
    }
    if encoder is not None and not hasattr(encoder, "encode_image"):
        raise TypeError(
            f"encoder is {type(encoder).__name__}, expected an object with encode_image and "
            "encode_text, such as LabelSpaceEncoder.pretrained()"
        )
    if isinstance(evidence, FeatureSet):
        _check_not_given("pictures, not with features", background=background)
        return _by_photos(evidence, images, neurons, together, **of_both)
    if not isinstance(evidence, Mapping):
        raise TypeError(
            f"evidence is {type(evidence).__name__}, expected a FeatureSet or pictures by neuron"
        )
    _check_not_given(
        "features, not with pictures", images=images, neurons=neurons, together=together
    )
    if encoder is None:
        raise ValueError("encoder is None, expected one that compares the pictures with phrases")
    return describe_pictures(evidence, background=background, **of_both)


def _by_photos(
    features: FeatureSet,
    images: Iterable[Tensor] | None,
    neurons: Sequence[int] | None,
    together: Sequence[int] | Tensor | None,
    *,
    encoder: ImageTextEncoder | None,
    phrases: Sequence[str] | None,
    class_names: Sequence[str],
    n_phrases: int,
    templates: Sequence[str],
    batch_size: int,
    progress: bool,
) -> Descriptions:
    """All that can be refused is refused before the photos are looked at."""
    if images is None:
        raise ValueError("images is None, expected the photos that the features are of")
    if encoder is None and phrases is not None:
        raise ValueError("phrases are given and no encoder, expected one that scores them")
    options = DescribeOptions(n_phrases=n_phrases)
    chosen, values = None, features.features
    if neurons is not None:
        indices = as_indices("neurons", neurons)
        check_indices("neuron", indices, values.shape[1], f"{values.shape[1]} features")
        chosen, values = indices.tolist(), values[:, indices]
    check_given(values, None, chosen, together)
    n = len(features)
    seen = SeenPhotos.of(images, encoder, batch_size=batch_size, progress=progress, n_images=n)
    concepts = seen.concepts(
        encoder,
        features=features,
        phrases=phrases,
        class_names=class_names,
        templates=templates,
        progress=progress,
    )
    found = describe_units(
        values, concepts, units=chosen, together=together, options=options, progress=progress
    )
    return Descriptions(found, seen.rests_on(concepts, features, "the encoder"))


def _check_not_given(expected: str, **arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name} is given, which goes with {expected}")
