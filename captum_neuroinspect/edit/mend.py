"""Mend a class from the mistakes met in use, with nothing to choose by hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect._head import check_head, head_tensors
from captum_neuroinspect.edit._anchored_fit import anchored_fit
from captum_neuroinspect.edit._checks import check_sets, check_training
from captum_neuroinspect.edit._layers import changed, copy_of
from captum_neuroinspect.edit._moved_samples import moved_samples
from captum_neuroinspect.edit._result import HeadEdit, compare_heads
from captum_neuroinspect.edit.probability_ratio import check_target

_ANCHOR = 1e-2
_N_FOLDS = 3
_FEWEST_MET = 5


@dataclass(frozen=True)
class _Settings:
    target: int
    n_neurons: int
    target_weight: float
    max_cost: float
    seed: int


def mend(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    met: FeatureSet,
    *,
    target: int,
    n_neurons: int = 50,
    target_weight: float = 3.0,
    max_cost: float = 0.01,
    seed: int = 0,
) -> HeadEdit:
    """Find the neurons behind a class's mistakes, and fit the head so that they matter less.

    What equation (8) of NeuroInspect asks of the head, that the blamed neurons raise the class
    no more than the others, is asked here by samples: the target's training features with
    these neurons moved to where they are in the samples met in use, the other classes' moved
    the other way. One convex regression, anchored at the original head, does the rest.

    The samples met in use are split in three; a head fitted without a part is judged on it.
    Where the mean accuracy of the classes falls there by more than ``max_cost``, or too few
    samples of the target were met, the original head is returned with a warning.

    Most of the gain comes from the labelled samples met in use; the measurements in the
    documentation say what the neurons add to them.

    Args:
        head: the decision layer, F features to C classes; never changed.
        train: features with labels that the head was trained on.
        validation: features with labels, on which the other classes' cost is judged.
        met: labelled samples met in use: mistakes and, if there are any, samples that the
            head gets right. No group labels are needed.
        target: the class to mend.
        n_neurons: how many of the neurons that the mistakes blame are moved; 0: none.
        target_weight: weight of the target beside 1 for each other class, above 0.
        max_cost: how much mean accuracy over the classes may fall on held-out samples, 0..1.
        seed: deals out the held-out parts.

    Returns:
        A :class:`HeadEdit`, judged on ``validation``; ``settings`` has the held-out
        accuracies: ``held_out_target_before``, ``held_out_target_after``,
        ``held_out_mean_before`` and ``held_out_mean_after``. ``best_epoch`` is 0 where the
        original stayed.

    Raises:
        TypeError: when ``head`` is not linear.
        ValueError: when sets do not fit the head or are empty, the target is absent from
            ``train`` or alone in it, or a number is out of its range.

    Warns:
        RuntimeWarning: when the original head is returned.

    Examples::

        >>> _ = torch.manual_seed(0)
        >>> head, labels = nn.Linear(8, 2), torch.arange(60) % 2
        >>> z = torch.rand(60, 8) + torch.nn.functional.one_hot(labels, 8)
        >>> data = FeatureSet(z, head(z).detach(), labels)
        >>> edit = mend(head, data, data, data, target=1)
        >>> edit.after.accuracy >= edit.before.accuracy
        True
    """
    check_target(target, check_head(head).out_features)
    check_sets(head, "softmax", train=train, validation=validation, met=met)
    check_training(train, [int(target)])
    settings = _Settings(int(target), n_neurons, target_weight, max_cost, seed)
    _check(settings)
    found, reason = _judged(head, train, validation, met, settings)
    if reason is not None:
        warnings.warn(f"the original head is returned: {reason}", RuntimeWarning, stacklevel=2)
    neurons = _blamed(head, train, met, settings)
    new = copy_of(head) if reason is not None else _fitted(head, train, met, neurons, settings)
    return compare_heads(
        head,
        new,
        validation,
        {settings.target: neurons.tolist()},
        train=train,
        best_epoch=0 if reason is not None else 1,
        settings={"method": "mend", "target_weight": target_weight, "seed": seed, **found},
    )


def _check(settings: _Settings) -> None:
    if settings.n_neurons < 0:
        raise ValueError(f"n_neurons={settings.n_neurons}, expected 0 or more")
    if not settings.target_weight > 0:
        raise ValueError(f"target_weight={settings.target_weight}, expected a positive number")
    if not 0 <= settings.max_cost <= 1:
        raise ValueError(f"max_cost={settings.max_cost}, expected 0..1")


def _judged(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    met: FeatureSet,
    settings: _Settings,
) -> tuple[dict[str, float], str | None]:
    """Held-out accuracies, and why the head should stay as it is, if it should."""
    n_met = int((met.labels == settings.target).sum())
    if n_met < _FEWEST_MET:
        return {}, f"{n_met} samples of the target were met, expected at least {_FEWEST_MET}"
    before, after = _held_out(head, train, validation, met, settings)
    accuracies = {
        f"held_out_{name}_{when}": value
        for when, hits in (("before", before), ("after", after))
        for name, value in _accuracies(hits, validation, met, settings.target).items()
    }
    cost = accuracies["held_out_mean_before"] - accuracies["held_out_mean_after"]
    if cost > settings.max_cost:
        return accuracies, f"the edit costs {100 * cost:.1f} points of mean held-out accuracy"
    return accuracies, None


def _held_out(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    met: FeatureSet,
    settings: _Settings,
) -> tuple[Tensor, Tensor]:
    """How far each sample of ``validation`` and ``met`` is right, 0..1, before and after."""
    parts = _parts(met, settings.seed)
    on_validation, on_met = torch.zeros(len(validation)), torch.zeros(len(met))
    for part in range(_N_FOLDS):
        rest = met.subset(parts != part)
        new = _fitted(head, train, rest, _blamed(head, train, rest, settings), settings)
        on_validation += validation.with_head(new).is_correct / _N_FOLDS
        on_met[parts == part] = met.with_head(new).is_correct[parts == part].float()
    before = torch.cat([one.with_head(head).is_correct.float() for one in (validation, met)])
    return before, torch.cat([on_validation, on_met])


def _parts(met: FeatureSet, seed: int) -> Tensor:
    """``(N,)`` part of each sample: each class's right and wrong ones are dealt out in turn."""
    shuffled = torch.randperm(len(met), generator=torch.Generator().manual_seed(seed))
    kind = 2 * met.labels + met.is_correct.long()
    order = shuffled[kind[shuffled].argsort(stable=True)]
    parts = torch.empty(len(met), dtype=torch.int64)
    parts[order] = torch.arange(len(met)) % _N_FOLDS
    return parts


