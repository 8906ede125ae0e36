"""What photos show, measured once, so that any phrase can be scored on them later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice

import torch
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.describe._embedding import embed_images, embed_phrases
from captum_neuroinspect.describe.attributes import ATTRIBUTES, attribute_scores
from captum_neuroinspect.describe.concept_scores import ConceptScores, label_scores
from captum_neuroinspect.describe.matching import TEMPLATES
from captum_neuroinspect.describe.vocabulary import without_repeats, word_list
from captum_neuroinspect.encoders.protocol import ImageTextEncoder, check_images

_PHOTOS_AT_A_TIME = 16  # that are held, as photos come one by one; a bar moves by so many
_LEAST_OF_LABEL = 10  # photos: of fewer too few are among those that judge


@dataclass(frozen=True, eq=False)
class SeenPhotos:
    """What was measured on N photos, by :meth:`of`.

    Attributes:
        attributes: ``(N, A)`` scores of :data:`ATTRIBUTES`.
        embeddings: ``(N, D)`` of length 1 by an image-text encoder; ``None`` without one.

    Examples::

        >>> meadow = torch.tensor([0.2, 0.7, 0.1])[:, None, None].expand(3, 32, 32)
        >>> seen = SeenPhotos.of([meadow, meadow])
        >>> seen.concepts().of("green").tolist()
        [1.0, 1.0]
    """

    attributes: Tensor
    embeddings: Tensor | None = None

    def __len__(self) -> int:
        return len(self.attributes)

    @classmethod
    @undisturbed()
    def of(
        cls,
        images: Iterable[Tensor],
        encoder: ImageTextEncoder | None = None,
        *,
        batch_size: int = 8,
        progress: bool = False,
        n_images: int | None = None,
    ) -> SeenPhotos:
        """Look at photos, which are read one after the other.

        Args:
            images: N photos ``(3, H, W)`` in 0..1, of any sizes.
            encoder: embeds them; ``None``: only attributes are measured.
            batch_size: photos of one size that are embedded at a time.
            progress: show a bar.
            n_images: N, for the bar; ``None``: the length of ``images``, if it has one.

        Raises:
            TypeError: for photos that are no floating-point tensors.
            ValueError: for no photos, another shape, values outside 0..1, or a batch below 1.
        """
        check_whole("batch_size", batch_size)
        check_at_least("batch_size", batch_size, 1)
        total = n_images if n_images is not None else getattr(images, "__len__", lambda: None)()
        with tqdm(desc="photos looked at", total=total, disable=not progress) as bar:
            parts = []
            for part in looked_at(images, encoder, batch_size):
                parts.append(part)
                bar.update(len(part))
        if not parts:
            raise ValueError("images has no photos")
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence[SeenPhotos]) -> SeenPhotos:
        """Those of several sets of photos, one after the other.

        Raises:
            ValueError: for no parts, or when an encoder looked at some of them only, or another
                one at some.
        """
        if not parts:
            raise ValueError("parts is empty, expected at least one")
        embeddings = [part.embeddings for part in parts if part.embeddings is not None]
        if len(embeddings) not in (0, len(parts)) or len({e.shape[1] for e in embeddings}) > 1:
            raise ValueError(
                "parts were looked at by different encoders or some by none, expected one encoder"
            )
        return cls(
            torch.cat([part.attributes for part in parts]),
            torch.cat(embeddings) if embeddings else None,
        )

    def concepts(
        self,
        encoder: ImageTextEncoder | None = None,
        *,
        features: FeatureSet | None = None,
        phrases: Sequence[str] | None = None,
        class_names: Sequence[str] = (),
        templates: Sequence[str] = TEMPLATES,
        progress: bool = False,
    ) -> ConceptScores:
        """Attributes, what the data say of the photos, and phrases, side by side.

        Args:
            encoder: that embedded the photos, for phrases; ``None``: no phrases.
            features: of the same photos: its classes and groups with at least ten photos, but
                not all of them, are concepts too.
            phrases: what may be said by the encoder; ``None`` for the built-in :func:`word_list`.
            class_names: may be said by the encoder as well.
            templates: sentences in which ``{}`` stands for the phrase.
            progress: show a bar.

        Raises:
            TypeError: for texts that are no strings.
            ValueError: for features of another number of photos, phrases without an encoder, or
                an encoder when none looked at the photos.
        """
        if encoder is None and phrases is not None:
            raise ValueError("phrases are given and no encoder, expected one that scores them")
        parts = [ConceptScores(self.attributes, ATTRIBUTES, "pixels")]
        if features is not None:
            if len(features) != len(self):
                raise ValueError(
                    f"features has {len(features)} rows and there are {len(self)} photos, "
                    "expected the same photos in the same order"
                )
            parts += concepts_of_data(features)
        if encoder is not None:
            names = word_list(class_names=class_names)
            if phrases is not None:
                of_classes = check_texts("class_names", class_names) if len(class_names) else []
                names = without_repeats([*of_classes, *check_texts("phrases", phrases)])
            parts.append(self.scored(names, encoder, templates=templates, progress=progress))
        return reduce(ConceptScores.joined, parts)

    def rests_on(
        self, concepts: ConceptScores, features: FeatureSet | None = None, encoder: str = ""
    ) -> str:
        """What descriptions by these photos and concepts rest on, in one line for people.

        Args:
            concepts: by :meth:`concepts`.
            features: that it was given.
            encoder: name of the one that it was given, if any.
        """
        of_data = [] if features is None else concepts_of_data(features)
        kinds = [f"{len(ATTRIBUTES)} attributes of the pixels"]
        for part in of_data:
            n = len(part.phrases)
            kinds.append(f"{n:,} {part.source}{'' if n == 1 else 's'} of the data")
        n_said = len(concepts.phrases) - len(ATTRIBUTES) - sum(len(p.phrases) for p in of_data)
        kinds.append(
            f"{n_said:,} phrases by {encoder}" if n_said else "no phrases, as there is no encoder"
        )
        return f"{len(self):,} photos, half of them held out; {', '.join(kinds)}"

    def scored(
        self,
        phrases: Sequence[str],
        encoder: ImageTextEncoder,
        *,
        templates: Sequence[str] = TEMPLATES,
        progress: bool = False,
    ) -> ConceptScores:
        """Cosines of the photos and phrases by the encoder that embedded them.

        Raises:
            ValueError: when no encoder looked at the photos, or another one did.
        """
        if self.embeddings is None:
            raise ValueError("no encoder looked at these photos, so no phrase can be scored")
        texts = embed_phrases(phrases, encoder, templates, progress)
        if texts.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"the photos were embedded in {self.embeddings.shape[1]} numbers, and this encoder "
                f"gives {texts.shape[1]}: expected the encoder that embedded them"
            )
        return ConceptScores(self.embeddings @ texts.T, tuple(phrases), "encoder")


@undisturbed()
def _look(block: list[Tensor], encoder: ImageTextEncoder | None, batch_size: int) -> SeenPhotos:
    embeddings = None
    if encoder is not None:
        embeddings = embed_images(block, encoder, batch_size, progress=False)
    return SeenPhotos(attribute_scores(block).scores, embeddings)


def looked_at(
    images: Iterable[Tensor], encoder: ImageTextEncoder | None, batch_size: int = 8
) -> Iterator[SeenPhotos]:
    """Photos a block at a time, so that a bar moves when they were looked at, not when read."""
    for block in _blocks(images):
        yield _look(block, encoder, batch_size)


def concepts_of_data(features: FeatureSet) -> list[ConceptScores]:
    """Classes and groups as concepts: those of at least ten photos, but not of all.

    Examples::

        >>> z = torch.eye(2).repeat(12, 1)
        >>> data = FeatureSet(z, z, torch.tensor([0, 1] * 12), class_names=("cat", "dog"))
        >>> [part.phrases for part in concepts_of_data(data)]
        [('cat', 'dog')]
    """
    given = [("label", features.labels, features.class_name)]
    if features.groups is not None:
        given.append(("group", features.groups, features.group_name))
    found = []
    for source, values, name in given:
        counts = values.sum(0) if values.ndim == 2 else values.bincount()
        is_usable = (counts >= _LEAST_OF_LABEL) & (counts < len(features))
        if not (usable := is_usable.nonzero()[:, 0].tolist()):
            continue
        columns = values[:, usable] if values.ndim == 2 else values[:, None] == torch.tensor(usable)
        names = _different([name(index) for index in usable], usable, source)
        found.append(label_scores(columns, names, source=source))
    return found


def _different(names: list[str], numbers: list[int], source: str) -> list[str]:
    """Two classes may have one name: then the later one carries its number."""
    taken: set[str] = set()
    for place, number in enumerate(numbers):
        if names[place] in taken:
            names[place] = f"{names[place]} ({source} {number})"
        taken.add(names[place])
    return names


def _blocks(images: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    waiting = iter(images)
    while block := list(islice(waiting, _PHOTOS_AT_A_TIME)):
        for image in block:
            check_images(image[None] if isinstance(image, Tensor) else image)
        yield block
