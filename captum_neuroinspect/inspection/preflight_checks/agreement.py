"""What predictions and labels say about each other: guessing, one answer for all, other names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet

_MAX_CLASSES = 1500  # that occur; the assignment of more takes long
_LEVEL = 0.01  # of the test that photos gain by other names
_FEWEST_RIGHT = 0.4  # of the photos of renamed classes, after renaming
_LEAST_GAIN = 1 / 3  # of the photos of renamed classes


@dataclass(frozen=True)
class Guessing:
    """An accuracy beside that of answers which do not look at the photo.

    Attributes:
        n_right: photos that are recognised.
        n_photos: of so many.
        low: lower end of the 95 % interval of the accuracy (Clopper-Pearson), 0..1.
        high: upper end.
        guess: accuracy of guessing among the classes of the model, 1/C.
        commonest: the class that most photos have.
        commonest_share: accuracy of always saying it.
        by_chance: accuracy of the same answers, each given to some other photo.
    """

    n_right: int
    n_photos: int
    low: float
    high: float
    guess: float
    commonest: int
    commonest_share: float
    by_chance: float

    @property
    def accuracy(self) -> float:
        return self.n_right / self.n_photos

    @property
    def is_near(self) -> bool:
        """Whether the interval does not lie above guessing."""
        return self.low <= self.guess

    @property
    def is_like_commonest(self) -> bool:
        """Whether the interval does not lie above always saying the commonest class."""
        return self.commonest_share < 1 and self.low <= self.commonest_share

    @property
    def is_blind(self) -> bool:
        """Whether nothing says that the answers have to do with the photos."""
        return self.is_near or (self.is_like_commonest and self.low <= self.by_chance)


@dataclass(frozen=True)
class Collapse:
    """Most photos get the same answer.

    Attributes:
        predicted: the class that is said.
        share: of all photos that get it, 0..1.
        label_share: of all photos that are of it.
    """

    predicted: int
    share: float
    label_share: float


@dataclass(frozen=True)
class Renaming:
    """Other names of the classes, under which many more photos are recognised.

    Attributes:
        names: the label of each renamed class, and the prediction that fits it.
        accuracy: of all photos as they are named, 0..1.
        renamed_accuracy: with the other names.
    """

    names: tuple[tuple[int, int], ...]
    accuracy: float
    renamed_accuracy: float


def guessing(features: FeatureSet) -> Guessing:
    """Compare the accuracy with guessing.

    Examples::

        >>> logits = torch.eye(4).repeat(10, 1)
        >>> found = guessing(FeatureSet(logits, logits, torch.arange(40) % 4))
        >>> found.guess, found.is_near
        (0.25, False)
    """
    n_photos, n_right = len(features), int(features.is_correct.sum())
    labels = features.labels.bincount(minlength=features.n_classes)
    predicted = features.predictions.bincount(minlength=features.n_classes)
    low, high = interval(n_right, n_photos)
    return Guessing(
        n_right,
        n_photos,
        low,
        high,
        guess=1 / features.n_classes,
        commonest=int(labels.argmax()),
        commonest_share=int(labels.max()) / n_photos,
        by_chance=float((labels.double() * predicted).sum()) / n_photos**2,
    )


def interval(n_right: int, n_photos: int) -> tuple[float, float]:
    """The exact 95 % interval of a share."""
    from scipy.stats import binomtest  # an import of a second, for those who ask

    found = binomtest(n_right, n_photos).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def collapse(features: FeatureSet) -> Collapse | None:
    """The class that most photos of other classes are taken for, if there is one."""
    counts = features.predictions.bincount(minlength=features.n_classes)
    most = int(counts.argmax())
    others = features.labels != most
    n_others = int(others.sum())
    if not n_others:
        return None
    n_taken = int((features.predictions[others] == most).sum())
    if interval(n_taken, n_others)[0] <= 0.5:
        return None
    n_photos = len(features)
    return Collapse(most, int(counts[most]) / n_photos, 1 - n_others / n_photos)


def renaming(features: FeatureSet) -> Renaming | None:
    """Other names of the classes that fit far better, if there are such.

    The names are the best assignment in the table of confusions. As any table can be made
    to look better, they are found on one half of each class and judged on the other.

    Examples::

        >>> logits = 9 * torch.eye(3).repeat(8, 1)
        >>> turned = FeatureSet(logits, logits, (torch.arange(24) + 1) % 3)
        >>> renaming(turned).names
        ((0, 2), (1, 0), (2, 1))
    """
    from scipy.stats import binomtest

    labels, predicted = features.labels, features.predictions
    if len(torch.cat([labels, predicted]).unique()) > _MAX_CLASSES:
        return None
    half = _half(labels)
    renamed = torch.empty_like(labels)
    for judged in (half, ~half):
        names = _best_names(labels[~judged], predicted[~judged], features.n_classes)
        renamed[judged] = names[labels[judged]]
    was, now = predicted == labels, predicted == renamed
    moved = renamed != labels
    n_moved = int(moved.sum())
    if not n_moved:
        return None
    gained, lost = int((now & ~was).sum()), int((was & ~now).sum())
    after, gain = float(now[moved].double().mean()), (gained - lost) / n_moved
    if after < _FEWEST_RIGHT or gain < _LEAST_GAIN:
        return None
    if binomtest(gained, gained + lost).pvalue > _LEVEL:
        return None
    best = _best_names(labels, predicted, features.n_classes)
    pairs = [(label, int(best[label])) for label in labels.unique().tolist()]
    return Renaming(
        tuple((label, name) for label, name in pairs if label != name),
        float(was.double().mean()),
        float((predicted == best[labels]).double().mean()),
    )


def _half(labels: Tensor) -> Tensor:
    """``(N,)`` whether a sample is in the first half: every second one of each class."""
    half = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        half[rows[::2]] = True
    return half


def _best_names(labels: Tensor, predicted: Tensor, n_classes: int) -> Tensor:
    """``(C,)`` the prediction that is assigned to each label; its own where nothing is gained."""
    from scipy.optimize import linear_sum_assignment

    names = torch.arange(n_classes)
    if not len(labels):
        return names
    present, rows = labels.unique(return_inverse=True)
    occurring = torch.cat([labels, predicted]).unique()
    columns = torch.searchsorted(occurring, predicted)
    table = torch.zeros(len(present), len(occurring), dtype=torch.int64)
    table.index_put_((rows, columns), torch.ones_like(rows), accumulate=True)
    # Of equally good names the own one: a table of zeros renames nothing.
    worth = table * (len(present) + 1) + (present[:, None] == occurring)
    chosen_rows, chosen = linear_sum_assignment(worth.numpy(), maximize=True)
    names[present[chosen_rows]] = occurring[chosen]
    return names
