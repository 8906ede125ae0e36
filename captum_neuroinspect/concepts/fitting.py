"""Vectors of concepts: in closed form, or by a linear classifier behind Captum's protocol."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from captum_neuroinspect._core.checks import check_seed
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.concepts.concept_bank import ConceptBank
from captum_neuroinspect.concepts.concept_features import ConceptFeatures, split_rows

if TYPE_CHECKING:
    from captum.concept import Classifier

_ABSENT, _SHOWN = 0, 1


@undisturbed()
def fit_concepts(
    features: ConceptFeatures,
    *,
    classifier: Callable[[], Classifier] | None = None,
    held_out: float = 1 / 3,
    seed: int = 0,
) -> ConceptBank:
    r"""Fit one direction a concept, and judge it on photos that were held out.

    In closed form (FastCAV, Schmalwasser et al., 2025): with :math:`\mu` the mean of all features
    and :math:`\mu_c` that of the photos that show the concept, the vector is
    :math:`\mu_c - \mu` and the boundary goes through :math:`\mu`. Or with a linear classifier as
    TCAV trains one (Kim et al., 2018), such as ``captum.concept.DefaultClassifier``, whose
    protocol has no intercept: the boundary is then halfway between the means' projections.

    Args:
        features: photos that show each concept, and counterparts.
        classifier: makes one of Captum's classifiers for each concept; ``None``: in closed form.
        held_out: share of each set of photos that judges and does not fit, in 0..1 without ends.
        seed: draws which, and seeds all chance for the classifier.

    Raises:
        TypeError: for features of another kind, or a seed that is not whole.
        ValueError: for a share outside 0..1, photos that have the mean of their counterparts, or a
            classifier that returns other weights than (2, F).

    Examples::

        >>> pair = (torch.tensor([[2.0, 1.0]] * 4),), (torch.tensor([[0.0, 1.0]] * 4),)
        >>> fit_concepts(ConceptFeatures(("red",), *pair)).vectors
        tensor([[1., 0.]])
    """
    if not isinstance(features, ConceptFeatures):
        raise TypeError(f"features is {type(features).__name__}, expected ConceptFeatures")
    check_seed("seed", seed)
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out}, expected a share above 0 and below 1")
    found = []
    method = "FastCAV"
    for name, shown, absent in zip(
        features.names, features.shown, features.counterparts, strict=True
    ):
        (fit_shown, judge_shown), (fit_absent, judge_absent) = (
            [rows_of[rows] for rows in split_rows(len(rows_of), held_out, seed)]
            for rows_of in (shown.double(), absent.double())
        )
        if classifier is None:
            vector, intercept = fast_direction(fit_shown, fit_absent)
        else:
            made = classifier()
            method = type(made).__name__
            vector = _trained(made, fit_shown, fit_absent, seed)
            intercept = -vector @ (fit_shown.mean(0) + fit_absent.mean(0)) / 2
        if not float(vector.norm()) > 0:
            raise ValueError(
                f"{name!r}: photos that show it and counterparts have the same mean features, so "
                "no direction separates them"
            )
        found.append(
            of_vector(vector, intercept, fit_shown, fit_absent, judge_shown, judge_absent)
            | {"n_photos": torch.tensor(len(shown))}
        )
    columns = {key: torch.stack([one[key] for one in found]) for key in found[0]}
    return ConceptBank(
        names=features.names,
        method=method,
        backbone_fingerprint=features.backbone_fingerprint,
        **columns,
    )


def fast_direction(shown: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
    """FastCAV's vector, not normalised, and its intercept."""
    mean = torch.cat([shown, absent]).mean(0)
    vector = shown.mean(0) - mean
    return vector, -vector @ mean


def of_vector(
    vector: Tensor,
    intercept: Tensor,
    shown: Tensor,
    absent: Tensor,
    judge_shown: Tensor,
    judge_absent: Tensor,
) -> dict[str, Tensor]:
    """A concept's row of the bank: all in units of a vector of length 1."""
    length = vector.norm()
    unit, offset = vector / length, intercept / length
    margins = torch.cat([shown, absent]) @ unit + offset
    above, below = margins[margins > 0], margins[margins < 0]
    is_right = torch.cat([judge_shown @ unit + offset > 0, judge_absent @ unit + offset < 0])
    nothing = margins.new_zeros(())
    return {
        "vectors": unit,
        "intercepts": offset,
        "highest": margins.max(),
        "lowest": margins.min(),
        "mean_shown": above.mean() if len(above) else nothing,
        "mean_absent": below.mean() if len(below) else nothing,
        "accuracy": is_right.double().mean(),
    }


def _trained(classifier: Classifier, shown: Tensor, absent: Tensor, seed: int) -> Tensor:
    """The concept's row of a classifier's weights."""
    inputs = torch.cat([absent, shown]).float()
    labels = torch.cat([torch.full((len(absent),), _ABSENT), torch.full((len(shown),), _SHOWN)])
    own = torch.Generator()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=len(inputs), generator=own)
    with _seeded(seed):
        classifier.train_and_eval(loader)
    weights, classes = torch.as_tensor(classifier.weights()), [int(c) for c in classifier.classes()]
    if tuple(weights.shape) != (2, inputs.shape[1]) or _SHOWN not in classes:
        raise ValueError(
            f"{type(classifier).__name__} gave weights {tuple(weights.shape)} of classes "
            f"{classes}, expected (2, {inputs.shape[1]}) of the classes 0 and 1"
        )
    return weights[classes.index(_SHOWN)].detach().cpu().double()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """All chance from a seed, for scikit-learn too; the caller's goes on as if unused."""
    before, before_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(before_numpy)
