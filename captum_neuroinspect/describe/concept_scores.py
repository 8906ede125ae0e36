"""Concepts: phrases with one number for each photo, from an encoder or from labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.describe._embedding import embed_images, embed_phrases
from captum_neuroinspect.describe.matching import TEMPLATES
from captum_neuroinspect.describe.vocabulary import without_repeats, word_list
from captum_neuroinspect.encoders.protocol import ImageTextEncoder, check_images

_PHOTOS_AT_A_TIME = 256  # that are held, when photos come one by one


@dataclass(frozen=True, eq=False)
class ConceptScores:
    """How much of each concept each photo shows. Only the order over photos counts.

    Attributes:
        scores: ``(N, P)`` float32.
        phrases: the P concepts, all different.
        source: where they come from, in a word.

    Raises:
        TypeError: for scores that are no tensor, or phrases that are not several strings.
        ValueError: for another shape, or a phrase twice.
    """

    scores: Tensor
    phrases: tuple[str, ...]
    source: str = "given"

    def __post_init__(self) -> None:
        if not isinstance(self.scores, Tensor):
            raise TypeError(f"scores is a {type(self.scores).__name__}, expected a tensor (N, P)")
        object.__setattr__(self, "phrases", tuple(check_texts("phrases", self.phrases)))
        if self.scores.ndim != 2 or self.scores.shape[1] != len(self.phrases):
            raise ValueError(
                f"scores has shape {tuple(self.scores.shape)}, expected (N, {len(self.phrases)}) "
                "for as many phrases"
            )
        if len(set(self.phrases)) < len(self.phrases):
            twice = next(name for name in self.phrases if self.phrases.count(name) > 1)
            raise ValueError(f"phrases has {twice!r} twice, expected different phrases")

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, phrase: str) -> Tensor:
        """``(N,)`` scores of one phrase.

        Raises:
            KeyError: for a phrase that is not among them.
        """
        if phrase not in self.phrases:
            raise KeyError(f"phrase={phrase!r} is not among the {len(self.phrases)} phrases")
        return self.scores[:, self.phrases.index(phrase)]

    def joined(self, other: ConceptScores) -> ConceptScores:
        """Both, side by side, for the same photos in the same order.

        A phrase of ``other`` that is in both carries its source there, such as "red (encoder)".

        Raises:
            ValueError: for another number of photos.

        Examples::

            >>> one = ConceptScores(torch.ones(2, 1), ("red",), "pixels")
            >>> one.joined(ConceptScores(torch.zeros(2, 1), ("red",), "encoder")).phrases
            ('red', 'red (encoder)')
        """
        if len(self) != len(other):
            raise ValueError(f"scores of {len(self)} and of {len(other)} photos, expected the same")
        mine, names = set(self.phrases), list(other.phrases)
        taken = mine | set(names)
        for place, name in enumerate(names):
            if name in mine:
                while name in taken:
                    name = f"{name} ({other.source})"
                taken.add(name)
                names[place] = name
        return ConceptScores(
            torch.cat([self.scores, other.scores], 1), (*self.phrases, *names), "several"
        )


@undisturbed()
def phrase_scores(
    images: Iterable[Tensor],
    encoder: ImageTextEncoder,
    *,
    phrases: Sequence[str] | None = None,
    class_names: Sequence[str] = (),
    templates: Sequence[str] = TEMPLATES,
    batch_size: int = 8,
    progress: bool = False,
) -> ConceptScores:
    """Cosines of photos and phrases by an image-text encoder.

    Args:
        images: N photos ``(3, H, W)`` in 0..1, of any sizes; they are read one after the other.
        encoder: embeds images and texts.
        phrases: what may be said; ``None`` for the built-in :func:`word_list`.
        class_names: may be said as well.
        templates: sentences in which ``{}`` stands for the phrase.
        batch_size: images of one size that are embedded at a time.
        progress: show bars.

    Returns:
        ``(N, P)`` scores in -1..1.

    Raises:
        TypeError: for images that are no floating-point tensors, or texts that are no strings.
        ValueError: for no images, images of another shape or range, or a batch below 1.
    """
    check_whole("batch_size", batch_size)
    check_at_least("batch_size", batch_size, 1)
    names = word_list(class_names=class_names)
    if phrases is not None:
        of_classes = check_texts("class_names", class_names) if len(class_names) else []
        names = without_repeats([*of_classes, *check_texts("phrases", phrases)])
    texts = embed_phrases(names, encoder, templates, progress)
    parts = []
    waiting = iter(images)
    while block := list(islice(waiting, _PHOTOS_AT_A_TIME)):
        for image in block:
            check_images(image[None] if isinstance(image, Tensor) else image)
        parts.append(embed_images(block, encoder, batch_size, progress) @ texts.T)
    if not parts:
        raise ValueError("images has no photos")
    return ConceptScores(torch.cat(parts), names, "encoder")


def label_scores(labels: Tensor, names: Sequence[str], *, source: str = "label") -> ConceptScores:
    """Labels, groups or attributes of photos as concepts: 1 where a photo has it.

    Args:
        labels: ``(N,)`` indices into ``names``, or ``(N, P)`` multi-hot; a set's ``labels`` and
            ``class_names``, or ``groups`` and ``group_names``.
        names: one a label.
        source: a word for where they come from.

    Raises:
        TypeError: for labels that are no tensor, or indices that are not whole numbers.
        ValueError: for labels without a name, or another shape.

    Examples::

        >>> label_scores(torch.tensor([1, 0]), ["land", "water"]).of("water").tolist()
        [1.0, 0.0]
    """
    given = tuple(check_texts("names", names))
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels is a {type(labels).__name__}, expected a tensor (N,) or (N, P)")
    if labels.ndim == 1:
        if labels.is_floating_point():
            raise TypeError(
                f"labels holds {labels.dtype}, expected whole numbers: indices of names"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(given):
            raise ValueError(
                f"labels are in {int(labels.min())}..{int(labels.max())}, expected 0.."
                f"{len(given) - 1} for {len(given)} names"
            )
        labels = F.one_hot(labels.long(), len(given))
    return ConceptScores(labels.detach().cpu().float(), given, source)
