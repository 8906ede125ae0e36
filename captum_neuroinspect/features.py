"""Penultimate features, logits and labels, collected once; every stage below reads them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate
from tqdm import tqdm

from captum_neuroinspect._core.class_names import ClassMatch, as_names, names_of, shortened
from captum_neuroinspect._core.decisions import checked_labels
from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.feature_set import FeatureSet as FeatureSet
from captum_neuroinspect._core.fingerprint import head_fingerprint, weights_fingerprint
from captum_neuroinspect._core.head import check_head, check_initialised, find_head
from captum_neuroinspect._core.head_watch import watched
from captum_neuroinspect._core.items import as_group, as_label
from captum_neuroinspect._core.modules import as_input, check_indices, device_of, frozen
from captum_neuroinspect._core.undisturbed import undisturbed

__all__ = ["FeatureSet", "collect_features", "find_head"]

_Batch = tuple[Tensor, Tensor, Tensor | None]


@undisturbed(keep_autocast=True)
def collect_features(
    model: nn.Module,
    data: DataLoader[Any] | Dataset[Any] | tuple[Tensor, Tensor],
    head: nn.Linear | None = None,
    *,
    batch_size: int | None = None,
    class_names: Iterable[str] | None = None,
    by_position: bool = False,
    progress: bool = True,
) -> FeatureSet:
    """Run the backbone once over ``data`` and keep the inputs of the decision layer.

    The model is in eval mode and frozen while it runs, and afterwards is
    bit-identical and free of hooks, also after an exception.

    Args:
        model: a classifier that returns logits ``(N, C)`` or an object with
            ``.logits``; it runs on its own device and in its own dtype.
        data: a ``DataLoader``, a ``Dataset`` or a pair ``(images, labels)`` of
            tensors. Items are ``(image, label)``, ``(image, label, group)`` or
            mappings with ``"pixel_values"`` and ``"labels"``. A shuffling
            loader is taken as it comes; then ``indices`` count its order. A label is
            a class index, a row of C zeros and ones, or, for a head with one output,
            0 or 1. Rows with exactly one 1 each are taken as class indices.
        head: the decision layer; found by :func:`find_head` when not given. Of a model
            that returns several outputs, its own are the logits.
        batch_size: images a pass, for a ``Dataset`` or tensors. ``None``: 8 on a CPU,
            where larger batches are slower (page faults, measured), else 64.
        class_names: one name for each output of the head. When ``data`` has names of its
            own (``classes``, also behind ``Subset`` and loaders), they are found among
            these and the labels brought to their order. ``None``: those of ``data``.
        by_position: take the names of ``data`` in their order as ``class_names``, whatever
            they are called.
        progress: show a progress bar.

    Returns:
        A :class:`FeatureSet` on the CPU, in float32, in which ``head(features)`` equals
        ``logits``, also where a softmax follows the head.

    Raises:
        TypeError: when ``head`` is not linear or items are not (image, label).
        ValueError: when data is empty, pixels or features are not finite, a label
            is outside ``0..C-1``, ``class_names`` are not C or do not fit those of
            ``data``, no linear head is found, or the one that is given does not compute
            an output of the model.

    Warns:
        UserWarning: when labels are one-hot.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))
        >>> images, labels = torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1])
        >>> features = collect_features(model, (images, labels), progress=False)
        >>> features.features.shape, features.logits.shape
        (torch.Size([5, 4]), torch.Size([5, 3]))
    """
    collected = collect_as_given(
        model,
        data,
        head,
        batch_size=batch_size,
        class_names=class_names,
        by_position=by_position,
        progress=progress,
    )
    return without_one_hot(collected)


def collect_as_given(
    model: nn.Module,
    data: Any,
    head: nn.Linear | None = None,
    *,
    batch_size: int | None = None,
    class_names: Iterable[str] | None = None,
    by_position: bool = False,
    progress: bool = True,
) -> FeatureSet:
    """:func:`collect_features` with one-hot labels as rows: some of the data may look so."""
    if batch_size is None:
        batch_size = _default_batch_size(model)
    loader = _as_loader(data, batch_size)
    names = None if class_names is None else as_names(class_names)
    match = names_of(loader).onto(names, by_position=by_position)
    with exclusive(model):  # the numbers and what names them are of the same weights
        collected = list(_run(model, head, loader, match, progress))
        if not collected:
            raise ValueError("data is empty: expected at least one (image, label)")
        features, logits, labels, groups, heads = zip(*collected, strict=True)
        of_head = head_fingerprint(heads[0])
        of_backbone = weights_fingerprint(model, heads[0])
    return FeatureSet(
        torch.cat(features),
        torch.cat(logits),
        torch.cat(labels),
        groups=None if groups[0] is None else torch.cat(groups),
        class_names=match.names,
        head_fingerprint=of_head,
        backbone_fingerprint=of_backbone,
    )


def without_one_hot(features: FeatureSet) -> FeatureSet:
    """Labels with exactly one 1 in each row as class indices.

    Read as multi-hot, each logit would be judged by its sign, which a softmax leaves open.

    Warns:
        UserWarning: when the labels are of that kind.
    """
    if not features.is_multi_hot or not bool((features.labels.sum(1) == 1).all()):
        return features
    warnings.warn(
        f"the labels {tuple(features.labels.shape)} have exactly one 1 in each row (one-hot): "
        "they are taken as class indices, for a head whose largest output decides",
        stacklevel=4,
    )
    return replace(features, labels=features.labels.argmax(1))


def _run(
    model: nn.Module,
    head: nn.Linear | None,
    loader: DataLoader[Any],
    match: ClassMatch,
    progress: bool,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None, nn.Linear]]:
    if isinstance(model, nn.DataParallel):
        model = model.module  # parts of a batch on several devices would be read as one
    check_initialised(model)
    if head is not None:
        check_head(head)
    n_before = 0
    with frozen(model), torch.no_grad():
        for number, batch in enumerate(tqdm(loader, "features", disable=not progress)):
            images, labels, groups = _unpack(batch, n_before)
            n_before += len(labels)
            _check_finite("images", images, number)
            images = as_input(model, images)
            head = head or find_head(model, images[:1])
            labels = match.rows(labels)
            _check_classes(labels, match.names, head.out_features)
            with watched(model, head) as watch:
                output = model(images)
                features = watch.features
                _check_features(features, len(images), number)
                logits = watch.logits(output)
            yield features.float().cpu(), logits.float().cpu(), labels, groups, head


def _default_batch_size(model: nn.Module) -> int:
    return 8 if device_of(model).type == "cpu" else 64


def _as_loader(data: Any, batch_size: int) -> DataLoader[Any]:
    if isinstance(data, DataLoader):
        return data
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}, expected at least 1")
    if isinstance(data, (tuple, list)) and data and isinstance(data[0], Tensor):
        data = _pair_of_tensors(data)
    if not hasattr(data, "__getitem__") and not hasattr(data, "__iter__"):
        raise TypeError(
            f"data is {type(data).__name__}, expected a DataLoader, a Dataset or (images, labels)"
        )
    if hasattr(data, "__len__") and len(data) == 0:
        raise ValueError("data is empty: expected at least one (image, label)")
    # With a generator of its own, for a loader draws a number from the caller's otherwise.
    own = torch.Generator()
    return DataLoader(data, batch_size=batch_size, collate_fn=_Collate(), generator=own)


class _Collate:
    """Joins items, and says what is wrong with one: torch's messages know nothing of images."""

    def __init__(self) -> None:
        self._n_seen = 0

    def __call__(self, items: list[Any]) -> Any:
        first = items[0].get("pixel_values") if isinstance(items[0], Mapping) else items[0]
        _check_image(first[0] if isinstance(first, (tuple, list)) and first else first)
        for number, item in enumerate(items, self._n_seen):
            _check_item(number, item)
        self._n_seen += len(items)
        return default_collate(items)


