"""Before anything long: are these the photos, labels and pixels that the model knows?"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.analysis.class_errors import ClassErrors, worst_classes
from captum_neuroinspect.inspection.preflight_checks.agreement import Collapse as Collapse
from captum_neuroinspect.inspection.preflight_checks.agreement import Guessing as Guessing
from captum_neuroinspect.inspection.preflight_checks.agreement import Renaming as Renaming
from captum_neuroinspect.inspection.preflight_checks.agreement import collapse, guessing, renaming
from captum_neuroinspect.inspection.preflight_checks.preprocessing import (
    PreprocessingCheck as PreprocessingCheck,
)
from captum_neuroinspect.inspection.preflight_checks.preprocessing import (
    check_preprocessing as check_preprocessing,
)
from captum_neuroinspect.inspection.preflight_checks.rendering import RenderingPlan as RenderingPlan

__all__ = ["MistakeCount", "Preflight", "PreprocessingCheck", "check_preprocessing", "preflight"]

_FEW = 20  # photos of a class, below which its numbers rest on little
_TOO_GOOD = 0.99
_N_LISTED = 5  # classes in a line


@dataclass(frozen=True)
class MistakeCount:
    """What becomes of the mistakes on a class.

    Attributes:
        target: the class.
        name: its name.
        n_mistakes: photos of it that are taken for something else.
        n_explained: of these, those that are explained.
        n_validation: those of the photos that choose an edit.
        n_test: those of the photos that judge it; 0 where test photos were given.
        n_train: those of the photos that stand for train photos; 0 where these were given.
    """

    target: int
    name: str
    n_mistakes: int
    n_explained: int
    n_validation: int
    n_test: int = 0
    n_train: int = 0

    @property
    def of_other_roles(self) -> str:
        """How many are not explained as their photos have other roles, in words, or nothing."""
        roles = {"validation": self.n_validation, "test": self.n_test, "train": self.n_train}
        return ", ".join(f"{n} for {role}" for role, n in roles.items() if n)

    def __str__(self) -> str:
        plural = "" if self.n_mistakes == 1 else "s"
        counts = [f"{self.n_explained} explained", self.of_other_roles]
        others = self.n_mistakes - self.n_explained
        others -= self.n_validation + self.n_test + self.n_train
        if others:
            counts.append(f"{others} taken for other classes than the one asked about")
        return f"{self.name}: {self.n_mistakes} mistake{plural}; {', '.join(filter(None, counts))}"


@dataclass(frozen=True)
class Preflight:
    """What can be said about model, photos and labels before anything long is done.

    Shows itself as lines of text, also in a notebook. :attr:`warnings` are what probably
    makes all later results wrong.

    Attributes:
        guessing: the accuracy, its interval, and that of guessing.
        class_names: of all classes.
        missed: classes with photos of which none is recognised.
        few: classes with fewer than 20 photos, fewest first; those without are left out.
        collapse: the class that most photos are taken for, or ``None``.
        renaming: other names of the classes that fit far better, or ``None``.
        preprocessing: what the model sees, or ``None`` when that was not looked at.
        mistakes: what becomes of those of the inspected class, or ``None``.
        rendering: illusions that will be made, or ``None``.
    """

    guessing: Guessing
    class_names: tuple[str, ...]
    missed: tuple[ClassErrors, ...] = ()
    few: tuple[ClassErrors, ...] = ()
    collapse: Collapse | None = None
    renaming: Renaming | None = None
    preprocessing: PreprocessingCheck | None = None
    mistakes: MistakeCount | None = None
    rendering: RenderingPlan | None = None

    @property
    def accuracy(self) -> float:
        """Share of the photos that are recognised, 0..1."""
        return self.guessing.accuracy

    @property
    def is_like_training(self) -> bool:
        """Whether the photos look like those that the model was trained on."""
        return self.accuracy >= _TOO_GOOD and self.guessing.n_photos >= _FEW

    @property
    def lines(self) -> tuple[str, ...]:
        """Facts, a line each."""
        return tuple(self._facts())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What probably makes all later results wrong, a sentence or two each."""
        return tuple(self._warnings())

    def record(self) -> dict[str, Any]:
        """All findings as plain data, the same in every run: without times and what is kept."""
        found = asdict(self)
        found.pop("class_names")
        if self.rendering is not None:
            found["rendering"] = {
                "n_pictures": self.rendering.n_pictures,
                "n_steps": self.rendering.n_steps,
            }
        return {"accuracy": self.accuracy, **found, "warnings": list(self.warnings)}

    def __str__(self) -> str:
        return "\n".join([*self.lines, *(f"Warning: {text}" for text in self.warnings)])

    def _repr_html_(self) -> str:
        facts = "".join(f"<li>{html.escape(line)}</li>" for line in self.lines)
        serious = "".join(
            f"<li><strong>Warning:</strong> {html.escape(text)}</li>" for text in self.warnings
        )
        return f"<ul>{serious}{facts}</ul>"

    def _facts(self) -> Iterator[str]:
        found = self.guessing
        yield (
            f"accuracy: {_share(found.accuracy)}, {found.n_right} of {found.n_photos} photos "
            f"({_interval(found)})"
        )
        if found.is_like_commonest and not found.is_blind:
            yield (
                f"always saying {self._name(found.commonest)} would be right on "
                f"{_share(found.commonest_share)}: look at the classes, not at the accuracy"
            )
        if self.missed:
            yield f"never recognised: {_listed(self.missed)}"
        if self.few:
            yield f"fewer than {_FEW} photos, so their accuracy is uncertain: {_listed(self.few)}"
        yield from self._input()
        if self.mistakes is not None:
            yield str(self.mistakes)
        if self.rendering is not None:
            yield str(self.rendering)

    def _input(self) -> Iterator[str]:
        found = self.preprocessing
        if found is None:
            return
        seen = f"from {found.seen[0]:.3g} to {found.seen[1]:.3g}"
        if found.is_given:
            yield f"input: the model sees values {seen}"
        else:
            yield "input: no preprocessing was given: the model sees pixels in 0..1"

    def _warnings(self) -> Iterator[str]:
        yield from self._blindness()
        if self.renaming is not None:
            yield self._other_names(self.renaming)
        yield from self._pixels()
        if self.is_like_training:
            yield (
                f"accuracy {_share(self.accuracy)}: are these the photos that it was trained on? "
                "Inspect photos that it has not seen"
            )

    def _blindness(self) -> Iterator[str]:
        found, advice = self.guessing, "check preprocessing and class order"
        # Other names explain it: then this advice would lead astray.
        if found.is_blind and self.renaming is None:
            rival = f"guessing ({_share(found.guess)})"
            if not found.is_near:
                name, share = self._name(found.commonest), _share(found.commonest_share)
                rival = f"always saying {name} ({share})"
            yield (
                f"accuracy {_share(found.accuracy)} ({_interval(found)}) is near chance, no better "
                f"than {rival}: {advice}"
            )
        if self.collapse is not None:
            yield (
                f"{_share(self.collapse.share)} of the photos are taken for "
                f"{self._name(self.collapse.predicted)}, which {_share(self.collapse.label_share)} "
                f"are: {advice}"
            )

    def _other_names(self, found: Renaming) -> str:
        pairs = [f"{self._name(a)} as {self._name(b)}" for a, b in found.names]
        return (
            "labels look permuted: check the order of class names. With "
            f"{_with_more(pairs)}, {_share(found.renamed_accuracy)} would be right instead of "
            f"{_share(found.accuracy)}"
        )

    def _pixels(self) -> Iterator[str]:
        found = self.preprocessing
        if found is None:
            return
        if found.is_flat:
            yield (
                f"the photos are of nearly one colour (values from {found.pixels[0]:.3g} to "
                f"{found.pixels[1]:.3g}, expected about 0 to 1): divided by 255 once too often?"
            )
        if found.better is not None:
            fault = "wrong" if found.is_given else "missing"
            yield f"the normalisation (preprocess=) looks {fault}: {found.evidence}"

    def _name(self, index: int) -> str:
        return self.class_names[index]


