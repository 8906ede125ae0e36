"""The ways to mend a head that ``edit.py`` and its sisters compare, all called alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

from edit_cases import EditCase
from edit_removals import cue_removed, few_neurons, random_direction
from torch import nn

from captum_neuroinspect import edit_head, mend
from captum_neuroinspect.edit.baselines import (
    CON,
    Baseline,
    ClassWeighting,
    CoefficientNorm,
    DeepFeatureReweighting,
    FocalLoss,
    JustTrainTwice,
    Retraining,
    SpuriousDirectionRemoval,
    Unchanged,
    Zeroing,
)
from captum_neuroinspect.edit.baselines import with_mistakes as joined
from captum_neuroinspect.edit.edit_options import Options

Method = Callable[[EditCase], nn.Linear]

BEFORE = "nothing"
CUE_REMOVED = "cue removed: direction from mistakes"
FEW, MANY = 6, 50


def methods() -> dict[str, Method]:
    """By name; what is compared stands first."""
    return {
        BEFORE: baseline(Unchanged()),
        "equation (8), paper: 6 neurons, lambda 1": equation_8(FEW, 1.0),
        'equation (8), options="paper": 6 neurons, lambda 1': equation_8(FEW, 1.0, options="paper"),
        "equation (8): 6 neurons, lambda 1, and the mistakes": equation_8(FEW, 1.0, True),
        "equation (8): 50 neurons, lambda 10": equation_8(MANY, 10.0),
        "equation (8): 50 neurons, lambda 10, and the mistakes": equation_8(MANY, 10.0, True),
        CUE_REMOVED: cue_removed(),
        "cue removed: 50 neurons": cue_removed(few_neurons),
        "cue removed: random direction": cue_removed(random_direction),
        "plain retraining, without the mistakes": baseline(Retraining(), with_mistakes=False),
        "plain retraining": baseline(Retraining()),
        "class weights": baseline(ClassWeighting()),
        "class weights, target x 3": baseline(ClassWeighting(target_factor=3)),
        "focal loss, gamma 2": baseline(FocalLoss()),
        "CON (9), paper: 6 neurons, lambda 1": baseline(CON(1), FEW, with_mistakes=False),
        "CON (9): 6 neurons, lambda 1": baseline(CON(1), FEW),
        "CON (9): 50 neurons, lambda 10": baseline(CON(10), MANY),
        "norm of coefficients: 6 neurons, lambda 1": baseline(CoefficientNorm(1), FEW),
        "norm of coefficients: 50 neurons, lambda 10": baseline(CoefficientNorm(10), MANY),
        "zero 6 neurons, all classes": baseline(Zeroing("all"), FEW),
        "zero 50 neurons, all classes": baseline(Zeroing("all"), MANY),
        "zero 6 neurons, target only": baseline(Zeroing("target"), FEW),
        "zero 50 neurons, target only": baseline(Zeroing("target"), MANY),
        "like SpuFix: 6 neurons": baseline(SpuriousDirectionRemoval(), FEW),
        "like SpuFix: 50 neurons": baseline(SpuriousDirectionRemoval(), MANY),
        "like SpuFix: 50 neurons, centred at the class": baseline(
            SpuriousDirectionRemoval("class"), MANY
        ),
        "JTT, mistakes x 6": baseline(JustTrainTwice(6)),
        "JTT, mistakes x 20": baseline(JustTrainTwice(20)),
        "plain retraining, all deployment photos": with_all_met(Retraining()),
        "class weights, target x 3, all deployment photos": with_all_met(
            ClassWeighting(target_factor=3)
        ),
        "JTT, mistakes x 6, all deployment photos": with_all_met(JustTrainTwice(6)),
        "mend": corrected,
        "mend, without neurons": partial(corrected, n_neurons=0),
        "DFR (knows the groups)": dfr,
    }


def baseline(method: Baseline, n_neurons: int = MANY, with_mistakes: bool = True) -> Method:
    def inner(case: EditCase) -> nn.Linear:
        return method(
            case.head,
            case.train,
            case.selection,
            target=case.target,
            neurons=case.neurons[:n_neurons],
            mistakes=case.mistakes if with_mistakes else None,
            seed=case.seed,
        )

    return inner


def with_all_met(method: Baseline) -> Method:
    """What `mend` is given: also the photos met that the head gets right."""

    def inner(case: EditCase) -> nn.Linear:
        return method(
            case.head,
            joined(case.train, case.editing),
            joined(case.validation, case.choosing if len(case.choosing) else None),
            target=case.target,
            neurons=case.neurons[:MANY],
            seed=case.seed,
        )

    return inner


def corrected(case: EditCase, n_neurons: int = 50) -> nn.Linear:
    """With half of the field, right and wrong photos alike; the other half is not needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that the original head stayed
        edit = mend(
            case.head,
            case.train,
            case.validation,
            case.editing,
            target=case.target,
            n_neurons=n_neurons,
            seed=case.seed,
        )
    return edit.head


def dfr(case: EditCase) -> nn.Linear:
    return baseline(DeepFeatureReweighting(case.held_out))(case)


def equation_8(
    n_neurons: int, strength: float, with_mistakes: bool = False, options: Options = None
) -> Method:
    """The paper's edit of the whole head; the paper trains on the original data only."""

    def inner(case: EditCase) -> nn.Linear:
        with warnings.catch_warnings():
            # An edit that does worse is shown in the table as such.
            warnings.simplefilter("ignore", RuntimeWarning)
            return edit_head(
                case.head,
                joined(case.train, case.mistakes if with_mistakes else None),
                case.selection,
                target=case.target,
                neurons=case.neurons[:n_neurons],
                scope="head",
                strength=strength,
                ratio=1.0,
                seed=case.seed,
                options=options,
            ).head

    return inner