def _check_item(number: int, item: Any) -> None:
    if isinstance(item, Mapping):
        item = (None, item["labels"]) if "labels" in item else ()
    if isinstance(item, (tuple, list)) and len(item) in (2, 3):
        with _naming(number):
            as_label(item[1])
            if len(item) == 3:
                as_group(item[2])


@contextmanager
def _naming(number: int) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"item {number}: {error}") from None


def _pair_of_tensors(data: Any) -> TensorDataset:
    if len(data) not in (2, 3):
        raise TypeError(f"data has {len(data)} tensors, expected (images, labels)")
    data = [torch.as_tensor(t) for t in data]
    if len({len(t) for t in data}) != 1:
        raise ValueError(
            f"data has tensors of lengths {[len(t) for t in data]}, expected one label an image"
        )
    return TensorDataset(*data)


def _unpack(batch: Any, n_before: int = 0) -> _Batch:
    if isinstance(batch, Mapping):
        batch = (batch.get("pixel_values"), batch.get("labels"))
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3) or batch[1] is None:
        raise TypeError(
            f"a batch is {type(batch).__name__}, expected (images, labels), "
            "(images, labels, groups) or a mapping with 'pixel_values' and 'labels'"
        )
    _check_image(batch[0])
    # A user's own loader has not looked at its items.
    labels = _checked_rows(batch[1], as_label, n_before)
    groups = None
    if len(batch) == 3:
        groups = _checked_rows(batch[2], as_group, n_before).long().reshape(-1)
    return torch.as_tensor(batch[0]), _integer_labels(labels), groups


