"""A head before and after an edit, by what its mistakes lack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.concepts.concept_bank import ConceptBank
from captum_neuroinspect.concepts.concept_counterfactual import (
    ConceptCounterfactual,
    ConceptOptions,
    concept_counterfactual,
)


@dataclass(frozen=True, eq=False)
class ConceptChange:
    """A row of the paper's Table II: one concept, before and after an edit.

    Scores and precision after the edit are of the samples that the *original* head got wrong, so
    that the same samples are compared; ``own_after`` has those of the edited head's own mistakes,
    as published tables may mean it.

    Attributes:
        concept: the cue.
        k: of the precision.
        accuracy: shares of the samples that are predicted right, before and after.
        n_mistakes: before and after.
        before: concept scores of the original head's mistakes.
        after: of the same samples, by the edited head.
        own_after: of the edited head's own mistakes; ``None`` when it makes none.
    """

    concept: str
    k: int
    accuracy: tuple[float, float]
    n_mistakes: tuple[int, int]
    before: ConceptCounterfactual
    after: ConceptCounterfactual
    own_after: ConceptCounterfactual | None

    @property
    def score(self) -> tuple[float, float]:
        """Mean score of the concept, before and after."""
        return self.before.score(self.concept), self.after.score(self.concept)

    @property
    def precision(self) -> tuple[float, float]:
        """Share of the mistakes with the concept among the k highest, before and after."""
        before, after = (
            found.precision_at(self.k, self.concept) for found in (self.before, self.after)
        )
        return before, after

    def __repr__(self) -> str:
        rows = {
            "accuracy": self.accuracy,
            f"precision@{self.k}": self.precision,
            "score": self.score,
        }
        said = [f"{name} {old:.3f} -> {new:.3f}" for name, (old, new) in rows.items()]
        return f"ConceptChange({self.concept}: {', '.join(said)})"


def concept_change(
    bank: ConceptBank,
    data: FeatureSet,
    before: nn.Linear,
    after: nn.Linear,
    *,
    concept: str,
    k: int = 3,
    options: ConceptOptions | None = None,
) -> ConceptChange:
    """What an edit changes in accuracy, precision@k and score of a concept (the paper's Table II).

    Args:
        bank: of the heads' features.
        data: samples of the class with the cue, such as test photos without it.
        before: the original decision layer.
        after: the edited one.
        concept: the cue, a name in the bank.
        k: how many of the highest scores count.
        options: as :func:`concept_counterfactual` takes them.

    Raises:
        TypeError: for a bank, data, heads or options of another kind.
        ValueError: for a concept that is not in the bank, no mistake before the edit, or what
            :func:`concept_counterfactual` refuses.
    """
    for name, value, kind in (("bank", bank, ConceptBank), ("data", data, FeatureSet)):
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {type(value).__name__}, expected {kind.__name__}")
    bank.row(concept)
    old, new = data.with_head(before), data.with_head(after)
    if not len(mistakes := old.mistakes()):
        raise ValueError("the original head makes no mistake on data: there is nothing to explain")
    own = new.mistakes()
    return ConceptChange(
        concept=concept,
        k=k,
        accuracy=(old.accuracy(), new.accuracy()),
        n_mistakes=(len(mistakes), len(own)),
        before=concept_counterfactual(bank, mistakes, before, options=options),
        after=concept_counterfactual(bank, mistakes, after, options=options),
        own_after=concept_counterfactual(bank, own, after, options=options) if len(own) else None,
    )
