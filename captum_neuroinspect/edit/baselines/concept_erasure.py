"""LEACE: take a concept out of features in closed form, and fit the head on what is left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.checks import check_between
from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect.edit._mend_fit import Weighted, anchored_fit
from captum_neuroinspect.edit.baselines.baseline import CheckedBaseline, Task, layer_like
from captum_neuroinspect.edit.baselines.reweighting import class_weights


def leace(features: Tensor, concepts: Tensor, shrinkage: float = 0.0) -> Tensor:
    r"""The projection that hides concepts from every linear reader and changes features least.

    Belrose et al., *LEACE: Perfect linear concept erasure in closed form*, NeurIPS 2023,
    arXiv 2306.03819, theorem 4.3:

    .. math:: P = I - W^+ (W \Sigma_{xz}) (W \Sigma_{xz})^+ W, \quad W = (\Sigma_{xx}^{1/2})^+

    with :math:`\Sigma_{xx}` the covariance of the features and :math:`\Sigma_{xz}` that of features
    and concepts. :math:`x \mapsto \mu + P (x - \mu)` leaves no covariance with the concepts.

    With fewer samples than features the whitening W makes chance differences large. Shrinking moves
    the covariance towards equal variances, as Ledoit and Wolf do; no covariance with the concepts
    is left all the same.

    Args:
        features: ``(N, F)``.
        concepts: ``(N,)`` or ``(N, K)`` numbers, such as 0 and 1.
        shrinkage: share of ``I`` times the mean variance in the covariance, 0..1.

    Returns:
        ``(F, F)`` P, float64.

    Raises:
        ValueError: for a shrinkage outside 0..1, other numbers of features and of concepts, none
            of them, or values that are not finite.

    Examples::

        >>> x = torch.tensor([[1.0, 5.0], [1.0, 7.0], [0.0, 5.0], [0.0, 7.0]])
        >>> leace(x, x[:, 0]).abs().round(decimals=6)
        tensor([[0., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    check_between("shrinkage", shrinkage, 0, 1)
    if len(features) != len(concepts) or not len(features):
        raise ValueError(
            f"features of {len(features)} samples and concepts of {len(concepts)}, expected the "
            "same samples, at least one"
        )
    if not (features.isfinite().all() and concepts.isfinite().all()):
        raise ValueError("features or concepts have NaN or infinite values")
    x, z = (t.double().reshape(len(t), -1) for t in (features, concepts))
    x, z = x - x.mean(0), z - z.mean(0)
    of_features, shared = x.T @ x / len(x), x.T @ z / len(x)
    identity = torch.eye(x.shape[1], dtype=torch.float64)
    middle = of_features.diagonal().mean()
    of_features = (1 - shrinkage) * of_features + shrinkage * middle * identity
    values, vectors = torch.linalg.eigh(of_features)
    # As for numpy.linalg.matrix_rank: what rounding leaves of a variance of 0 is none.
    kept = values > values.max() * len(values) * torch.finfo(torch.float64).eps
    values, vectors = values[kept], vectors[:, kept]
    whitening = vectors * values.rsqrt() @ vectors.T
    colouring = vectors * values.sqrt() @ vectors.T  # the pseudoinverse of the whitening
    found = whitening @ shared
    return identity - colouring @ found @ torch.linalg.pinv(found) @ whitening


@dataclass(frozen=True)
class ConceptErasure(CheckedBaseline):
    """Take what the head goes by out of the features with LEACE, and fit the head on the rest.

    Groups are inferred from the head: whether it takes a sample for the target. Within a class,
    those that it does are supposed to have the cue. The concept is that, less its share in the
    sample's class, and features count from their class's mean, so that what tells the classes
    apart stays: :func:`leace` on the training samples and the mistakes. Then the head is fitted on
    the training features that are left, as :func:`remove_cue` fits it.

    Attributes:
        shrinkage: as in :func:`leace`.
        anchor: how hard the head is held near the original without the concept, above 0.

    Raises:
        ValueError: for a shrinkage outside 0..1, or an anchor of 0 or below; when called, also when
            within no class the head takes some samples for the target and others not.

    Examples::

        >>> ConceptErasure().name
        'LEACE on inferred groups (shrinkage 0.9)'
    """

    shrinkage: float = 0.9
    anchor: float = 1.0

    def __post_init__(self) -> None:
        check_between("shrinkage", self.shrinkage, 0, 1)
        if not self.anchor > 0:
            raise ValueError(f"anchor={self.anchor}, expected a positive number")

    @property
    def name(self) -> str:
        return f"LEACE on inferred groups (shrinkage {self.shrinkage:g})"

    def _refitted(self, task: Task) -> nn.Linear:
        data, has_bias = task.data, task.head.bias is not None
        taken = data.with_head(task.head).logits.argmax(1) == task.target
        values = torch.cat([data.features.double(), taken.double()[:, None]], 1)
        centred = values - _class_means(values, data.labels, data.n_classes)[data.labels]
        if centred[:, -1].abs().max() < 1e-9:  # rounding of a share
            raise ValueError(
                f"the head takes all samples or none of each class for target={task.target}: "
                "no groups to infer; give mistakes"
            )
        projection = leace(centred[:, :-1], centred[:, -1], self.shrinkage)
        z = task.train.features.double()
        # A head without bias can only be read through a linear map.
        mean = z.mean(0) * has_bias
        erased = (mean + (z - mean) @ projection.T).float()
        weight, bias = (t.double() for t in head_tensors(task.head))
        start = weight @ projection, bias + weight @ (mean - projection @ mean)
        weights = class_weights(task.train.labels, task.train.n_classes)[task.train.labels]
        samples = Weighted(erased, task.train.labels, weights)
        new_weight, new_bias = anchored_fit(
            samples, start[0].float(), start[1].float(), anchor=self.anchor, has_bias=has_bias
        )
        weight, bias = new_weight.double(), new_bias.double()
        return layer_like(
            task.head, weight @ projection, bias + weight @ (mean - projection @ mean)
        )


def _class_means(values: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    sums = torch.zeros(n_classes, values.shape[1], dtype=values.dtype)
    counts = labels.bincount(minlength=n_classes).clamp_min(1)
    return sums.index_add_(0, labels, values) / counts[:, None]
