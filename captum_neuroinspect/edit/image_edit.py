"""Edit a decision layer through images, so that each epoch may see other crops of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from captum_neuroinspect._core.exclusive import exclusive, generators_forked
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.modules import device_of
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.edit._arguments import Neurons, Ratio
from captum_neuroinspect.edit._constrained_fit import (
    as_edit,
    checked_problem,
    fit_head,
    warn_of_failure,
)
from captum_neuroinspect.edit.edit_options import EditSettings
from captum_neuroinspect.features import (
    _as_loader,
    _default_batch_size,
    _unpack,
    collect_features,
    find_head,
)

if TYPE_CHECKING:
    from captum_neuroinspect.edit._result import HeadEdit

Augment = Callable[[Tensor], Tensor]


@undisturbed()
def edit_through_images(
    model: nn.Module,
    train_data: DataLoader[Any] | Dataset[Any] | tuple[Tensor, Tensor],
    validation: FeatureSet,
    *,
    head: nn.Linear | None = None,
    target: int | None = None,
    neurons: Neurons,
    ratio: Ratio = 1.0,
    augment: Augment | None = None,
    mistakes: FeatureSet | None = None,
    image_batch_size: int | None = None,
    settings: EditSettings | None = None,
    progress: bool = False,
) -> HeadEdit:
    """Like :func:`edit_head`, with features computed again in each epoch.

    The backbone is frozen and in eval mode, so that BatchNorm's statistics stay, and the
    model is bit-identical afterwards: put the result in with :meth:`HeadEdit.apply_`.

    Args:
        model: a classifier.
        train_data: images with labels, as :func:`collect_features` takes them. A loader
            that draws at random draws anew in each epoch.
        validation: features with labels that choose the epoch, collected from this model.
        head: the decision layer; found by :func:`find_head` when not given.
        target: as in :func:`edit_head`.
        neurons: as in :func:`edit_head`.
        ratio: as in :func:`edit_head`; ``"rule"`` looks at the first epoch's features.
        augment: image ``(3, H, W)`` to image, called on each one by itself, such as a
            transform of torchvision. Its draws from torch's global generator are seeded
            by ``seed`` and the epoch, and leave the generator as it was; other generators
            are its own affair. ``None``: features are computed once.
        mistakes: as in :func:`edit_head`.
        image_batch_size: images a pass through the backbone, for a ``Dataset`` or
            tensors; ``None``: as :func:`collect_features` chooses.
        settings: :class:`~captum_neuroinspect.edit.EditSettings`: all other arguments of
            :func:`edit_head`, such as ``scope``, ``strength`` and ``n_epochs``.
        progress: show a progress bar over epochs.

    Returns:
        A :class:`HeadEdit`, as from :func:`edit_head`.

    Raises:
        TypeError: when ``augment`` cannot be called or gives no tensor, or ``settings`` are
            something else.
        ValueError: as :func:`edit_head` and :func:`collect_features`.

    Warns:
        RuntimeWarning: as :func:`edit_head`.

    Examples::

        >>> from captum_neuroinspect import collect_features
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> images, labels = torch.rand(12, 3, 2, 2), torch.arange(12) % 2
        >>> held = collect_features(model, (images, labels), progress=False)
        >>> edit = edit_through_images(
        ...     model, (images, labels), held, target=0, neurons=[1],
        ...     augment=lambda image: image.flip(-1),
        ...     settings=EditSettings(strength=0.1, lr=1e-5, n_epochs=2),
        ... )
        >>> edit.target
        0
    """
    if augment is not None and not callable(augment):
        raise TypeError(f"augment is {type(augment).__name__}, expected a function of an image")
    if not (settings is None or isinstance(settings, EditSettings)):
        raise TypeError(f"settings is {type(settings).__name__}, expected EditSettings")
    checked = settings or EditSettings()
    if image_batch_size is None:
        image_batch_size = _default_batch_size(model)
    loader = _as_loader(train_data, image_batch_size)
    if head is None:
        head = _head_of(model, loader, checked.seed)

    def features_of(epoch: int) -> FeatureSet:
        with exclusive(model), _seeded(checked.seed + epoch, device_of(model)):
            return collect_features(model, _augmented(loader, augment), head, progress=False)

    first = features_of(1)
    problem = checked_problem(
        head, first, validation, target, neurons, ratio, checked, mistakes=mistakes
    )
    train = first if augment is None else _Epochs(first, features_of)
    fit = fit_head(problem, train, validation, mistakes, progress=progress)
    warn_of_failure(fit, checked)
    return as_edit(head, fit, problem, first, validation, mistakes)


class _Epochs:
    """Features of each epoch; the first are at hand already."""

    def __init__(self, first: FeatureSet, features_of: Callable[[int], FeatureSet]) -> None:
        self._first, self._features_of = first, features_of

    def __call__(self, epoch: int) -> FeatureSet:
        return self._first if epoch == 1 else self._features_of(epoch)


def _head_of(model: nn.Module, loader: DataLoader[Any], seed: int) -> nn.Linear:
    device = device_of(model)
    with _seeded(seed, device):
        batch = next(iter(loader), None)
    if batch is None:
        raise ValueError("train_data is empty: expected at least one (image, label)")
    return find_head(model, _unpack(batch)[0][:1])


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from torch's generators as ``seed`` says, and leave them as they were."""
    with generators_forked([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _augmented(loader: DataLoader[Any], augment: Augment | None) -> DataLoader[Any]:
    """The same loader over images that ``augment`` has changed."""
    if augment is None:
        return loader
    changed = copy.copy(loader)
    kind = _Stream if isinstance(loader.dataset, IterableDataset) else _Items
    # A loader forbids a new data set by assignment; its other settings shall all stay.
    object.__setattr__(changed, "dataset", kind(loader.dataset, augment))
    changed._iterator = None  # persistent workers hold the data set as it was
    return changed


class _Items(Dataset[Any]):
    def __init__(self, data: Any, augment: Augment) -> None:
        self._data, self._augment = data, augment
        self.classes = getattr(data, "classes", None)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        return _with_image(self._data[index], self._augment)


class _Stream(IterableDataset[Any]):
    def __init__(self, data: Any, augment: Augment) -> None:
        self._data, self._augment = data, augment
        self.classes = getattr(data, "classes", None)

    def __iter__(self) -> Iterator[Any]:
        return (_with_image(item, self._augment) for item in self._data)


def _with_image(item: Any, augment: Augment) -> Any:
    if isinstance(item, Mapping):
        return {**item, "pixel_values": _changed(item["pixel_values"], augment)}
    image, *rest = item
    return (_changed(image, augment), *rest)


def _changed(image: Any, augment: Augment) -> Tensor:
    changed = augment(torch.as_tensor(image))
    if not isinstance(changed, Tensor):
        raise TypeError(f"augment gave {type(changed).__name__}, expected a tensor (3, H, W)")
    return changed
