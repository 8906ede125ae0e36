"""Penultimate features, logits and labels, collected once; every stage below reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from tqdm import tqdm

from captum_neuroinspect._feature_set import FeatureSet as FeatureSet
from captum_neuroinspect._head import check_head, find_head
from captum_neuroinspect._modules import captured_input, check_indices, device_of, frozen, logits_of

__all__ = ["FeatureSet", "collect_features", "find_head"]

_Batch = tuple[Tensor, Tensor, Tensor | None]


def collect_features(
    model: nn.Module,
    data: DataLoader[Any] | Dataset[Any] | tuple[Tensor, Tensor],
    head: nn.Linear | None = None,
    *,
    batch_size: int = 32,
    class_names: Iterable[str] | None = None,
    progress: bool = True,
) -> FeatureSet:
    """Run the backbone once over ``data`` and keep what the decision layer sees.

    The model is in eval mode and frozen while it runs, and afterwards is
    bit-identical and free of hooks, also after an exception.

    Args:
        model: a classifier that returns logits ``(N, C)`` or an object with
            ``.logits``; it runs on its own device.
        data: a ``DataLoader``, a ``Dataset`` or a pair ``(images, labels)`` of
            tensors. Items are ``(image, label)``, ``(image, label, group)`` or
            dictionaries with ``"pixel_values"`` and ``"labels"``. A shuffling
            loader is taken as it comes; then ``indices`` count its order.
        head: the decision layer; found by :func:`find_head` when not given.
        batch_size: images a pass, for a ``Dataset`` or tensors.
        class_names: one name a class; taken from ``data.classes`` when present.
        progress: show a progress bar.

    Returns:
        A :class:`FeatureSet` on the CPU.

    Raises:
        TypeError: when ``head`` is not linear or items are not (image, label).
        ValueError: when data is empty, pixels or features are not finite, a label
            is outside ``0..C-1``, or no linear head is found.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))
        >>> images, labels = torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1])
        >>> features = collect_features(model, (images, labels), progress=False)
        >>> features.features.shape, features.logits.shape
        (torch.Size([5, 4]), torch.Size([5, 3]))
    """
    loader = _as_loader(data, batch_size)
    if class_names is None:
        class_names = getattr(getattr(loader, "dataset", None), "classes", None)
    collected = list(_run(model, head, loader, progress))
    if not collected:
        raise ValueError("data is empty: expected at least one (image, label)")
    features, logits, labels, groups = zip(*collected, strict=True)
    return FeatureSet(
        torch.cat(features),
        torch.cat(logits),
        torch.cat(labels),
        groups=None if groups[0] is None else torch.cat(groups),
        class_names=None if class_names is None else tuple(class_names),
    )


def _run(
    model: nn.Module, head: nn.Linear | None, loader: DataLoader[Any], progress: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    if head is not None:
        check_head(head)
    device = device_of(model)
    with frozen(model), torch.no_grad():
        for number, batch in enumerate(tqdm(loader, "features", disable=not progress)):
            images, labels, groups = _unpack(batch)
            _check_finite("images", images, number)
            images = images.to(device)
            head = head or find_head(model, images[:1])
            check_indices("label", labels, head.out_features, f"the head has {head.out_features} classes")
            with captured_input(head) as captured:
                logits = logits_of(model(images)).float().cpu()
                features = captured.value.detach().float().cpu()
            _check_features(features, len(images), number)
            yield features, logits, labels, groups


def _as_loader(data: Any, batch_size: int) -> DataLoader[Any]:
    if isinstance(data, DataLoader):
        return data
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}, expected at least 1")
    if isinstance(data, (tuple, list)) and all(isinstance(t, Tensor) for t in data):
        data = _pair_of_tensors(data)
    if not hasattr(data, "__getitem__") and not hasattr(data, "__iter__"):
        raise TypeError(
            f"data is {type(data).__name__}, expected a DataLoader, a Dataset or (images, labels)"
        )
    if hasattr(data, "__len__") and len(data) == 0:
        raise ValueError("data is empty: expected at least one (image, label)")
    return DataLoader(data, batch_size=batch_size)


def _pair_of_tensors(data: Any) -> TensorDataset:
    if len(data) not in (2, 3):
        raise TypeError(f"data has {len(data)} tensors, expected (images, labels)")
    if len({len(t) for t in data}) != 1:
        raise ValueError(
            f"data has tensors of lengths {[len(t) for t in data]}, expected one label an image"
        )
    return TensorDataset(*data)


def _unpack(batch: Any) -> _Batch:
    if isinstance(batch, dict):
        batch = (batch.get("pixel_values"), batch.get("labels"))
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3) or batch[1] is None:
        raise TypeError(
            f"a batch is {type(batch).__name__}, expected (images, labels), "
            "(images, labels, groups) or a dictionary with 'pixel_values' and 'labels'"
        )
    images = batch[0]
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images are {type(images).__name__}, expected a tensor: give the Dataset a transform "
            "such as torchvision.transforms.v2.ToImage() and ToDtype(torch.float32, scale=True)"
        )
    groups = torch.as_tensor(batch[2]).long() if len(batch) == 3 else None
    return images, _integer_labels(torch.as_tensor(batch[1])), groups


def _integer_labels(labels: Tensor) -> Tensor:
    if labels.is_floating_point() or labels.ndim != 1:
        raise ValueError(
            f"labels have dtype {labels.dtype} and shape {tuple(labels.shape)}, "
            "expected class indices (N,)"
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
