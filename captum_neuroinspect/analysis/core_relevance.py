"""Whether what a neuron responds to in a class is core to the class: the paper's score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import check_head
from captum_neuroinspect._core.head_watch import watched
from captum_neuroinspect._core.modules import as_input, check_indices, device_of, frozen
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.optvis import Illusions

__all__ = ["class_representatives", "core_relevance"]

Score = Literal["difference", "ratio"]

_BATCH = 8
# Of the authors' score: classes that the whole illusion is nearest to, and their masks.
_N_NEAREST = 20
_THRESHOLD, _FLOOR = 0.25, 0.0


@undisturbed()
def core_relevance(
    model: nn.Module,
    head: nn.Linear,
    illusions: Illusions,
    features: FeatureSet,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    *,
    score: Score = "ratio",
) -> Tensor:
    r"""Score how much of a class stays when only the neuron's part of an illusion does.

    With :math:`f` the features, :math:`x` the illusion of neuron j in class c, :math:`m` its mask
    and :math:`\mu_k` the mean features of class k, let
    :math:`q_k = \cos(f(x \cdot m), \mu_k) / \cos(f(x), \mu_k)` be what the neuron's part keeps of
    the likeness to a class. The score is

    .. math:: q_c / mean_k \, q_k

    over the 20 classes k that the whole illusion is nearest to (all, if there are fewer). Below 1:
    the part keeps less of the class than of the classes beside it: the neuron's concept may not
    be core to the class. Compare the neurons of one class with each other; there is no threshold.

    The paper (section V) compares the two cosines and leaves open how; this is its authors' code,
    whose masks start at a quarter of a standard deviation and blacken the rest. They take the
    most active of four illusions of each neuron. ``score="difference"`` is
    :math:`\cos(f(x \cdot m), \mu_c) - \cos(f(x), \mu_c)` with the masks as they are and the mean
    of the class's right samples; below 0: not core. On planted cues the quotient ranks a cue's
    neurons below the class's own a little better, and both hardly better than chance; the
    neuron's importance (:func:`~captum_neuroinspect.attr.neuron_importance`), for which no
    illusion is needed, tells more (``docs/measurements/core-relevance.md``).

    The paper warns that the score fails where a class and a feature belong together
    without one causing the other, such as waterbirds and water: water is part of the
    mean of the waterbirds, so it looks core. The score is a hint, people decide.

    More details: https://arxiv.org/abs/2310.07184

    Args:
        model: the classifier.
        head: its decision layer.
        illusions: N images with masks and classes. A mask that is 1 everywhere (a neuron
            that is active all over) gives 1, or 0 for ``"difference"``.
        features: of labelled samples, best ones that the model was not trained on.
        preprocess: from images in 0..1 to the model's input.
        score: the authors' ``"ratio"``, for features that are never negative, or the
            ``"difference"`` of the cosines.

    Returns:
        ``(N,)`` float32. For ``"ratio"`` about 1; NaN for a class without samples or one
        that the whole illusion has no likeness to. For
        ``"difference"`` in -2..2, in -1..1 for features that are never negative; NaN for a class
        of which no sample is classified correctly.

    Raises:
        TypeError: when ``head`` is not linear.
        ValueError: when the model does not decide by the head, there are no masks or
            classes, a class is out of range, the set has another number of features than the
            head, or for another ``score``.
        RuntimeError: when ``"ratio"`` finds no maps to make its masks of.
    """
    check_head(head)
    if score not in get_args(Score):
        raise ValueError(f"score={score!r}, expected one of {get_args(Score)}")
    if illusions.masks is None or illusions.classes is None:
        missing = "masks" if illusions.masks is None else "classes"
        raise ValueError(f"illusions have no {missing}, which core relevance compares")
    if features.features.shape[1] != head.in_features:
        raise ValueError(
            f"features are {features.features.shape[1]} a sample, the head takes {head.in_features}"
        )
    classes = torch.tensor(illusions.classes, dtype=torch.int64)
    check_indices("class", classes, features.n_classes, f"{features.n_classes} classes")
    if score == "ratio":
        blackened = illusions.remasked(_THRESHOLD, _FLOOR)
        pictures = (blackened.masked(), illusions.images)
        masked, whole = (_features(model, head, images, preprocess) for images in pictures)
        return _quotient(masked, whole, _class_means(features), classes)
    wanted, places = classes.unique(return_inverse=True)
    means = _means(features, wanted.tolist())[places]
    with_mask, without_mask = (
        F.cosine_similarity(_features(model, head, images, preprocess), means)
        for images in (illusions.masked(), illusions.images)
    )
    return with_mask - without_mask


def _quotient(masked: Tensor, whole: Tensor, means: Tensor, classes: Tensor) -> Tensor:
    """The authors' score of features ``(N, F)``, against class means ``(C, F)``."""
    unit = F.normalize(means, dim=1)
    before, after = (F.normalize(one, dim=1) @ unit.T for one in (whole, masked))
    # A class without samples is NaN, and a quotient over a cosine of 0 or less says nothing.
    kept = (after / before).where(before > 0, torch.nan)
    nearest = before.where(before > 0, -torch.inf).topk(min(_N_NEAREST, len(means)), dim=1)
    beside = kept.gather(1, nearest.indices).nanmean(1)
    return kept.gather(1, classes[:, None])[:, 0] / beside.where(beside > 0, torch.nan)


def _class_means(features: FeatureSet) -> Tensor:
    """``(C, F)`` mean features of each class's samples, right or wrong; NaN without any."""
    rows = [features.of_class(c) for c in range(features.n_classes)]
    return torch.stack([features.features[row].mean(0) for row in rows])


def class_representatives(features: FeatureSet) -> Tensor:
    """``(C, F)`` mean features of each class's correctly classified samples.

    NaN in the row of a class without any.

    Examples::

        >>> values = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 1.0]])
        >>> class_representatives(FeatureSet(values, values, torch.tensor([0, 0, 0])))
        tensor([[3., 0.],
                [nan, nan]])
    """
    return _means(features, range(features.n_classes))


def _means(features: FeatureSet, classes: Sequence[int]) -> Tensor:
    """``(len(classes), F)`` the same for some classes."""
    means = features.features.new_full((len(classes), features.features.shape[1]), torch.nan)
    rows_of = _right_rows(features)
    for place, index in enumerate(classes):
        rows = rows_of(index)
        if len(rows):
            means[place] = features.features[rows].mean(0)
    return means


def _right_rows(features: FeatureSet) -> Callable[[int], Tensor]:
    """A function that gives the rows of a class that are right; all are decided once."""
    if features.is_multi_hot:
        found = features.predictions.mul_(features.labels)
        return lambda index: found[:, index].nonzero().flatten()
    rows = features.is_correct.nonzero().flatten()
    labels, order = features.labels[rows].sort(stable=True)
    of_class = rows[order].split(labels.bincount(minlength=features.n_classes).tolist())
    return lambda index: of_class[index]


def _features(
    model: nn.Module,
    head: nn.Linear,
    images: Tensor,
    preprocess: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """``(N, F)`` on the CPU."""
    device, parts = device_of(model), []
    with frozen(model), torch.no_grad():
        for part in images.to(device).split(_BATCH):
            given = as_input(model, part if preprocess is None else preprocess(part))
            with watched(model, head) as watch:
                watch.logits(model(given))
                parts.append(watch.features.float().cpu())
    return torch.cat(parts)
