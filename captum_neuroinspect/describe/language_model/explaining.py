"""Units in words that a language model proposes and revises, and photos decide on."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from tqdm import tqdm

from captum_neuroinspect._core.checks import check_between, check_whole
from captum_neuroinspect.describe.concept_scores import ConceptScores
from captum_neuroinspect.describe.language_model.asking import Asker
from captum_neuroinspect.describe.language_model.models import LanguageModel, LanguageModelError
from captum_neuroinspect.describe.language_model.transcript import Exchange, KeptAnswers
from captum_neuroinspect.describe.unit_description import Descriptions, UnitDescription
from captum_neuroinspect.describe.units import (
    NO_PHRASE,
    DescribeOptions,
    check_given,
    describe_units,
)

_UNITS_A_QUESTION = 20
_NEW_PHRASES = 8  # a unit and round
_PHOTOS_A_UNIT, _PHOTO_SIDE = 4, 160
_LEAST_GAIN = 0.005  # of a unit's best score, for another round


@dataclass(frozen=True)
class LanguageDescriptions:
    """Descriptions, a sentence for each unit that has one, and all that was said.

    Attributes:
        descriptions: as :func:`describe_units` makes them; evidence is of held-out photos, which
            the language model never hears of.
        sentences: by unit, of those whose first phrase is certain. The model wrote them: the
            evidence is for the phrases.
        phrases: of the vocabulary that the language model proposed.
        transcript: what was asked and answered, in order.
        notes: what went wrong, a sentence each.
    """

    descriptions: Descriptions
    sentences: Mapping[int, str] = field(default_factory=dict)
    phrases: tuple[str, ...] = ()
    transcript: tuple[Exchange, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{one}\n  {self.sentences[one.unit]}" if one.unit in self.sentences else str(one)
            for one in self.descriptions
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def rows(self) -> list[dict[str, Any]]:
        """The transcript as dictionaries, ready for JSON."""
        return [asdict(exchange) for exchange in self.transcript]


def describe_with_language_model(
    activations: Tensor,
    scorer: Callable[[Sequence[str]], ConceptScores],
    language_model: LanguageModel,
    *,
    start: ConceptScores | None = None,
    units: Sequence[int] | None = None,
    together: Sequence[int] | Tensor | None = None,
    domain: str = "photos",
    class_names: Sequence[str] = (),
    n_rounds: int = 3,
    n_proposed: int = 100,
    images: Sequence[Tensor] | None = None,
    send_images: bool = False,
    keep: str | Path | None = None,
    options: DescribeOptions | None = None,
    progress: bool = False,
) -> LanguageDescriptions:
    """Name units by phrases that a language model proposes, sees scored, and revises.

    It proposes phrases for the domain, which join those of ``start``; units are described by
    :func:`describe_units`; in each round it sees each unit's phrases with their scores on the
    photos that choose, and proposes others; in the end it writes a sentence for units whose first
    phrase is certain. A phrase stands only by its scores on photos. When the model does not answer,
    is too slow, or says nothing usable, the phrases matched so far are returned, with a note and a
    warning.

    What leaves the machine: ``domain``, ``class_names``, phrases and scores; photos only with
    ``send_images``. Names are given as quoted data, and answers are cut to plain phrases: an
    instruction in a name can at most waste a phrase.

    Args:
        activations: ``(N, K)`` of K units on N photos.
        scorer: scores new phrases on the same photos, such as
            ``lambda phrases: phrase_scores(photos, encoder, phrases=phrases)``.
        language_model: such as :class:`OpenAIModel`.
        start: concepts that are there already, on the same photos.
        units: the K units' numbers; ``None``: 0 to K - 1.
        together: which photos belong together, as in :func:`describe_units`.
        domain: what the photos are of, in a few words.
        class_names: of the classifier.
        n_rounds: of revision, 0 to 3; fewer when a round improves no unit.
        n_proposed: phrases for the domain, 1 to 1,000.
        images: the N photos ``(3, H, W)`` in 0..1.
        send_images: send small copies of each unit's four most active photos.
        keep: folder for usable answers; the same question is not asked twice.
        options: of :func:`describe_units`.
        progress: show a bar.

    Raises:
        TypeError: for a language model or scorer without its method, or numbers that are not whole.
        ValueError: for numbers outside their range, ``send_images`` without ``images``, or what
            :func:`describe_units` refuses.
    """
    _check(language_model, scorer, activations, n_rounds, n_proposed, images, send_images)
    check_given(activations, start, units, together)  # before the language model costs anything
    asker = Asker(language_model, KeptAnswers(None if keep is None else Path(keep)))
    work = _Work(activations, scorer, start, units, together, options or DescribeOptions())
    pictures = images if send_images else None
    notes: list[str] = []
    with tqdm(desc="rounds", total=n_rounds + 2, disable=not progress) as bar:
        try:
            work.add(asker.phrases_for(domain, class_names, n_proposed))
            bar.update()
            for _ in range(n_rounds):
                bar.update()
                if not work.revised(asker, pictures):
                    break
        except LanguageModelError as error:
            notes.append(f"The phrases are those matched so far: {error}")
        if work.scores is None:
            raise LanguageModelError(
                f"no phrases: start is None, and the language model proposed none ({notes[0]})"
                if notes
                else "no phrases: start is None, and the language model proposed none"
            )
        found = work.described()
        sentences: dict[int, str] = {}
        if not notes:
            try:
                sentences = _sentences(found, asker)
            except LanguageModelError as error:
                notes.append(f"There are no sentences: {error}")
        bar.update(bar.total - bar.n)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return LanguageDescriptions(
        found, sentences, tuple(work.proposed), tuple(asker.transcript), tuple(notes)
    )


class _Work:
    """Phrases and scores so far."""

    def __init__(
        self,
        activations: Tensor,
        scorer: Callable[[Sequence[str]], ConceptScores],
        start: ConceptScores | None,
        units: Sequence[int] | None,
        together: Sequence[int] | Tensor | None,
        options: DescribeOptions,
    ) -> None:
        self.activations, self.scores, self.proposed = activations, start, list[str]()
        self._scorer, self._units, self._options = scorer, units, options
        self._together = together

    def add(self, phrases: Sequence[str]) -> bool:
        """Score phrases that are not there yet; whether there were any."""
        known = set() if self.scores is None else {p.casefold() for p in self.scores.phrases}
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase.casefold() not in known]
        if not new:
            return False
        found = self._scorer(new)
        self.scores = found if self.scores is None else self.scores.joined(found)
        self.proposed += new
        return True

    def described(self) -> Descriptions:
        assert self.scores is not None
        return describe_units(
            self.activations,
            self.scores,
            units=self._units,
            together=self._together,
            options=self._options,
        )

    def revised(self, asker: Asker, images: Sequence[Tensor] | None) -> bool:
        """One round; whether a unit has become better by it."""
        if self.scores is None:
            return False
        before = self.described()
        new: list[str] = []
        for block in _blocks([one for one in before if one.phrases or one.note == NO_PHRASE]):
            pictures = None if images is None else self._pictures(block, before, images)
            told = [_told(one) for one in block]
            for phrases in asker.phrases_of_units(told, _NEW_PHRASES, pictures).values():
                new += phrases
        if not self.add(new):
            return False
        return any(
            max(now.scores, default=0.0) > max(was.scores, default=0.0) + _LEAST_GAIN
            for was, now in zip(before, self.described(), strict=True)
        )

    def _pictures(
        self, block: list[UnitDescription], order: Descriptions, images: Sequence[Tensor]
    ) -> dict[int, list[str]]:
        column = {one.unit: k for k, one in enumerate(order)}
        return {
            one.unit: [
                _data_url(images[row])
                for row in self.activations[:, column[one.unit]]
                .argsort(descending=True, stable=True)[:_PHOTOS_A_UNIT]
                .tolist()
            ]
            for one in block
        }


def _sentences(found: Descriptions, asker: Asker) -> dict[int, str]:
    said: dict[int, str] = {}
    for block in _blocks([one for one in found if one.is_certain]):
        said |= asker.sentences([_told(one) for one in block])
    return said


def _told(one: UnitDescription) -> dict[str, Any]:
    # Scores of the photos that choose: the held-out ones judge what the model makes of these.
    pairs = zip(one.phrases, one.scores, strict=True)
    return {"unit": one.unit, "phrases": {phrase: round(score, 2) for phrase, score in pairs}}


def _blocks(units: list[UnitDescription]) -> list[list[UnitDescription]]:
    return [units[i : i + _UNITS_A_QUESTION] for i in range(0, len(units), _UNITS_A_QUESTION)]


def _data_url(image: Tensor) -> str:
    picture = to_pil_image(image.detach().cpu().float().clamp(0, 1))
    picture.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE))
    held = io.BytesIO()
    picture.save(held, "JPEG")  # which carries no name and no place
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


def _check(
    language_model: LanguageModel,
    scorer: object,
    activations: Tensor,
    n_rounds: int,
    n_proposed: int,
    images: Sequence[Tensor] | None,
    send_images: bool,
) -> None:
    if not isinstance(language_model, LanguageModel):
        raise TypeError(
            f"language_model is a {type(language_model).__name__}, expected an object with a name "
            "and the method answer(messages)"
        )
    if not callable(scorer):
        raise TypeError(f"scorer is a {type(scorer).__name__}, expected a function of phrases")
    for name, value, low, high in (
        ("n_rounds", n_rounds, 0, 3),
        ("n_proposed", n_proposed, 1, 1000),
    ):
        check_whole(name, value)
        check_between(name, value, low, high)
    if send_images and images is None:
        raise ValueError("send_images=True without images, expected the photos")
    if images is not None and isinstance(activations, torch.Tensor):
        if len(images) != len(activations):
            raise ValueError(
                f"images has {len(images)} photos and activations {len(activations)}, expected "
                "the same photos"
            )
