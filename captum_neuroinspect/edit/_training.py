"""The descent of equation (8) on collected features; everything else is around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.edit._adam import Adam
from captum_neuroinspect.edit._epoch_choice import EpochRecord, Judge, Verdict
from captum_neuroinspect.edit._objective import Batch, Objective, Problem

FeaturesOf = Callable[[int], FeatureSet]


@dataclass(frozen=True, eq=False)
class Fit:
    """The head of the best epoch, as a difference from the original.

    Attributes:
        d_weight: ``(C, F)``; exactly zero where nothing may change.
        d_bias: ``(C,)``.
        history: one record an epoch that was completed.
        best_epoch: whose head it is; 0: the original, because all others were worse.
        best: the best epoch's results on the validation set, also where the original is
            better; ``None`` when none was completed.
        original: the original's results on the validation set.
        diverged: whether training was stopped by a loss that is not finite.
    """

    d_weight: Tensor
    d_bias: Tensor
    history: tuple[EpochRecord, ...]
    best_epoch: int
    best: Verdict | None
    original: Verdict
    diverged: bool


@dataclass
class _Best:
    """The best trained epoch so far; the first of equals."""

    difference: Tensor
    epoch: int = 0
    verdict: Verdict | None = None

    def offer(self, difference: Tensor, epoch: int, verdict: Verdict) -> None:
        if self.verdict is None or verdict.is_better(self.verdict):
            self.difference, self.epoch, self.verdict = difference.clone(), epoch, verdict

    def is_worse_than(self, original: Verdict) -> bool:
        # At an equal score the edit is kept: it has what it was made for.
        return self.verdict is None or not self.verdict.score >= original.score


def fit_head(
    problem: Problem,
    train: FeatureSet | FeaturesOf,
    validation: FeatureSet,
    mistakes: FeatureSet | None = None,
    *,
    progress: bool = False,
) -> Fit:
    """Train the free part of a head and keep the best epoch.

    Arguments are taken as they are, without checks, for callers that fit many heads.

    Args:
        problem: head, neurons and settings.
        train: features with labels, or a function from the epoch (from 1) to them.
        validation: chooses the epoch.
        mistakes: samples drawn beside each batch.
        progress: show a bar over epochs.

    Raises:
        ValueError: when ``validation`` lacks what the rule of selection looks at.
    """
    settings, objective = problem.settings, Objective(problem, mistakes)
    held = objective.batch(validation)
    max_cost, patience = settings.options.max_cost, settings.options.training.patience
    judge = Judge(validation, problem.targets, settings.select, max_cost, held.logits)
    difference = objective.free.start()
    adam, rng = Adam(difference), torch.Generator().manual_seed(settings.seed)
    best, history = _Best(difference.clone()), []
    data = objective.batch(train) if isinstance(train, FeatureSet) else None
    for epoch in tqdm(range(1, settings.n_epochs + 1), "edit", disable=not progress):
        batch = objective.batch(train(epoch)) if callable(train) else data
        assert batch is not None
        loss = _epoch(objective, batch, adam, epoch, rng)
        logits = objective.logits(difference, held)
        if not (math.isfinite(loss) and logits.isfinite().all()):
            break
        verdict = judge(logits)
        history.append(
            EpochRecord(epoch, loss, verdict.accuracy, verdict.target_accuracy, verdict.score)
        )
        best.offer(difference, epoch, verdict)
        if epoch - best.epoch >= patience:
            break
    return _fit(objective, best, judge.original, history, epoch)


def _epoch(
    objective: Objective, data: Batch, adam: Adam, epoch: int, rng: torch.Generator
) -> float:
    """One pass; the mean loss, or the first that is not finite."""
    settings, options, total = objective.settings, objective.options, 0.0
    anchor = options.anchor
    pull = anchor.weight if anchor is not None and anchor.to == "weights" else 0.0
    drawn = torch.randperm(len(data.labels), generator=rng).split(options.training.batch_size)
    for step, rows in enumerate(drawn):
        batch = data.rows(rows)
        value, gradient = objective.gradient(adam.x, batch, objective.draw(len(rows), rng))
        if not math.isfinite(value):
            return value
        if pull:
            value += pull * adam.x.square().sum().item()
        total += value
        adam.step(gradient, settings.rate(epoch, step, len(drawn)), pull)
    return total / len(drawn)


def _fit(
    objective: Objective,
    best: _Best,
    original: Verdict,
    history: list[EpochRecord],
    last_epoch: int,
) -> Fit:
    is_worse = best.is_worse_than(original)
    d_weight, d_bias = objective.free.whole(objective.free.start() if is_worse else best.difference)
    return Fit(
        d_weight,
        d_bias,
        tuple(history),
        0 if is_worse else best.epoch,
        best.verdict,
        original,
        diverged=len(history) < last_epoch,
    )
