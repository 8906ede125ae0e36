"""An edit made and judged on disjoint samples, also where there are few."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.same_samples import row_names
from captum_neuroinspect._core.splitting import dealt
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.edit._arguments import check_disjoint
from captum_neuroinspect.edit._result import HeadEdit
from captum_neuroinspect.edit.head_diff import same_values
from captum_neuroinspect.edit.judged import judged_by, judged_in_folds

__all__ = ["MakeEdit", "cross_fit", "fit_and_judge", "folds_of"]

# From train, deployment and validation samples, with these neurons or those that it finds.
MakeEdit = Callable[[FeatureSet, FeatureSet, FeatureSet, Sequence[int] | None], HeadEdit]

_N_FOLDS = 5


@undisturbed()
def fit_and_judge(
    fit: MakeEdit,
    train: FeatureSet,
    deployment: FeatureSet,
    validation: FeatureSet,
    test: FeatureSet,
    neurons: Sequence[int] | None = None,
) -> HeadEdit:
    """Make an edit, and judge it on test samples that were used for nothing else.

    Args:
        fit: makes the edit; called as ``fit(train, deployment, validation, neurons)``.
        train: what the head is trained on.
        deployment: labelled deployment samples, which the edit may be fitted to.
        validation: chooses the epoch, and whether to keep the edit.
        test: judges.
        neurons: for ``fit``; ``None``: it finds them.

    Returns:
        The edit, with :attr:`HeadEdit.judged` and :attr:`HeadEdit.verdict`.

    Raises:
        ValueError: when a sample is in two of the sets, or as ``fit``.

    Examples::

        >>> from captum_neuroinspect.edit import mend
        >>> _ = torch.manual_seed(0)
        >>> head, labels = torch.nn.Linear(8, 2), torch.arange(160) % 2
        >>> z = torch.rand(160, 8) + torch.nn.functional.one_hot(labels, 8)
        >>> halves = FeatureSet(z, head(z).detach(), labels).split()
        >>> sets = [part for half in halves for part in half.split()]
        >>> def fit(train, deployment, validation, neurons):
        ...     return mend(head, train, validation, deployment, target=1, neurons=neurons)
        >>> fit_and_judge(fit, *sets).judged.how
        '40 photos that were used for nothing else'
    """
    check_disjoint(train=train, deployment=deployment, validation=validation, test=test)
    edit = fit(train, deployment, validation, neurons)
    return replace(edit, judged=judged_by(edit.original, edit.head, test)).with_verdict()


@undisturbed()
def cross_fit(
    fit: MakeEdit,
    train: FeatureSet,
    deployment: FeatureSet,
    held_out: FeatureSet,
    neurons: Sequence[int] | None = None,
    *,
    n_folds: int = _N_FOLDS,
    seed: int = 0,
) -> HeadEdit:
    """Make an edit, and judge the way it is made where there are few samples to do both.

    The held-out samples take turns: a head is made with each fold of them as test and all
    others as validation, so that each sample is judged by a head that was neither fitted to it
    nor chosen by it. The head that is returned is made in the same way with all of them as
    validation. Training and deployment samples keep their roles in all folds: neurons that
    people picked were picked by looking at these.

    Where that head is the original, as no edit was worth it, so is what judges it: nothing
    changes for any sample.

    Args:
        fit: makes an edit; called as ``fit(train, deployment, validation, neurons)``, once a
            fold and once for all.
        train: what the head is trained on.
        deployment: labelled deployment samples, which the edit may be fitted to.
        held_out: samples that choose and judge.
        neurons: for ``fit``; ``None``: it finds them.
        n_folds: at least 2; of fewer samples as many as there are.
        seed: deals out the folds.

    Returns:
        The edit, with :attr:`HeadEdit.verdict` and :attr:`HeadEdit.judged`: one row for each
        held-out sample.

    Raises:
        ValueError: when a sample is in two of the sets, there are fewer than two folds or
            different samples to fill them, or as ``fit``.

    Examples::

        >>> from captum_neuroinspect.edit import mend
        >>> _ = torch.manual_seed(0)
        >>> head, labels = torch.nn.Linear(8, 2), torch.arange(90) % 2
        >>> z = torch.rand(90, 8) + torch.nn.functional.one_hot(labels, 8)
        >>> used, held_out = FeatureSet(z, head(z).detach(), labels).split(2 / 3)
        >>> def fit(train, deployment, validation, neurons):
        ...     return mend(head, train, validation, deployment, target=1, neurons=neurons)
        >>> cross_fit(fit, *used.split(), held_out).judged.how
        '30 photos, cross-fitted over 5 folds'
    """
    check_disjoint(train=train, deployment=deployment, held_out=held_out)
    folds = folds_of(held_out, n_folds, seed)
    edit = fit(train, deployment, held_out, neurons)
    if same_values(edit.head, edit.original):
        heads = [edit.original] * (int(folds.max()) + 1)
    else:
        with warnings.catch_warnings():
            # What keeps a fold from an edit is said of the edit that is returned, if it is true.
            warnings.simplefilter("ignore", RuntimeWarning)
            heads = [
                fit(train, deployment, held_out.subset(folds != fold), neurons).head
                for fold in range(int(folds.max()) + 1)
            ]
    judged = judged_in_folds(edit.original, heads, held_out, folds)
    return replace(edit, judged=judged).with_verdict()


def folds_of(data: FeatureSet, n_folds: int = _N_FOLDS, seed: int = 0) -> Tensor:
    """``(N,)`` fold of each sample: a share of each class, of right ones and of mistakes.

    Samples with the same features are in the same fold.

    Raises:
        ValueError: when there are fewer than two folds, or different samples to fill them.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds={n_folds}, expected at least 2")
    names = row_names(data.features)
    units = {name: number for number, name in enumerate(dict.fromkeys(names))}
    n_folds = min(n_folds, len(units))
    if n_folds < 2:
        raise ValueError(
            f"held_out has {len(data)} samples, {len(units)} of them different: expected two or "
            "more, some to choose by and some to judge"
        )
    shares = dict.fromkeys(map(str, range(n_folds)), 1 / n_folds)
    rows = torch.tensor([units[name] for name in names])
    parts = dealt(data.labels, data.is_correct.long(), rows, shares, seed)
    return torch.stack(list(parts.values())).long().argmax(0)
