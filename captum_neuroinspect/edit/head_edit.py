"""Weaken a false correlation in the decision layer, and say what that changed."""

from __future__ import annotations

from torch import nn

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.edit._arguments import apart_from
from captum_neuroinspect.edit._fitting import as_edit, checked_problem, warn_of_failure
from captum_neuroinspect.edit._link import Link
from captum_neuroinspect.edit._options import Anchor, Decay, FitOptions, Penalty, Scope, Select
from captum_neuroinspect.edit._result import HeadEdit
from captum_neuroinspect.edit._targets import Neurons, Ratio
from captum_neuroinspect.edit._training import fit_head


@undisturbed()
def edit_head(
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    *,
    target: int | None = None,
    neurons: Neurons,
    scope: Scope = "head",
    strength: float = 1.0,
    ratio: Ratio = 1.0,
    penalty: Penalty = "ratio",
    anchor: Anchor | None = None,
    anchor_weight: float = 1.0,
    mistakes: FeatureSet | None = None,
    mistake_weight: float = 0.3,
    select: Select = "accuracy",
    max_cost: float = 0.005,
    link: Link = "softmax",
    n_epochs: int = 20,
    batch_size: int = 16,
    lr: float = 1e-3,
    schedule: Decay = "constant",
    warmup: float = 0.0,
    patience: int = 5,
    seed: int = 0,
    progress: bool = False,
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
            that do not, such as some met in use.
        target: index of the class ``c`` whose false correlation is weakened.
        neurons: the features that carry it; or, instead of ``target``, a mapping from
            several classes to the features of each, such as ``{3: [7, 8], 5: [1]}``.
            All classes are mended at once: their constraints add up.
        scope: what may change: the whole ``"head"`` (the paper), the targets' rows and
            biases (``"class"``), or the targets' coefficients of these neurons
            (``"neurons"``). A head without bias stays without.
        strength: lambda3, 0 or more.
        ratio: ``o``, the ratio asked for: 1 (treat the neurons as the other classes
            do), a little above, or ``"rule"``: ``(min_j r_c - 1)/3 + 1`` at the mean
            training features of the target. With one value a neuron, each is masked by
            itself and the constraints add up. For several classes also a mapping from
            the class to one of these.
        penalty: ``"ratio"``: the norm of r - o over the batch, as above;
            ``"mean_ratio"``: ``|mean of r - o|`` over the batch (the paper on
            Waterbirds); ``"coefficients"``: the norm of the class's own coefficients
            of the neurons (CON, equation 9; ``ratio`` does not matter). Ratios above
            22,000 enter by the tangent of the exponential, so that none overflows.
        anchor: hold the head near the original: ``"predictions"`` adds the KL
            divergence from the original's predictions on the batch, ``"weights"`` the
            squared distance to its weights.
        anchor_weight: weight of the anchor, 0 or more.
        mistakes: samples that the model got wrong, such as photos met in use; their
            cross entropy is added with ``mistake_weight``. Not in the paper, which
            trains on the original data only.
        mistake_weight: weight of the mistakes beside the training data, above 0.
        select: what the best epoch is best in, on ``validation``: the ``"accuracy"``
            (the paper), the accuracy of the worst class (``"min_class"``, the paper's
            "C") or of the worst ``"group"``, or the ``"target"``'s accuracy (mean of
            several) among the epochs that cost the other classes at most ``max_cost``.
        max_cost: loss of accuracy on all other classes together that ``"target"``
            puts up with, 0..1.
        link: ``"softmax"``, or ``"sigmoid"`` for outputs that are decisions of their
            own: a sigmoid takes the place of the softmax in the ratio, and binary
            cross entropy trains. Labels are multi-hot ``(N, C)``; or the head has one
            output and labels are 0 or 1, then ``target`` is that class.
        n_epochs: upper bound on passes over ``train``.
        batch_size: samples a step; the norm in equation (8) runs over a batch.
        lr: Adam's step size.
        schedule: ``"constant"``, or ``"cosine"``: ``lr`` falls to 0 over the epochs.
        warmup: epochs in which ``lr`` rises from 0, less than ``n_epochs``.
        patience: epochs without a better result on validation before stopping.
        seed: draws the order of the samples.
        progress: show a progress bar over epochs.

    Returns:
        A :class:`HeadEdit` with the new head and both heads' results on ``validation``. Its
        ``verdict`` cannot tell before :meth:`HeadEdit.judge` is called with samples that served
        for nothing else.

    Raises:
        TypeError: when ``head`` is not linear or indices are not whole numbers.
        ValueError: when an index is out of range, ``neurons`` is empty or repeats
            one, a target is absent from ``train`` or alone in it, sets are empty, do
            not fit the head or were judged by another head, a sample of ``validation`` is
            in another one, or an option is out of its range.

    Warns:
        RuntimeWarning: when every epoch was worse than the original by ``select``, so
            that the original is returned (``best_epoch`` 0), or when the loss became
            infinite or NaN and training stopped.
        UserWarning: when samples of ``train`` are in ``mistakes`` too, and are left out of it.

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
    options = FitOptions(
        scope=scope,
        strength=strength,
        penalty=penalty,
        anchor=anchor,
        anchor_weight=anchor_weight,
        select=select,
        max_cost=max_cost,
        mistake_weight=mistake_weight,
        link=link,
        n_epochs=n_epochs,
        batch_size=batch_size,
        lr=lr,
        schedule=schedule,
        warmup=warmup,
        patience=patience,
        seed=seed,
        progress=progress,
    )
    with exclusive(check_head(head)):  # no edit that another thread tries is read
        train = apart_from(train, mistakes=mistakes)
        problem = checked_problem(
            head,
            train,
            validation,
            target,
            neurons,
            ratio,
            options,
            mistakes=mistakes,
        )
        fit = fit_head(problem, train, validation, mistakes)
        warn_of_failure(fit, options)
        return as_edit(head, fit, problem, train, validation, mistakes)
