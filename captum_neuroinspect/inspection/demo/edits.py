"""The edits that the demo tries, and the rule that chooses one on held-out photos."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.edit import HeadEdit, edit_head
from captum_neuroinspect.edit.edit_options import Scope

MAX_COST = 0.01


@dataclass(frozen=True)
class Recipe:
    """Settings of one edit.

    Attributes:
        name: for people.
        n_neurons: how many of the ranked neurons are constrained.
        strength: lambda3 of equation (8).
        scope: what may change.
        with_mistakes: train on the explained mistakes too.
        is_comparison: shown beside the others, never chosen.
    """

    name: str
    n_neurons: int
    strength: float
    scope: Scope
    with_mistakes: bool
    is_comparison: bool = False


RECIPES = (
    Recipe("equation (8), the paper's settings", 6, 1.0, "head", False),
    Recipe("equation (8), on the target's coefficients only", 20, 1.0, "neurons", False),
    Recipe("equation (8), strong, on the target's row only", 50, 10.0, "class", False),
    Recipe("equation (8) and the explained mistakes", 6, 1.0, "head", True),
    Recipe("the same on the target's row only", 20, 1.0, "class", True),
    Recipe("the same, stronger", 20, 3.0, "class", True),
    Recipe("comparison: the mistakes without a constraint", 6, 0.0, "head", True, True),
)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A recipe carried out, and what it did on photos that it did not see.

    Attributes:
        recipe: its settings.
        edit: the result.
        target_gain: change of the target's accuracy on the held-out mistakes' set.
        others_gain: change of the accuracy on all other classes there.
        overall_gain: change of the overall accuracy there.
    """

    recipe: Recipe
    edit: HeadEdit
    target_gain: float
    others_gain: float
    overall_gain: float

    @property
    def score(self) -> float:
        """What the choice maximises: gain of the target plus gain of the others."""
        return self.target_gain + self.others_gain

    @property
    def is_allowed(self) -> bool:
        """May be chosen: no comparison, and costs at most ``MAX_COST`` overall."""
        return not self.recipe.is_comparison and self.overall_gain >= -MAX_COST


def try_edits(
    head: nn.Linear,
    train: FeatureSet,
    held: FeatureSet,
    mistakes: FeatureSet | None,
    *,
    target: int,
    neurons: tuple[int, ...],
    seed: int,
) -> list[Candidate]:
    """Carry out every recipe; ``held`` chooses the epoch and judges."""
    candidates = []
    for recipe in RECIPES:
        if recipe.with_mistakes and not mistakes:
            continue
        with warnings.catch_warnings():
            # A recipe that does worse is shown in the table as such.
            warnings.simplefilter("ignore", RuntimeWarning)
            edit = edit_head(
                head,
                train,
                held,
                target=target,
                neurons=neurons[: recipe.n_neurons],
                scope=recipe.scope,
                strength=recipe.strength,
                mistakes=mistakes if recipe.with_mistakes else None,
                seed=seed,
            )
        candidates.append(_judged(recipe, edit, held))
    return candidates


def best_of(candidates: list[Candidate]) -> Candidate:
    """The candidate of the highest score, if possible among those that may be chosen."""
    allowed = [c for c in candidates if c.is_allowed]
    return max(allowed or candidates, key=lambda c: c.score)


def choose(candidates: list[Candidate]) -> Candidate | None:
    """The best candidate if it may be chosen and gains; else ``None``: keep the head."""
    best = best_of(candidates)
    return best if best.is_allowed and best.score > 0 else None


def _judged(recipe: Recipe, edit: HeadEdit, held: FeatureSet) -> Candidate:
    before, after = held.with_head(edit.original), held.with_head(edit.head)
    is_target = held.labels == edit.target
    gains = [
        after.subset(rows).accuracy() - before.subset(rows).accuracy()
        for rows in (is_target, ~is_target)
    ]
    return Candidate(recipe, edit, gains[0], gains[1], after.accuracy() - before.accuracy())
