"""Weaken a false correlation in the decision layer, and say what that changed."""

from __future__ import annotations

from torch import nn

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.edit._arguments import Neurons, Ratio, apart_from, warn_of_absent_classes
from captum_neuroinspect.edit._constrained_fit import (
    as_edit,
    checked_problem,
    fit_head,
    warn_of_failure,
)
from captum_neuroinspect.edit._result import HeadEdit
from captum_neuroinspect.edit.edit_options import EditOptions, EditSettings, Options, Scope, Select


@undisturbed()
def edit_head(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    *,
    target: int | None = None,
    neurons: Neurons,
    mistakes: FeatureSet | None = None,
    strength: float = 1.0,
    scope: Scope = "head",
    ratio: Ratio = 1.0,
    select: Select = "accuracy",
    n_epochs: int = 20,
    lr: float = 1e-3,
    seed: int = 0,
    progress: bool = False,
    options: Options = None,
) -> HeadEdit:
    r"""Retrain the decision layer under the paper's constraint (equation 8).

    .. math:: CE + \lambda_3 || r_c - o ||_2

    on features that were collected once, from the head as it is. The head of the best
    epoch on ``validation`` is kept, if it is as good as the original; the ``head``
    given is never changed. Features, labels and groups are used as they are; images
    with augmentation are for :func:`edit_through_images`.

    Args:
        head: the decision layer, F features to C classes.
        train: features with labels to train on.
        validation: features with labels that choose the epoch. If they carry the
            false correlation too, the epoch that changed least is chosen: give photos
            that do not, such as deployment photos.
        target: index of the class ``c`` whose false correlation is weakened.
        neurons: the features that carry it; or, instead of ``target``, a mapping from
            several classes to the features of each, such as ``{3: [7, 8], 5: [1]}``.
            All classes edited at once: their constraints add up.
        mistakes: samples that the model got wrong, such as deployment photos; their
            cross entropy is added with a weight. Not in the paper, which trains on the
            original data only.
        strength: lambda3, 0 or more.
        scope: what may change: the whole ``"head"`` (the paper), the targets' rows and
            biases (``"class"``), or the targets' coefficients of these neurons
            (``"neurons"``). A head without bias stays without.
        ratio: ``o``, the ratio asked for: 1 (treat the neurons as the other classes
            do), a little above, or ``"rule"``: ``(min_j r_c - 1)/3 + 1`` at the mean
            training features of the target. With one value a neuron, each is masked by
            itself and the constraints add up. For several classes also a mapping from
            the class to one of these.
        select: what the best epoch is best in, on ``validation``: the ``"accuracy"``
            (the paper), the accuracy of the worst class (``"min_class"``, the paper's
            "C") or of the worst ``"group"``, or the ``"target"``'s accuracy (mean of
            several) among the epochs that cost the other classes at most ``max_cost``.
        n_epochs: upper bound on passes over ``train``.
        lr: Adam's step size.
        seed: draws the order of the samples.
        progress: show a progress bar over epochs.
        options: :class:`~captum_neuroinspect.edit.EditOptions`: other penalties and links,
            anchors, weights, batches and schedules. ``"paper"``: the published settings, which
            are the defaults.

    Returns:
        A :class:`HeadEdit` with the new head and both heads' results on ``validation``. Its
        ``verdict`` cannot tell before :meth:`HeadEdit.judge` is called with samples that were used
        for nothing else.

    Raises:
        TypeError: when ``head`` is not linear or whole numbers are something else.
        ValueError: when an index is out of range, ``neurons`` is empty or repeats
            one, a target is absent from ``train`` or alone in it, sets are empty, do
            not fit the head or were judged by another head, a sample of ``validation`` is
            in another one, or an option is out of its range.

    Warns:
        RuntimeWarning: when every epoch was worse than the original by ``select``, so
            that the original is returned (``best_epoch`` 0), or when the loss became
            infinite or NaN and training stopped.
        UserWarning: when samples of ``train`` are in ``mistakes`` too, and are left out of it;
            when classes of the head are in neither: a fit favours those that are.

    Examples::

        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> head, z = nn.Linear(4, 2), torch.rand(64, 4)
        >>> data = FeatureSet(z, head(z).detach(), (z[:, 0] > z[:, 1]).long())
        >>> train, validation = data.split()
        >>> edit = edit_head(head, train, validation, target=1, neurons=[2], n_epochs=5)
        >>> edit.after.accuracy >= edit.before.accuracy
        True
    """
    settings = EditSettings(strength, scope, select, n_epochs, lr, seed, EditOptions.of(options))
    with exclusive(check_head(head)):  # no edit that another thread tries is read
        train = apart_from(train, mistakes=mistakes)
        problem = checked_problem(
            head, train, validation, target, neurons, ratio, settings, mistakes=mistakes
        )
        warn_of_absent_classes(head.out_features, train, mistakes)
        fit = fit_head(problem, train, validation, mistakes, progress=progress)
        warn_of_failure(fit, settings)
        return as_edit(head, fit, problem, train, validation, mistakes)