def preflight(
    features: FeatureSet,
    deployment: FeatureSet | None = None,
    validation: FeatureSet | None = None,
    test: FeatureSet | None = None,
    *,
    target: int | None = None,
    predicted: int | None = None,
    preprocessing: PreprocessingCheck | None = None,
    rendering: RenderingPlan | None = None,
) -> Preflight:
    """Look for what makes every later result wrong: labels, class order, pixels, training photos.

    Takes moments, as it reads collected features only. :meth:`NeuroInspect.preflight` also
    looks at pixels and times the renderer.

    Args:
        features: of the labelled photos.
        deployment: those of them whose mistakes are explained; ``None``: all.
        validation: those that choose an edit; ``None``: all that are neither deployment nor test.
        test: those that judge it; ``None``: others than ``features``. What has no role stands
            for train photos.
        target: the inspected class; ``None``: mistakes are not counted.
        predicted: only mistakes taken for this class are explained.
        preprocessing: whether another normalisation fits better, or ``None``.
        rendering: what will be rendered.

    Raises:
        ValueError: for multi-hot labels, no samples, or a class out of range.

    Examples::

        >>> import torch
        >>> logits = 9 * torch.eye(3).repeat(8, 1)
        >>> print(preflight(FeatureSet(logits, logits, (torch.arange(24) + 1) % 3)).warnings[0])
        labels look permuted: check the order of class names. With class 0 as class 2, class 1 \
as class 0, class 2 as class 1, 100.0 % would be right instead of 0.0 %
    """
    if features.is_multi_hot:
        raise ValueError("features have multi-hot labels, expected one class a sample")
    if not len(features):
        raise ValueError("features are empty, expected at least one photo")
    rows = worst_classes(features, None)
    few = sorted((row for row in rows if row.n_samples < _FEW), key=lambda row: row.n_samples)
    count = None
    if target is not None:
        deployment = features if deployment is None else deployment
        count = _count(features, deployment, validation, test, target, predicted)
    return Preflight(
        guessing=guessing(features),
        class_names=tuple(features.class_name(i) for i in range(features.n_classes)),
        missed=tuple(row for row in rows if row.n_wrong == row.n_samples),
        few=tuple(few),
        collapse=collapse(features),
        renaming=renaming(features),
        preprocessing=preprocessing,
        mistakes=count,
        rendering=rendering,
    )


