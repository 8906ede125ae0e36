"""Rivals with the same labelled photos, for ``edit.py --rivals`` and ``edit.py --curve``.

What is given is a case and some labelled deployment photos, nothing else of the deployment: they
train, locate the cue or choose neurons and epochs, as a method likes. Only DFR gets more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from edit_cases import EditCase
from torch import nn

from captum_neuroinspect import FeatureSet, NeuronCounterfactual, mend, rank_neurons
from captum_neuroinspect.edit import RemovalOptions, cue_direction, remove_cue
from captum_neuroinspect.edit.baselines import (
    AutomaticFeatureReweighting,
    Baseline,
    ClassBalancedFinetuning,
    ClassWeighting,
    ConceptErasure,
    DeepFeatureReweighting,
    JustTrainTwice,
    Retraining,
    SelectiveFinetuning,
    with_mistakes,
)

N_MISTAKES = 20  # at most, of the class only
COUNTS = (0, 5, 10, 20, 50, 100)
OURS, MENDED, BEFORE = "cue removed: direction", "mend: 50 blamed neurons", "nothing"
_N_NEURONS = 50


@dataclass(frozen=True, eq=False)
class Given:
    """What a method may use.

    Attributes:
        case: head, train and validation; the rest of it judges.
        labelled: deployment photos, or ``None``.
    """

    case: EditCase
    labelled: FeatureSet | None

    @cached_property
    def mistakes(self) -> FeatureSet | None:
        """Where the cue shows: of the class, else of all; of validation where none is labelled."""
        data = self.case.validation if self.labelled is None else self.labelled
        found = (data.mistakes(self.case.target), data.mistakes())
        return next((one for one in found if len(one)), None)

    @cached_property
    def neurons(self) -> tuple[int, ...]:
        """The fifty most to blame for the mistakes, by the library's defaults."""
        if self.mistakes is None:
            return ()
        head, wrong = self.case.head, self.mistakes
        w = NeuronCounterfactual(head, head).attribute_features(wrong.features, wrong.labels)
        rows = rank_neurons(w, features=wrong, reference=self.case.train).rows()
        best = sorted(rows, key=lambda r: -r["magnitude"])[:_N_NEURONS]
        return tuple(row["neuron"] for row in best)

    @property
    def random_neurons(self) -> tuple[int, ...]:
        rng = torch.Generator().manual_seed(self.case.seed)
        return tuple(torch.randperm(self.case.head.in_features, generator=rng).tolist())[
            :_N_NEURONS
        ]


Method = Callable[[Given], nn.Linear | None]  # ``None``: it cannot be made of what is given


def mistakes_of_the_class(case: EditCase) -> Given:
    """At most twenty; where the class has none, those of the others."""
    field = with_mistakes(case.editing, case.choosing)
    wrong = field.mistakes(case.target)
    wrong = wrong if len(wrong) else field.mistakes()
    return Given(case, wrong.subset(torch.arange(min(N_MISTAKES, len(wrong)))))


def draws(case: EditCase) -> Iterator[tuple[str, int, Given]]:
    """Ever more photos of the deployment, right and wrong, of the class or of all classes."""
    field = with_mistakes(case.editing, case.choosing)
    order = torch.randperm(len(field), generator=torch.Generator().manual_seed(case.seed))
    of_class = order[field.labels[order] == case.target]
    for name, rows in (("of the class", of_class), ("of all classes", order)):
        for n in COUNTS:
            yield name, n, Given(case, field.subset(rows[:n]) if n else None)


def rivals() -> dict[str, Method]:
    """With the same mistakes: ours, and all that need no group labels; then DFR, which does."""
    return curve_methods() | {
        "plain retraining": _baseline(Retraining()),
        "class weights, target x 3": _baseline(ClassWeighting(target_factor=3)),
        "JTT, mistakes x 20": _baseline(JustTrainTwice(20)),
        "AFR, gamma 4": _baseline(AutomaticFeatureReweighting(4)),
        "SELF, 20 samples": _baseline(SelectiveFinetuning(20)),
        "SELF, 100 samples": _baseline(SelectiveFinetuning(100)),
        "LEACE on inferred groups": _baseline(ConceptErasure(0.0)),
        "LEACE on inferred groups, shrinkage 0.9": _baseline(ConceptErasure(0.9)),
        "DFR (knows the groups of all deployment photos)": lambda given: _baseline(
            DeepFeatureReweighting(given.case.held_out)
        )(given),
    }


def curve_methods() -> dict[str, Method]:
    """Few enough for eleven numbers of photos."""
    return {
        BEFORE: lambda given: given.case.head,
        OURS: _cue_removed(lambda given: cue_direction(given.mistakes, given.case.train)),
        "cue removed: 50 blamed neurons": _cue_removed(lambda given: given.neurons),
        "cue removed: 50 random neurons": _cue_removed(lambda given: given.random_neurons),
        MENDED: _mended(lambda given: given.neurons),
        "mend: 50 random neurons": _mended(lambda given: given.random_neurons),
        "mend: no neurons": _mended(lambda given: None),
        "class-balanced finetuning": _baseline(ClassBalancedFinetuning()),
        "AFR, gamma 1": _baseline(AutomaticFeatureReweighting(1)),
        "JTT, mistakes x 6": _baseline(JustTrainTwice(6)),
    }


def _cue_removed(cue_of: Callable[[Given], object]) -> Method:
    def inner(given: Given) -> nn.Linear | None:
        case = given.case
        if given.mistakes is None:
            return None
        cue = cue_of(given)
        if cue == ():
            return None
        return remove_cue(
            case.head,
            case.train,
            case.validation,
            target=case.target,
            cue=cue,
            seed=case.seed,
            options=RemovalOptions(),
        ).head

    return inner


def _mended(neurons_of: Callable[[Given], tuple[int, ...] | None]) -> Method:
    def inner(given: Given) -> nn.Linear | None:
        case, neurons = given.case, neurons_of(given)
        if given.labelled is None or neurons == ():
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that the original head stayed
            return mend(
                case.head,
                case.train,
                case.validation,
                given.labelled,
                target=case.target,
                neurons=neurons,
                n_neurons=_N_NEURONS if neurons else 0,
                seed=case.seed,
            ).head

    return inner


def _baseline(method: Baseline) -> Method:
    """What descends chooses its epoch by validation and the same labelled photos.

    A fit to held-out samples takes these beside validation.
    """
    chooses = isinstance(method, Retraining | ClassWeighting | JustTrainTwice)

    def inner(given: Given) -> nn.Linear | None:
        case = given.case
        return method(
            case.head,
            case.train,
            with_mistakes(case.validation, given.labelled) if chooses else case.validation,
            target=case.target,
            neurons=given.neurons,
            mistakes=given.labelled,
            seed=case.seed,
        )

    return inner
