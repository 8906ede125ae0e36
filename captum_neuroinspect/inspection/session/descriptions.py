"""Words for all neurons from all photos, and neurons by words; kept like all that takes long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._core.fingerprint import tensor_fingerprint, text_fingerprint
from captum_neuroinspect._core.kinds import as_plain, check_kinds, from_plain
from captum_neuroinspect._core.modules import as_indices
from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect.analysis.activations import Reduction, collect_activations
from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.describe import (
    ATTRIBUTES,
    LEAST_PHOTOS,
    ConceptScores,
    DescribeOptions,
    Descriptions,
    FoundUnit,
    FoundUnits,
    SeenPhotos,
    UnitDescription,
    ablation_effects,
    describe_units,
    find_units,
    word_list,
)
from captum_neuroinspect.describe.seen_photos import looked_at
from captum_neuroinspect.describe.vocabulary import without_repeats
from captum_neuroinspect.encoders.by_name import LazyEncoder
from captum_neuroinspect.inspection.data.parts import PhotoSet
from captum_neuroinspect.inspection.session.evidence import EvidenceSource

_PHOTOS_AT_A_TIME = 256  # that are kept together: what an interrupt costs at most


@dataclass(frozen=True)
class FoundNeuron(FoundUnit):
    """A :class:`FoundUnit` of the decision layer, crossed with the explained mistakes.

    Attributes:
        blame_rank: its place among the neurons of the explanation, from 1; ``None`` where it is
            not among them, or nothing was explained.
        blame_kind: ``"insufficient"``, ``"excessive"`` or ``"both"``; else ``None``.
    """

    blame_rank: int | None = None
    blame_kind: str | None = None


@dataclass(frozen=True, eq=False)
class WordSource:
    """The photos that words rest on, and who scores phrases on them.

    Attributes:
        source: the model, and where results are kept.
        part: the photos.
        encoder: scores phrases, if there is one.
        class_names: of the model, which the encoder may say.
        phrases: what else it may say; ``None``: the built-in list.
        together: int64 ``(N,)``, the same number for photos that do not confirm each other; or
            ``None``.
        progress: show bars.
    """

    source: EvidenceSource
    part: PhotoSet
    encoder: LazyEncoder | None
    class_names: tuple[str, ...]
    phrases: tuple[str, ...] | None
    together: Tensor | None
    progress: bool

    @classmethod
    def of(
        cls,
        source: EvidenceSource,
        part: PhotoSet,
        encoder: LazyEncoder | None,
        class_names: tuple[str, ...],
        phrases: tuple[str, ...] | None,
        together: Tensor | Sequence[int] | None,
        progress: bool,
    ) -> WordSource:
        """With a whole number for each photo that was given, or without any.

        Raises:
            TypeError: when they are no whole numbers.
            ValueError: when there are more or fewer than photos.
        """
        if together is not None:
            together = as_indices("together", together)
            n = len(part.features)
            if len(together) != n:
                raise ValueError(
                    f"together has {len(together)} values, expected {n}: one for each photo"
                )
        return cls(source, part, encoder, class_names, phrases, together, progress)

    def seen(self) -> SeenPhotos:
        """What was measured on the photos, part by part, so that an interrupt costs little."""
        indices = self.part.features.indices
        parts = []
        with tqdm(desc="photos looked at", total=len(indices), disable=not self.progress) as bar:
            for rows in indices.split(_PHOTOS_AT_A_TIME):
                parts.append(self._seen(rows, bar))
        return SeenPhotos.joined(parts)

    def concepts(self, seen: SeenPhotos) -> ConceptScores:
        """Attributes, classes and groups of the data, and phrases."""
        features = self.part.features
        measured = seen.concepts(features=features)
        if self.encoder is None:
            return measured
        # A class with photos is there by its labels already.
        others = [name for name in self.class_names if name not in measured.phrases]
        names = word_list(class_names=others)
        if self.phrases is not None:
            names = without_repeats(self.phrases)
        encoder, shape = self.encoder, (len(seen), len(names))

        def make() -> dict[str, Tensor]:
            return {"scores": seen.scored(names, encoder, progress=self.progress).scores}

        key = {**self._key(features.indices), "phrases": _digest(names)}
        kept = self._unbound.kept("phrase-scores", key, make, {"scores": shape})
        return measured.joined(ConceptScores(kept["scores"], names, "encoder"))

    def descriptions(self, n_phrases: int, seed: int) -> Descriptions:
        """Of all neurons.

        Raises:
            TypeError, ValueError: for numbers that :class:`DescribeOptions` refuses.
            ValueError: when there are too few photos.
        """
        features, encoder = self.part.features, self.encoder
        options = DescribeOptions(n_phrases=n_phrases, seed=seed)
        self._check_enough()

        def make() -> dict[str, Any]:
            seen = self.seen()
            concepts = self.concepts(seen)
            found = describe_units(
                features.features,
                concepts,
                options=options,
                together=self.together,
                progress=self.progress,
            )
            name = "" if encoder is None else encoder.name
            return {"rests_on": seen.rests_on(concepts, features, name), "units": as_plain(found)}

        key = {
            **self.source.key,
            **self._key(features.indices),
            "class_names": _digest(self.class_names),
            "phrases": _digest(word_list() if self.phrases is None else self.phrases),
            "labels": tensor_fingerprint(features.labels),
            "groups": None if features.groups is None else tensor_fingerprint(features.groups),
            "group_names": _digest(features.group_names or ()),
            "options": as_plain(options),
            **({} if self.together is None else {"together": tensor_fingerprint(self.together)}),
        }

        def check(kept: dict[str, Any]) -> None:
            units = [one.unit for one in _restored(kept)]
            if units != list(range(features.features.shape[1])):
                raise ValueError(f"it is about {len(units)} other units")

        return _restored(
            self.source.work.json("descriptions", key, make, check=check, fresh=self.source.fresh)
        )

    def with_ablation(self, descriptions: Descriptions, neurons: Sequence[int]) -> Descriptions:
        """Those of some neurons with the classes that lose probability without them."""
        features = self.part.features
        effects = ablation_effects(
            self.source.head,
            features.features,
            list(dict.fromkeys(neurons)),
            class_names=self.class_names or None,
            link="sigmoid" if features.is_multi_hot else "softmax",
            progress=self.progress,
        )
        return effects.beside(descriptions)

    def n_units(self, layer: str) -> int:
        """How many units a layer has, by one photo."""
        model, first = self.source.model, int(self.part.features.indices[0])
        photo = self.part.photos.image(first)
        found = collect_activations(
            model.model, [photo], layer, preprocess=model.preprocess, progress=False
        )
        return found.shape[1]

    def activations(self, layer: str, reduce: Reduction) -> Tensor:
        """``(N, K)`` of a layer's units on the photos, kept."""
        indices, model = self.part.features.indices, self.source.model

        def make() -> dict[str, Tensor]:
            photos = (self.part.photos.image(index) for index in indices.tolist())
            found = collect_activations(
                model.model,
                photos,
                layer,
                reduce=reduce,
                preprocess=model.preprocess,
                progress=self.progress,
            )
            return {"activations": found}

        key = {**self._key(indices), "encoder": None, "layer": layer, "reduce": reduce}
        shapes = {"activations": (len(indices), None)}
        return self.source.kept("activations", key, make, shapes)["activations"]

    def described(self, activations: Tensor, n_phrases: int, seed: int) -> Descriptions:
        """Units of another layer, by the same photos and concepts."""
        options = DescribeOptions(n_phrases=n_phrases, seed=seed)
        self._check_enough()
        seen = self.seen()
        concepts = self.concepts(seen)
        found = describe_units(
            activations,
            concepts,
            options=options,
            together=self.together,
            progress=self.progress,
        )
        name = "" if self.encoder is None else self.encoder.name
        return Descriptions(found, seen.rests_on(concepts, self.part.features, name))

    def _check_enough(self) -> None:
        n = len(self.part.features)
        if n < LEAST_PHOTOS:
            raise ValueError(
                f"there are {n} photos, and words need at least {LEAST_PHOTOS}: half "
                "of them choose the words, half judge them"
            )

    def found(self, phrase: str, found: Explanation | None, seed: int) -> FoundUnits[FoundNeuron]:
        """All neurons by how they answer to a phrase.

        Raises:
            TypeError: when it is no text.
            ValueError: when it is empty, or is no attribute, class or group and there is no
                encoder to score it, or too few photos.
        """
        kinds = {} if found is None else {int(r["neuron"]): str(r["kind"]) for r in found.rows()}
        ranks = {} if found is None else {n: i for i, n in enumerate(found.neurons(), start=1)}
        units = self.found_in(self.part.features.features, phrase, seed)
        crossed = (
            replace(one, blame_rank=ranks.get(one.unit), blame_kind=kinds.get(one.unit))
            for one in units
        )
        return FoundUnits(crossed, phrase, units.rests_on)

    def found_in(self, activations: Tensor, phrase: str, seed: int) -> FoundUnits[FoundNeuron]:
        """Units of any activations ``(N, K)`` of the photos by how they answer to a phrase.

        Raises:
            TypeError, ValueError: as :meth:`found`.
        """
        check_texts("phrase", [phrase])
        if not phrase.strip():
            raise ValueError("phrase is empty, expected a word or several")
        scores, by = self._scored(phrase, self.seen())
        units = find_units(activations, scores, phrase, seed=seed)
        rests_on = f"{len(self.part.features):,} photos, {by}"
        return FoundUnits((FoundNeuron(**vars(one)) for one in units), phrase, rests_on)

    def _scored(self, phrase: str, seen: SeenPhotos) -> tuple[Tensor, str]:
        """Scores of a phrase, and who gave them."""
        measured = seen.concepts(features=self.part.features)
        folded = {name.casefold(): name for name in reversed(measured.phrases)}
        known = folded.get(phrase.strip().casefold())
        if known is not None:
            is_measured = known in ATTRIBUTES
            by = "measured on the pixels" if is_measured else "labelled in the data"
            return measured.of(known), by
        if self.encoder is None:
            raise ValueError(
                f"phrase={phrase!r} is no attribute, and no class or group of ten photos or more, "
                f"and there is no encoder to score it: expected one of "
                f"{', '.join(measured.phrases[:40])}"
            )
        return seen.scored([phrase], self.encoder).scores[:, 0], f"scored by {self.encoder.name}"

    def _seen(self, rows: Tensor, bar: tqdm[Any]) -> SeenPhotos:
        def make() -> dict[str, Tensor]:
            parts = []
            for part in looked_at(map(self.part.photos.image, rows.tolist()), self.encoder):
                parts.append(part)
                bar.update(len(part))
            seen = SeenPhotos.joined(parts)
            found = {"attributes": seen.attributes}
            if seen.embeddings is not None:
                found["embeddings"] = seen.embeddings
            return found

        shapes: dict[str, tuple[int | None, ...]] = {"attributes": (len(rows), len(ATTRIBUTES))}
        if self.encoder is not None:
            shapes["embeddings"] = (len(rows), None)
        before = bar.n
        kept = self._unbound.kept("seen-photos", self._key(rows), make, shapes)
        bar.update(before + len(rows) - bar.n)
        return SeenPhotos(kept["attributes"], kept.get("embeddings"))

    def _key(self, rows: Tensor) -> dict[str, Any]:
        return {
            "photos": self.part.fingerprint,
            "rows": tensor_fingerprint(rows),
            "encoder": None if self.encoder is None else self.encoder.key,
        }

    @property
    def _unbound(self) -> EvidenceSource:
        """What an encoder sees does not depend on the model."""
        return replace(self.source, key={})


def _restored(kept: dict[str, Any]) -> Descriptions:
    """Descriptions as they were kept.

    Raises:
        ValueError, TypeError: when they are something else.
    """
    found = []
    for row in kept["units"]:
        one = from_plain(row, UnitDescription)
        if not isinstance(one, UnitDescription):
            raise TypeError("it is no description")
        check_kinds(vars(one), UnitDescription)
        found.append(one)
    return Descriptions(found, str(kept["rests_on"]))


def _digest(texts: Sequence[str]) -> str:
    return text_fingerprint(json.dumps(list(texts)))
