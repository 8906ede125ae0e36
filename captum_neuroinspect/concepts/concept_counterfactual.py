"""Mistakes explained by concepts: what of which concept would have made the prediction right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.checks import check_at_least, check_between, check_whole
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head, head_tensors
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.concepts.concept_bank import ConceptBank

_VALIDITY = ("mean", "zero", "none")
_N_SHOWN = 10  # concepts in a notebook


@dataclass(frozen=True)
class ConceptOptions:
    """How the scores are found; the defaults are those of CCE's published code.

    Attributes:
        l1: weight of the mean absolute score.
        l2: weight of the scores' Euclidean norm, divided by the number of concepts.
        validity: which scores are allowed. All but ``"none"`` keep a concept's margin within what
            its photos showed. ``"mean"``: and none is raised above the mean margin of photos that
            show it, or lowered below that of photos that do not; ``"zero"``: and none is raised
            that is seen already, nor lowered that is not.
        n_steps: of gradient descent with momentum, from 0.
        lr: learning rate.
        momentum: in 0..1, below 1.
        shared: one score a concept for all mistakes together, within what is allowed for their
            mean, instead of one a mistake.

    Raises:
        TypeError: for a number of steps that is not whole.
        ValueError: for a number outside its range, or another ``validity``.
    """

    l1: float = 0.1
    l2: float = 0.01
    validity: str = "mean"
    n_steps: int = 100
    lr: float = 0.01
    momentum: float = 0.9
    shared: bool = False

    def __post_init__(self) -> None:
        check_whole("n_steps", self.n_steps)
        check_at_least("n_steps", self.n_steps, 1)
        for name in ("l1", "l2"):
            check_at_least(name, getattr(self, name), 0)
        for name in ("l1", "l2", "lr"):
            if math.isinf(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)}, expected a finite number")
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr}, expected above 0")
        check_between("momentum", self.momentum, 0, 1)
        if self.momentum == 1:
            raise ValueError("momentum=1, expected below 1")
        if self.validity not in _VALIDITY:
            raise ValueError(f"validity={self.validity!r}, expected one of {_VALIDITY}")


@dataclass(frozen=True, eq=False)
class ConceptCounterfactual:
    """The concept scores of mistakes.

    Attributes:
        names: the P concepts.
        scores: ``(M, P)``; 1 adds as much of a concept as leads from its boundary to the largest
            margin among its photos, below 0 takes it away. Rows are equal where they are shared.
        lowest, highest: ``(M, P)`` what was allowed.
        before: ``(M,)`` probability of the right class.
        after: ``(M,)`` the same with the concepts added.
        is_corrected: ``(M,)`` whether the right class is then predicted.
    """

    names: tuple[str, ...]
    scores: Tensor
    lowest: Tensor
    highest: Tensor
    before: Tensor
    after: Tensor
    is_corrected: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        best = [f"{name} {score:+.3f}" for name, score in self.ranked(3)]
        return f"ConceptCounterfactual({len(self)} mistakes; {', '.join(best)})"

    def _repr_html_(self) -> str:
        rows = [
            [name, f"{score:+.3f}", f"{self.precision_at(3, name):.0%}"]
            for name, score in self.ranked(_N_SHOWN)
        ]
        return html_table(["concept", "mean score", "among the first three"], rows, repr(self))

    @property
    def mean_scores(self) -> Tensor:
        """``(P,)`` mean over the mistakes."""
        return self.scores.mean(0)

    def ranked(self, n: int | None = None) -> list[tuple[str, float]]:
        """Concepts and their mean scores, the highest first: what the mistakes lack most."""
        order = self.mean_scores.argsort(descending=True, stable=True)[:n].tolist()
        return [(self.names[row], float(self.mean_scores[row])) for row in order]

    def score(self, name: str) -> float:
        """The mean score of one concept.

        Raises:
            ValueError: for a name that is not among them.
        """
        return float(self.mean_scores[self._row(name)])

    def ranks(self, name: str) -> Tensor:
        """``(M,)`` a concept's place among the scores of each mistake, from 1; ties share one.

        Raises:
            ValueError: for a name that is not among them.
        """
        mine = self.scores[:, self._row(name), None]
        above, equal = (self.scores > mine).sum(1), (self.scores == mine).sum(1)
        return above + (equal + 1) / 2

    def precision_at(self, k: int, name: str) -> float:
        """Share of the mistakes in which a concept is among the k highest scores.

        A draw decides between equal scores: counted is how often it would choose the concept.

        Raises:
            TypeError: for a k that is not whole.
            ValueError: for k below 1, or a name that is not among them.
        """
        check_whole("k", k)
        check_at_least("k", k, 1)
        mine = self.scores[:, self._row(name), None]
        above, equal = (self.scores > mine).sum(1), (self.scores == mine).sum(1)
        return float(((k - above) / equal).clamp(0, 1).mean())

    def chance_at(self, k: int) -> float:
        """What :meth:`precision_at` is for a concept at random."""
        return min(k / len(self.names), 1.0)

    def _row(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"concept {name!r} is not among {', '.join(self.names)}")
        return self.names.index(name)


@undisturbed()
def concept_counterfactual(
    bank: ConceptBank,
    mistakes: FeatureSet,
    head: nn.Linear,
    *,
    options: ConceptOptions | None = None,
) -> ConceptCounterfactual:
    r"""Score concepts by how much of each, added to the features, makes the prediction right.

    Conceptual counterfactual explanations (CCE, Abid, Yuksekgonul and Zou, 2022). With the
    concepts' vectors :math:`c_k`, each as long as the largest margin among its photos, the scores
    of a mistake with features z and class y minimise

    .. math:: -\log p_y\Big(z + \sum_k w_k c_k\Big) + \frac{\lambda_1}{P} \|w\|_1
        + \frac{\lambda_2}{P} \|w\|_2, \qquad w_{low} \le w \le w_{high},

    by gradient descent with momentum, projected after each step. The mistakes are solved in one
    batch, in P numbers each: a linear head turns the concepts' vectors into changes of logits.

    Args:
        bank: of the head's features.
        mistakes: samples that the head gets wrong, such as ``data.mistakes(target)``.
        head: the decision layer, F features to C classes.
        options: weights, constraint and steps.

    Raises:
        TypeError: for a bank, mistakes, head or options of another kind.
        ValueError: for no mistakes, multi-hot labels, a head of one output or with weights that
            are not finite, features of another number than the bank's or the head's, or of another
            backbone than the bank's.

    Examples::

        >>> from captum_neuroinspect.concepts import ConceptFeatures, fit_concepts
        >>> noise = torch.rand(8, 2, generator=torch.Generator().manual_seed(0))
        >>> axes = torch.eye(2) * 4
        >>> shown, plain = tuple(noise + axis for axis in axes), (noise, noise)
        >>> bank = fit_concepts(ConceptFeatures(("grass", "water"), shown, plain))
        >>> head = nn.Linear(2, 2)
        >>> _ = head.weight.data.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
        >>> _ = head.bias.data.copy_(torch.tensor([2.0, 0.0]))
        >>> z = torch.zeros(1, 2)
        >>> mistake = FeatureSet(z, head(z).detach(), torch.tensor([1]))
        >>> concept_counterfactual(bank, mistake, head).ranked(1)[0][0]
        'grass'
    """
    options = options if options is not None else ConceptOptions()
    _check(bank, mistakes, head, options)
    weight, bias = (t.double() for t in head_tensors(head))
    if not (bool(weight.isfinite().all()) and bool(bias.isfinite().all())):
        raise ValueError("the head has NaN or infinite weights")
    features = mistakes.features.double()
    vectors = bank.vectors.double() * bank.highest.double()[:, None]
    logits, changes = features @ weight.T + bias, vectors @ weight.T
    margins = bank.margins(features)
    allowed = _allowed(bank, margins.mean(0, keepdim=True) if options.shared else margins, options)
    scores = _descended(logits, changes, mistakes.labels, allowed, options)
    reached = logits + scores @ changes
    rows = mistakes.labels[:, None]
    m = len(mistakes)
    return ConceptCounterfactual(
        names=bank.names,
        scores=scores.expand(m, -1).float(),
        lowest=allowed[0].expand(m, -1).float(),
        highest=allowed[1].expand(m, -1).float(),
        before=logits.softmax(1).gather(1, rows)[:, 0].float(),
        after=reached.softmax(1).gather(1, rows)[:, 0].float(),
        is_corrected=reached.argmax(1) == mistakes.labels,
    )


def _allowed(bank: ConceptBank, margins: Tensor, options: ConceptOptions) -> tuple[Tensor, Tensor]:
    """Lowest and highest scores, for each row of margins."""
    if options.validity == "none":
        endless = torch.full_like(margins, torch.inf)
        return -endless, endless
    unit = bank.highest.double()
    highest = (unit - margins) / unit
    lowest = (bank.lowest.double() - margins) / unit
    is_mean = options.validity == "mean"
    shown = bank.mean_shown.double() if is_mean else torch.zeros_like(unit)
    absent = bank.mean_absent.double() if is_mean else torch.zeros_like(unit)
    highest = highest.masked_fill(margins > shown, 0.0).clamp_min(0)
    lowest = lowest.masked_fill(margins < absent, 0.0).clamp_max(0)
    return lowest, highest


def _descended(
    logits: Tensor,
    changes: Tensor,
    labels: Tensor,
    allowed: tuple[Tensor, Tensor],
    options: ConceptOptions,
) -> Tensor:
    """``(M, P)`` scores, or ``(1, P)`` shared ones.

    Args:
        logits: ``(M, C)`` of the mistakes.
        changes: ``(P, C)`` of the logits by a score of 1.
        labels: ``(M,)``.
        allowed: lowest and highest scores.
        options: weights and steps.
    """
    n_concepts = len(changes)
    right = torch.zeros_like(logits).scatter_(1, labels[:, None], 1.0)
    scores = torch.zeros_like(allowed[0])
    velocity = torch.zeros_like(scores)
    for _ in range(options.n_steps):
        slope = ((logits + scores @ changes).softmax(1) - right) @ changes.T
        if options.shared:
            slope = slope.mean(0, keepdim=True)
        norm = scores.norm(dim=1, keepdim=True)
        of_norm = torch.where(norm > 0, scores / norm.clamp_min(1e-300), 0.0)
        slope = slope + (options.l1 * scores.sign() + options.l2 * of_norm) / n_concepts
        velocity = options.momentum * velocity + slope
        scores = (scores - options.lr * velocity).clamp(*allowed)
    return scores


def _check(bank: object, mistakes: object, head: object, options: object) -> None:
    for name, value, kind in (
        ("bank", bank, ConceptBank),
        ("mistakes", mistakes, FeatureSet),
        ("options", options, ConceptOptions),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {type(value).__name__}, expected {kind.__name__}")
    assert isinstance(bank, ConceptBank)
    assert isinstance(mistakes, FeatureSet)
    layer = check_head(head)
    if not len(mistakes):
        raise ValueError("mistakes is empty: expected at least one sample")
    if mistakes.is_multi_hot:
        raise ValueError("mistakes has multi-hot labels, expected one class a sample")
    if layer.out_features < 2:
        raise ValueError("the head has one output, expected one a class")
    bank.check_features(mistakes.features)
    backbones = bank.backbone_fingerprint, mistakes.backbone_fingerprint
    if None not in backbones and backbones[0] != backbones[1]:
        raise ValueError(
            f"the bank was fitted to features of another backbone (fingerprint {backbones[0]}, the "
            f"mistakes have {backbones[1]}): collect both with the same model"
        )
    if layer.in_features != mistakes.features.shape[1]:
        raise ValueError(
            f"the head takes {layer.in_features} features, the mistakes have "
            f"{mistakes.features.shape[1]}"
        )
    if int(mistakes.labels.max()) >= layer.out_features:
        raise ValueError(
            f"a mistake has the label {int(mistakes.labels.max())}, but the head has the classes "
            f"0..{layer.out_features - 1}"
        )
