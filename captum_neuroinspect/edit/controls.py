"""The same fit without the neurons or direction, and with random ones: what the chosen add."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from captum_neuroinspect._core.checks import check_at_least
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.edit.judged import Paired, mcnemar

if TYPE_CHECKING:
    from captum_neuroinspect.edit._result import HeadEdit


@dataclass(frozen=True)
class Control:
    """What the same fit does without the chosen neurons, on the samples that judge the edit.

    Attributes:
        name: of the control.
        target_change: of the accuracy on the edited classes, -1..1; ``None`` where they have
            no sample.
        overall_change: of the accuracy on all samples, -1..1.
        n_corrected: samples that it mends; the mean of several draws.
        n_broken: samples that it breaks; the mean of several draws.
        p_value: of the exact McNemar test of the edit against it, two-sided; of several draws
            the largest.
        n_draws: of random neurons or directions, whose mean the numbers are.
        of: what it is a control of.
    """

    name: str
    target_change: float | None
    overall_change: float
    n_corrected: float
    n_broken: float
    p_value: float
    n_draws: int = 1
    of: Literal["neurons", "direction"] = "neurons"

    @property
    def score(self) -> tuple[float, float]:
        """The larger the better: net samples corrected, then the change of the target."""
        return self.n_corrected - self.n_broken, self.target_change or 0.0


@undisturbed()
def run_controls(
    fit: Callable[[Sequence[int]], HeadEdit],
    edit: HeadEdit,
    *,
    n_draws: int = 5,
    seed: int = 0,
    without: bool = True,
) -> tuple[Control, ...]:
    """Make an edit again without its neurons and with as many random ones, and judge these too.

    Args:
        fit: makes and judges the edit, on the same samples and with the same settings, with the
            neurons that it is given; with none of them for an empty list.
        edit: what it gave with the chosen neurons; of a single class.
        n_draws: random sets of neurons, at least 1. They are drawn from those that the edit does
            not have, as long as there are enough of these.
        seed: draws them.
        without: also make the edit without neurons; ``False`` for a method that needs some.

    Returns:
        The control without neurons and the one with random neurons; neither for an edit that
        has no neurons itself, or where there is nothing to judge by.

    Raises:
        ValueError: for an edit of several classes or that was not judged, ``n_draws`` below 1,
            or when ``fit`` judges by other samples than the edit was judged by.

    Examples::

        >>> from captum_neuroinspect import FeatureSet
        >>> from captum_neuroinspect.edit import mend
        >>> _ = torch.manual_seed(0)
        >>> head, labels = torch.nn.Linear(8, 2), torch.arange(160) % 2
        >>> z = torch.rand(160, 8) + torch.nn.functional.one_hot(labels, 8)
        >>> halves = FeatureSet(z, head(z).detach(), labels).split()
        >>> train, validation, deployment, test = (part for half in halves for part in half.split())
        >>> def fit(neurons):
        ...     some = {"neurons": list(neurons)} if neurons else {"n_neurons": 0}
        ...     return mend(head, train, validation, deployment, target=1, **some).judge(test)
        >>> edit = fit([0, 1])
        >>> [control.name for control in run_controls(fit, edit)]
        ['without neurons', 'with 2 random neurons']
    """
    check_at_least("n_draws", n_draws, 1)
    target, neurons, judged = edit.target, edit.neurons, _outcome(edit)
    if not neurons or not len(judged):
        return ()
    draws = _random_sets(neurons, edit.head.in_features, n_draws, seed)
    with warnings.catch_warnings():
        # What keeps a control from an edit is a result, not a problem of the user's.
        warnings.simplefilter("ignore")
        none = [_outcome(fit(()))] if without else []
        random = [_outcome(fit(draw)) for draw in draws]
    s = "" if len(neurons) == 1 else "s"
    found = _control(f"with {len(neurons)} random neuron{s}", judged, random, target)
    return (_control("without neurons", judged, none, target), found) if without else (found,)


@undisturbed()
def run_direction_controls(
    fit: Callable[[int], HeadEdit], edit: HeadEdit, *, n_draws: int = 5, seed: int = 0
) -> tuple[Control, ...]:
    """Remove random directions in place of a cue, and judge these edits too.

    Args:
        fit: removes the random direction of a seed (:meth:`Direction.drawn`) and judges the edit,
            on the same samples and with the same settings as ``edit``.
        edit: what the cue's direction gave; of a single class.
        n_draws: random directions, at least 1.
        seed: of the first of them.

    Returns:
        One control; none where there is nothing to judge by.

    Raises:
        ValueError: for an edit of several classes or that was not judged, ``n_draws`` below 1,
            or when ``fit`` judges by other samples than the edit was judged by.
    """
    check_at_least("n_draws", n_draws, 1)
    target, judged = edit.target, _outcome(edit)
    if not len(judged):
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        random = [_outcome(fit(seed + draw)) for draw in range(n_draws)]
    found = _control("with a random direction", judged, random, target)
    return (replace(found, of="direction"),)


def _outcome(edit: HeadEdit) -> Paired:
    if edit.judged is None:
        raise ValueError("the edit was not judged: expected one of judge(features)")
    return Paired.of(edit.judged)


def _random_sets(
    neurons: Sequence[int], n_features: int, n_draws: int, seed: int
) -> list[tuple[int, ...]]:
    """Of neurons that were not chosen, as long as there are enough of these."""
    others = sorted(set(range(n_features)) - set(neurons))
    if len(others) < len(neurons):
        others = list(range(n_features))
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(others), generator=generator) for _ in range(n_draws)]
    return [tuple(others[i] for i in order[: len(neurons)].tolist()) for order in orders]


def _control(name: str, judged: Paired, outcomes: list[Paired], target: int) -> Control:
    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    of_target = [one.of_classes([target]) for one in outcomes]
    return Control(
        name,
        target_change=mean([one.change.value for one in of_target]) if len(of_target[0]) else None,
        overall_change=mean([one.change.value for one in outcomes]),
        n_corrected=mean([one.n_corrected for one in outcomes]),
        n_broken=mean([one.n_broken for one in outcomes]),
        p_value=max(_against(judged, one) for one in outcomes),
        n_draws=len(outcomes),
    )


def _against(judged: Paired, control: Paired) -> float:
    if not torch.equal(judged.labels, control.labels):
        raise ValueError(
            f"fit judges by {len(control)} samples, the edit was judged by {len(judged)}: "
            "expected the same samples in the same order"
        )
    between = Paired(judged.labels, control.is_right, judged.is_right)
    return mcnemar(between.n_corrected, between.n_broken)
