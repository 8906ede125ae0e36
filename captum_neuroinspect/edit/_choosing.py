"""Settings of an edit chosen on some of the mistakes, and reported on others."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect.edit._arguments import apart_from, check_disjoint, check_sets
from captum_neuroinspect.edit._blame import blamed_neurons, by_magnitude
from captum_neuroinspect.edit._candidates import Candidate, Grid, Setting
from captum_neuroinspect.edit._epoch_choice import Judge
from captum_neuroinspect.edit._fitting import as_edit, checked_problem
from captum_neuroinspect.edit._mistake_parts import Parts, divided, is_of
from captum_neuroinspect.edit._objective import Problem
from captum_neuroinspect.edit._options import FitOptions, Scope
from captum_neuroinspect.edit._samples import with_mistakes
from captum_neuroinspect.edit._seen import names_of
from captum_neuroinspect.edit._targets import Neurons, Ratio, checked_targets, plain_ratios
from captum_neuroinspect.edit._training import Fit, fit_head
from captum_neuroinspect.edit.probability_ratio import check_target, checked_neurons

if TYPE_CHECKING:
    from captum_neuroinspect.attr import NeuronRanking
    from captum_neuroinspect.edit._result import HeadEdit


@dataclass(frozen=True, eq=False)
class Asked:
    """What the caller gave by value; ``None`` is to be chosen."""

    target: int | None
    neurons: Neurons | None
    strength: float | None
    ratio: Ratio | None
    scope: Scope | None
    options: FitOptions


@dataclass(frozen=True, eq=False)
class _Trial:
    setting: Setting
    problem: Problem
    fit: Fit
    candidate: Candidate


def chosen_edit(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    mistakes: FeatureSet | None,
    asked: Asked,
    ranking: NeuronRanking | None,
) -> HeadEdit:
    """The edit of the best candidate, or the original head where none gains."""
    targets = _checked_targets(head, asked, mistakes)
    check_sets(head, "softmax", train=train, validation=validation, mistakes=mistakes)
    assert mistakes is not None
    train = apart_from(train, stacklevel=5, mistakes=mistakes)
    check_disjoint(train=train, validation=validation, mistakes=mistakes)
    parts = divided(head, validation, mistakes, targets, asked.options.seed)
    ranked = _ranked(head, train, parts.learning, asked, ranking)
    trials = _tried(head, train, parts, asked, ranked)
    best = _best(trials)
    fit, before = best.fit, best.fit.original.target_accuracy
    if not best.candidate.target_accuracy > before:
        warnings.warn(
            f"none of {len(trials)} candidates raised the target's accuracy of {before:.3f} at a "
            f"cost for the others of at most max_cost={asked.options.max_cost:g}: the original "
            "head is returned; give more mistakes, or a larger max_cost",
            RuntimeWarning,
            stacklevel=4,
        )
        nothing = torch.zeros_like(fit.d_weight), torch.zeros_like(fit.d_bias)
        fit = replace(fit, d_weight=nothing[0], d_bias=nothing[1], best_epoch=0)
    edit = as_edit(head, fit, best.problem, train, parts.validation)
    return replace(
        edit,
        settings={
            **edit.settings,
            "n_neurons": best.candidate.n_neurons,
            "n_candidates": len(trials),
            **_report(edit, parts, asked.options),
        },
        candidates=tuple(trial.candidate for trial in trials),
        seen=names_of(train, parts.choosing, parts.learning),
    )


def _checked_targets(head: nn.Linear, asked: Asked, mistakes: FeatureSet | None) -> list[int]:
    if mistakes is None:
        raise ValueError(
            "mistakes=None with 'auto': the settings are chosen by labelled mistakes, give some"
        )
    if asked.options.link != "softmax":
        raise ValueError(f"link={asked.options.link!r} with 'auto', expected 'softmax'")
    n_classes = check_head(head).out_features
    if asked.neurons is None:
        return [check_target(asked.target, n_classes)]
    return list(checked_targets(asked.target, asked.neurons, n_classes, head.in_features))


def _ranked(
    head: nn.Linear,
    train: FeatureSet,
    learning: FeatureSet,
    asked: Asked,
    ranking: NeuronRanking | None,
) -> Tensor | None:
    """Neurons, the most blamed first; ``None`` where the caller names them.

    Raises:
        TypeError: when ``ranking`` is none.
        ValueError: when no neuron is blamed, or the ranking is of other features.
    """
    if asked.neurons is not None:
        return None
    if ranking is not None:
        if not hasattr(ranking, "rows"):
            raise TypeError(f"ranking is {type(ranking).__name__}, expected a NeuronRanking")
        return checked_neurons(by_magnitude(ranking), head.in_features)
    wrong = learning.with_head(head).mistakes(asked.target)
    found = blamed_neurons([(head, wrong)], train.with_head(head))
    if not len(found):
        raise ValueError(
            f"mistakes blame no neuron for target={asked.target}: the head gets "
            f"{len(wrong)} of those to learn from wrong; give ranking="
        )
    return found


def _tried(
    head: nn.Linear, train: FeatureSet, parts: Parts, asked: Asked, ranked: Tensor | None
) -> list[_Trial]:
    """All of a coarse grid, then the neighbours of its best; none twice."""
    grid = Grid(
        None if ranked is None else len(ranked),
        asked.strength is None,
        asked.ratio is None,
        asked.scope is None,
    )
    done: dict[Setting, _Trial] = {}

    def fit_all(settings: Iterable[Setting]) -> None:
        new = [s for s in dict.fromkeys(settings) if s not in done]
        for setting in tqdm(new, "choose", disable=not asked.options.progress):
            done[setting] = _trial(head, train, parts, asked, ranked, setting)

    fit_all(grid.coarse())
    fit_all(grid.around(_best(done.values()).setting))
    return list(done.values())


def _best(trials: Iterable[_Trial]) -> _Trial:
    """The first of equals."""
    return max(trials, key=lambda trial: trial.candidate.rank)


def _trial(
    head: nn.Linear,
    train: FeatureSet,
    parts: Parts,
    asked: Asked,
    ranked: Tensor | None,
    setting: Setting,
) -> _Trial:
    options = replace(
        asked.options,
        strength=asked.options.strength if setting.strength is None else setting.strength,
        scope=asked.options.scope if setting.scope is None else setting.scope,
        progress=False,
    )
    neurons = asked.neurons if ranked is None else ranked[: setting.n_neurons]
    ratio = asked.ratio if setting.ratio is None else setting.ratio
    assert neurons is not None
    assert ratio is not None
    problem = checked_problem(
        head,
        train,
        parts.choosing,
        asked.target,
        neurons,
        ratio,
        options,
        mistakes=parts.learning,
    )
    fit = fit_head(problem, train, parts.choosing, parts.learning)
    return _Trial(setting, problem, fit, _candidate(problem, fit))


def _candidate(problem: Problem, fit: Fit) -> Candidate:
    verdict = fit.original if fit.best is None or not fit.best_epoch else fit.best
    return Candidate(
        n_neurons=sum(map(len, problem.targets.values())),
        strength=problem.options.strength,
        ratio=plain_ratios(problem.ratios),
        scope=problem.options.scope,
        epoch=fit.best_epoch,
        target_accuracy=verdict.target_accuracy,
        others_accuracy=verdict.tie,  # what select="target" breaks ties by
    )


def _report(edit: HeadEdit, parts: Parts, options: FitOptions) -> dict[str, float | int]:
    """Both heads on what had no part in the choice."""
    data = with_mistakes(parts.validation, parts.mistakes)
    of_targets = parts.mistakes.subset(is_of(parts.mistakes, edit.targets))
    heads = {"before": edit.original, "after": edit.head}
    logits = {when: data.with_head(head).logits for when, head in heads.items()}
    judge = Judge(data, edit.targets, "target", options.max_cost, logits["before"])
    report: dict[str, float | int] = {"held_out_mistakes_n": len(of_targets)}
    if len(edit.targets) == 1:  # of several it is a mean, which is no share
        report["held_out_target_n"] = int(is_of(data, edit.targets).sum())
    report["held_out_others_n"] = int((~is_of(data, edit.targets)).sum())
    for when, head in heads.items():
        verdict = judge(logits[when])
        report[f"held_out_target_{when}"] = verdict.target_accuracy
        report[f"held_out_mistakes_{when}"] = of_targets.with_head(head).accuracy()
        report[f"held_out_others_{when}"] = verdict.tie
    return report