def _checked_rows(rows: Any, check: Callable[[Any], Any], n_before: int) -> Tensor:
    if isinstance(rows, (Tensor, np.ndarray)) and rows.ndim == 1 and len(rows):
        rows = torch.as_tensor(rows)
        if rows.is_floating_point():
            return rows  # refused with their shape and type
        smallest = int(rows.argmin())
        with _naming(n_before + smallest):
            check(rows[smallest])
        return rows
    for number, row in enumerate(rows, n_before):
        with _naming(number):
            check(row)
    return torch.as_tensor(rows)


def _check_image(image: Any) -> None:
    if not isinstance(image, (Tensor, np.ndarray)):
        raise TypeError(
            f"an image is {type(image).__name__}, expected a tensor: give the Dataset a transform "
            "such as torchvision.transforms.v2.ToImage() and ToDtype(torch.float32, scale=True)"
        )


def _check_classes(labels: Tensor, class_names: tuple[str, ...] | None, n_outputs: int) -> None:
    n_classes = max(n_outputs, 2)  # a single output decides between two classes
    if labels.ndim == 1:
        check_indices("label", labels, n_classes, f"the head has {n_classes} classes")
    elif labels.shape[1] != n_outputs:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, expected class indices (N,) or multi-hot "
            f"labels (N, {n_outputs})"
        )
    if class_names is not None and len(class_names) != n_classes:
        raise ValueError(
            f"{len(class_names)} class_names ({shortened(class_names)}) for a head with "
            f"{n_classes} classes: give class_names= one for each of its outputs"
        )


def _integer_labels(labels: Tensor) -> Tensor:
    if labels.ndim == 2 and labels.shape[1] == 1 and not labels.is_floating_point():
        labels = labels[:, 0]  # class indices in a column, as MedMNIST has them
    if labels.ndim == 2:
        return checked_labels(labels)
    if labels.is_floating_point() or labels.ndim != 1:
        raise ValueError(
            f"labels have dtype {labels.dtype} and shape {tuple(labels.shape)}, "
            "expected class indices (N,) or multi-hot labels (N, C)"
        )
    return labels.long()


def _check_finite(name: str, values: Tensor, batch: int) -> None:
    if values.is_floating_point() and not values.isfinite().all():
        bad = (~values.flatten(1).isfinite()).any(1).nonzero()[0].item()
        raise ValueError(f"{name}: sample {bad} of batch {batch} has NaN or infinite values")


def _check_features(features: Tensor, n_images: int, batch: int) -> None:
    if features.ndim != 2 or len(features) != n_images:
        raise ValueError(
            f"the head's input has shape {tuple(features.shape)} for {n_images} images, "
            "expected one row of features an image (N, F)"
        )
    _check_finite("features", features, batch)