def _count(
    features: FeatureSet,
    deployment: FeatureSet,
    validation: FeatureSet | None,
    test: FeatureSet | None,
    target: int,
    predicted: int | None,
) -> MistakeCount:
    n_mistakes = _n_mistakes(features, target)
    n_others = n_mistakes - _n_mistakes(deployment, target)
    n_test = 0 if test is None else _n_mistakes(test, target)
    n_validation = n_others - n_test
    if validation is not None:
        n_validation = _n_mistakes(validation, target)
    return MistakeCount(
        target,
        features.class_name(target),
        n_mistakes=n_mistakes,
        n_explained=_n_mistakes(deployment, target, predicted),
        n_validation=n_validation,
        n_test=n_test,
        n_train=n_others - n_validation - n_test,
    )


def _n_mistakes(features: FeatureSet, target: int, predicted: int | None = None) -> int:
    return int(features.is_mistake(target, predicted).sum())


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(found: Guessing) -> str:
    return f"95 % interval {100 * found.low:.0f} to {100 * found.high:.0f} %"


def _listed(rows: Iterable[ClassErrors]) -> str:
    return _with_more([f"{row.name} ({row.n_samples})" for row in rows])


def _with_more(texts: list[str]) -> str:
    more = f" and {len(texts) - _N_LISTED} more" if len(texts) > _N_LISTED else ""
    return ", ".join(texts[:_N_LISTED]) + more