def _accuracies(
    hits: Tensor, validation: FeatureSet, met: FeatureSet, target: int
) -> dict[str, float]:
    """The target as it was met, and the mean of it and of the other classes anywhere."""
    mine = float(hits[len(validation) :][met.labels == target].mean())
    labels = torch.cat([validation.labels, met.labels])
    others = [float(hits[labels == c].mean()) for c in labels.unique().tolist() if c != target]
    return {"target": mine, "mean": (mine + sum(others)) / (1 + len(others))}


def _fitted(
    head: nn.Linear, train: FeatureSet, met: FeatureSet, neurons: Tensor, settings: _Settings
) -> nn.Linear:
    weight, bias = head_tensors(head)
    if not (met.labels == settings.target).any():
        return copy_of(head)
    samples = moved_samples(train, met, settings.target, neurons, settings.target_weight)
    has_bias = head.bias is not None
    new_weight, new_bias = anchored_fit(samples, weight, bias, anchor=_ANCHOR, has_bias=has_bias)
    return changed(head, new_weight.double() - weight.double(), new_bias.double() - bias.double())


def _blamed(head: nn.Linear, train: FeatureSet, met: FeatureSet, settings: _Settings) -> Tensor:
    """The neurons that the target's mistakes blame most; none without mistakes."""
    # Captum imports matplotlib, which an edit by itself does not need.
    from captum_neuroinspect.attr import NeuronCounterfactual, rank_neurons

    judged = met.with_head(head)
    mistakes = judged.mistakes(settings.target)
    if not len(mistakes) or not settings.n_neurons:
        return torch.empty(0, dtype=torch.int64)
    w = NeuronCounterfactual(head, head).attribute_features(mistakes.features, mistakes.labels)
    if not w.any():
        return torch.empty(0, dtype=torch.int64)
    ranking = rank_neurons(w, features=mistakes, reference=train.with_head(head))
    rows = sorted(ranking.rows(), key=lambda row: -float(row["magnitude"]))
    return torch.tensor([int(row["neuron"]) for row in rows[: settings.n_neurons]])
