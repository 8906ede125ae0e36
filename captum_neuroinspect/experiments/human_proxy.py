"""Table I with networks in place of people: which of three pictures of a neuron says its class?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from captum_neuroinspect.experiments.experiment import Part, Results, ResultTable, Setup, values_of
from captum_neuroinspect.experiments.illusion_draws import (
    GROUP,
    Draw,
    draw_pairs,
    strongest_pairs,
)
from captum_neuroinspect.experiments.illusion_experiment import (
    QUICK,
    IllusionConfig,
    IllusionExperiment,
    PictureRow,
    count,
)
from captum_neuroinspect.experiments.questionnaire import (
    Question,
    QuestionnaireKey,
    write_questionnaire,
)
from captum_neuroinspect.experiments.values import Count, Numbers
from captum_neuroinspect.optvis import Illusions

FV, NO_CLIP, GUIDED = "FV", "no CLIP", "CLIP-Illusion"
PAGE, KEY = "questionnaire.html", Path("key", "questionnaire-key.json")


@dataclass(frozen=True)
class HumanProxyConfig(IllusionConfig):
    """Settings of ``human-proxy``.

    Attributes:
        n_classes: random classes; four neurons of each, drawn from the twenty that speak most
            for it, so that a judge can be asked which neuron a picture is of.
        n_questions: random classes of the questionnaire, with the neuron of the largest weight
            to each, as in the paper.
    """

    n_classes: int = 5
    n_questions: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_classes", "n_questions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected 1 or more")


class HumanProxyExperiment(IllusionExperiment):
    """A network chooses the picture that says most of the class, as people did in the paper."""

    name = "human-proxy"
    summary = "which of FV, no CLIP and CLIP-Illusion networks understand, in place of people"
    source = "Table I"
    Config = HumanProxyConfig
    quick: ClassVar[Mapping[str, Any]] = {**QUICK, "n_classes": 2, "n_questions": 3}
    config: HumanProxyConfig

    def picture_rows(self, part: Part) -> list[PictureRow]:
        return self._rows(part, draw_pairs(self.networks.head, self._n_pairs(), part.seed), True)

    def run_part(self, part: Part) -> Numbers:
        found = {row: dict(numbers) for row, numbers in super().run_part(part).items()}
        rows = self.picture_rows(part)
        pictures = [self.rendered(part, row).images for row in rows]
        judge = next(one for one in self.networks.judges if not one.is_guide)
        classes = rows[0].draw.classes
        chosen = choices([judge.look(one).logits for one in pictures], classes)
        return {
            row.title: {f"{judge.name} chooses it": count(chosen == place), **found[row.title]}
            for place, row in enumerate(rows)
        }

    def notes(self) -> list[str]:
        return [
            *super().notes(),
            "Nobody was asked. *Chooses*: of the three pictures of a pair the one in which the "
            "judge gives the class the largest probability. A network that is trained on the same "
            "classes is no person: it sees a class in textures that tell people nothing.",
            "The paper shows people the neuron of the largest weight of each of 20 classes; the "
            f"judge is shown {GROUP} neurons of each class. `neuroinspect questionnaire make` "
            "makes the paper's 20 questions for people.",
        ]

    def published(self) -> ResultTable:
        rows = (
            ("20 non-practitioners", "17.42", "39.89", "42.70"),
            ("8 practitioners", "3.75", "16.25", "80.0"),
        )
        return ResultTable("Table I of the paper: selected, in %", ("", FV, NO_CLIP, GUIDED), rows)

    def tables(self, results: Results) -> list[ResultTable]:
        return [*super().tables(results), self._pairs(results)]

    def ask(self, page: Path, key: Path, seed: int) -> QuestionnaireKey:
        """Write the questionnaire: a page for participants, and the key.

        Args:
            page: the HTML file.
            key: the JSON file, which stays with the maker.
            seed: draws classes and order.
        """
        part = Part("questionnaire", seed)
        draw = strongest_pairs(self.networks.head, self._n_questions(), seed)
        rows = self._rows(part, draw, False)
        found = {row.title: self.rendered(part, row) for row in rows}
        return write_questionnaire(
            questions_of(found, self.networks.class_names, draw), page, key, seed=seed
        )

    def _rows(self, part: Part, draw: Draw, has_groups: bool) -> list[PictureRow]:
        return [
            PictureRow(FV, draw, {"is_neuron_alone": True}, has_groups),
            PictureRow(NO_CLIP, draw, self.in_class(part), has_groups),
            PictureRow(GUIDED, draw, self.guided(part), has_groups),
        ]

    def _n_pairs(self) -> int:
        return GROUP * min(self.config.n_classes, self.networks.head.out_features)

    def _n_questions(self) -> int:
        return min(self.config.n_questions, self.networks.head.out_features)

    def _pairs(self, results: Results) -> ResultTable:
        """Which of two ways the judge chooses more often, with the exact sign test."""
        from scipy.stats import binomtest

        parts = list(results.values())
        measure = next(m for m in parts[0][GUIDED] if m.endswith("chooses it"))
        n = {row: sum(_right(v) for v in values_of(parts, row, measure)) for row in parts[0]}
        rows = []
        for first, second in ((GUIDED, NO_CLIP), (GUIDED, FV), (NO_CLIP, FV)):
            both = n[first] + n[second]
            p = binomtest(n[first], both).pvalue if both else 1.0
            rows.append((f"{first} : {second}", f"{n[first]} : {n[second]}", f"{p:.2g}"))
        note = "Exact sign test, two-sided, of the choices; four pairs of a class are alike."
        return ResultTable("Chosen, two by two", ("", "choices", "p"), tuple(rows), note)


def choices(logits: Sequence[Tensor], classes: Sequence[int]) -> Tensor:
    """Which of several pictures of each pair gives its class the largest probability, ``(N,)``.

    Args:
        logits: of each way to make the picture, ``(N, C)``.
        classes: of the pairs.

    Examples::

        >>> sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[9.0, 8.0]])
        >>> choices([unsure, sure], [0]).tolist()
        [1]
    """
    rows = torch.arange(len(classes))
    sure = [one.log_softmax(1)[rows, torch.tensor(classes)] for one in logits]
    return torch.stack(sure).argmax(0)


def questions_of(
    found: dict[str, Illusions], class_names: Sequence[str], draw: Draw
) -> list[Question]:
    """A question for each pair, with the picture of each way."""
    pictures = {title: illusions.to_pil() for title, illusions in found.items()}
    return [
        Question(
            class_names[label],
            {title: made[i] for title, made in pictures.items()},
            f"neuron {neuron}, class {label}",
        )
        for i, (neuron, label) in enumerate(zip(draw.neurons, draw.classes, strict=True))
    ]


def make_questionnaire(
    setup: Setup, *, seed: int = 0, quick: bool = False, settings: dict[str, Any] | None = None
) -> tuple[Path, Path, QuestionnaireKey]:
    """Render the pictures of ``human-proxy`` for people, and write the questionnaire.

    Pictures that an earlier call finished in ``setup.out`` are taken from there.

    Args:
        setup: where to write, and which model is inspected.
        seed: draws classes and order.
        quick: a small version.
        settings: other values than the defaults of :class:`HumanProxyConfig`.

    Returns:
        The page for participants, the key that stays with the maker in a folder of its own, and
        what the key says.

    Raises:
        ImportError: when a package with weights is missing.
        ValueError: for an unknown setting.
    """
    from captum_neuroinspect.experiments.running import make_experiment

    experiment = make_experiment("human-proxy", setup, quick=quick, settings=settings)
    assert isinstance(experiment, HumanProxyExperiment)
    page, place = setup.out / PAGE, setup.out / KEY
    return page, place, experiment.ask(page, place, seed)


def _right(value: object) -> int:
    assert isinstance(value, Count)
    return value.right
