"""One number for each unit of any layer and each photo."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from tqdm import tqdm

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.input_fit import told_what_fits
from captum_neuroinspect._core.modules import (
    as_indices,
    as_input,
    as_layer,
    check_indices,
    device_of,
    first_tensor,
    frozen,
    module_name,
)
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.optvis.units.activation import Token, n_units
from captum_neuroinspect.optvis.units.reader import Preprocess, UnitReader

__all__ = ["collect_activations"]

Reduction = Literal["mean", "max"]
_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


@undisturbed(keep_autocast=True)
def collect_activations(
    model: nn.Module,
    data: DataLoader[Any] | Iterable[Any] | Tensor,
    layer: nn.Module | str,
    *,
    units: Sequence[int] | Tensor | None = None,
    reduce: Reduction = "mean",
    token: Token = "mean",
    preprocess: Preprocess | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> Tensor:
    """Run photos through a model once and keep what the units of a layer make of them.

    The outputs of the layer are the units: channels of maps, dimensions of tokens, features. They
    are read as for illusions: unit 7 here is unit 7 of ``render_illusions(..., layer=layer)``, and
    with ``reduce="mean"`` its number is what an illusion makes large. For the inputs of the
    decision layer there is :func:`~captum_neuroinspect.collect_features`.

    Photos are read a batch at a time. Beside the result no more than a batch is held; of data that
    do not know their length, the parts of the result.

    Args:
        model: it runs on its own device and in its own dtype, in eval mode, and afterwards is
            bit-identical and free of hooks, also after an exception.
        data: photos ``(N, C, H, W)``, or anything that gives them one by one, ``(C, H, W)`` each,
            alone or first in ``(photo, label, ...)``, or as ``"pixel_values"``: a list, a
            generator, a ``Dataset``; or a ``DataLoader``; or a pair ``(photos, labels)``. As the
            model takes them, unless ``preprocess`` is given.
        layer: a module of the model, or its dotted name.
        units: which of the layer's units; ``None``: all.
        reduce: what stands for a unit with positions: the ``"mean"`` over them or the ``"max"``.
        token: for a layer of tokens ``(N, T, D)``: ``"mean"``, all of them, reduced by ``reduce``;
            ``"cls"``, the first, or a token's number.
        preprocess: applied to each batch before the model.
        batch_size: photos a pass; ``None``: 8 on a CPU, else 64. A ``DataLoader`` has its own.
        progress: show a bar.

    Returns:
        ``(N, K)`` float32 on the CPU, in the order of ``data`` and of ``units``.

    Raises:
        TypeError: for photos that are no tensors, a layer that is no module or name, or whose
            output is no tensor of floating point.
        ValueError: for no photos, photos of another size than the model takes or not finite, a
            layer that is not in the model, runs several times in a pass, has no row for each
            photo or another number of dimensions, a unit out of range, a token that is not there,
            or an unknown ``reduce``.
        RuntimeError: when the model does not run the layer.

    Warns:
        UserWarning: when a ``DataLoader`` shuffles: its order is then that of the rows.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> photos = torch.rand(5, 3, 8, 8)
        >>> collect_activations(model, photos, "1").shape
        torch.Size([5, 4])
        >>> peaks = collect_activations(model, photos, "1", units=[2], reduce="max")
        >>> torch.equal(peaks[:, 0], model[:2](photos)[:, 2].amax((1, 2)).detach())
        True
    """
    if reduce not in get_args(Reduction):
        raise ValueError(f"reduce={reduce!r}, expected one of {get_args(Reduction)}")
    if isinstance(model, nn.DataParallel):
        model = model.module  # parts of a batch on several devices would be read as one
    module = as_layer(model, layer)
    if batch_size is None:
        batch_size = 8 if device_of(model).type == "cpu" else 64
    check_whole("batch_size", batch_size)
    check_at_least("batch_size", batch_size, 1)
    chosen = None if units is None else as_indices("units", units)
    if chosen is not None and not len(chosen):
        raise ValueError("units is empty, expected at least one")
    _check_order(data)
    collected = _Collected(_length(data))
    reader: _Reader | None = None
    with frozen(model), tqdm(desc="activations", total=collected.n, disable=not progress) as bar:
        for images in _batches(data, batch_size):
            _check_pixels(images, _span(bar, images))
            images = images.to(device_of(model))
            if reader is None:
                reader = _Reader(model, module, images, reduce, token, preprocess, chosen)
            values = reader(images)
            if not bool(values.isfinite().all()):
                raise ValueError(
                    f"{reader.place} is NaN or infinite for a photo of {_span(bar, images)}"
                )
            collected.add(values)
            bar.update(len(images))
    return collected.whole()


def _check_order(data: Any) -> None:
    """Rows are told apart by their place alone."""
    if isinstance(data, DataLoader) and isinstance(data.sampler, _SHUFFLING):
        warnings.warn(
            "data is a DataLoader that shuffles: rows come in its order, which may not be that of "
            "other results. Expected shuffle=False",
            stacklevel=4,
        )
    if _is_pair(data) and len({len(part) for part in data}) > 1:
        raise ValueError(
            f"data has {len(data[0])} photos and {len(data[1])} labels, expected one a photo"
        )


def _check_pixels(images: Tensor, which: str) -> None:
    if not images.is_floating_point():
        raise TypeError(
            f"data: photos {which} are {images.dtype}, expected floating point, "
            "such as photos / 255"
        )
    if not bool(images.isfinite().all()):
        raise ValueError(f"data: photos {which} have NaN or infinite values")


class _Reader:
    """Units of a layer, one number a photo."""

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
        images: Tensor,
        reduce: Reduction,
        token: Token,
        preprocess: Preprocess | None,
        chosen: Tensor | None,
    ) -> None:
        self._model, self._reduce, self._chosen = model, reduce, chosen
        self.place = f"the output of {module_name(model, layer) or 'the model'}"
        # Two, so that an output which is the same for any number of photos is found out.
        example = images[[0, -1]]
        prepared = example if preprocess is None else preprocess(example)
        with _told(model, images):
            calls = _calls(model, layer, prepared)
        self._check_calls(layer, calls)
        self._read = UnitReader(model, layer, None, preprocess, example, token=token)
        n = n_units(self._read_units(example))
        if chosen is not None:
            check_indices("unit", chosen, n, f"{self.place} has {n} units")

    def __call__(self, images: Tensor) -> Tensor:
        """``(n, K)`` float32 on the CPU."""
        values = self._read_units(images)
        if values.ndim == 3:
            values = values.transpose(1, 2)
        if values.ndim > 2:
            flat = values.flatten(2)
            values = flat.mean(2) if self._reduce == "mean" else flat.amax(2)
        chosen = self._chosen
        return (values if chosen is None else values[:, chosen.to(values.device)]).float().cpu()

    def _read_units(self, images: Tensor) -> Tensor:
        with torch.no_grad(), _told(self._model, images):
            units = self._read(images).units
        n_units(units)
        if len(units) != len(images):
            raise ValueError(
                f"{self.place} has shape {tuple(units.shape)} for {len(images)} photos, expected "
                "a row for each: choose a layer that depends on the photo"
            )
        return units

    def _check_calls(self, layer: nn.Module, outputs: list[Any]) -> None:
        kind = type(layer).__name__
        if not outputs:
            raise RuntimeError(
                f"the model does not run the layer {kind} ({self.place}): choose one that these "
                "photos pass through"
            )
        if len(outputs) > 1:
            raise ValueError(
                f"the layer {kind} runs {len(outputs)} times in one pass ({self.place}): choose "
                "one that runs once, so that its units are one set"
            )
        tensor = first_tensor(outputs[0])
        if tensor is None or not tensor.is_floating_point():
            what = type(outputs[0]).__name__ if tensor is None else f"a tensor of {tensor.dtype}"
            raise TypeError(f"{self.place} is {what}, expected a tensor of floating point")


def _calls(model: nn.Module, layer: nn.Module, prepared: Tensor) -> list[Any]:
    """What the layer gave each time that it ran in one pass."""
    outputs: list[Any] = []
    handle = layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        with torch.no_grad():
            model(as_input(model, prepared))
    finally:
        handle.remove()
    return outputs


def _told(model: nn.Module, images: Tensor) -> AbstractContextManager[None]:
    return told_what_fits(model, images.shape[1], (images.shape[-2], images.shape[-1]))


class _Collected:
    """Rows that arrive in parts; where their number is known, nothing is held twice."""

    def __init__(self, n: int | None) -> None:
        self.n, self._n_done = n, 0
        self._parts: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        end = self._n_done + len(values)
        if self.n is not None and end <= self.n:
            if not self._parts:
                self._parts = [torch.empty(self.n, values.shape[1])]
            self._parts[0][self._n_done : end] = values
        else:  # the length that was told was wrong, or none was
            if self.n is not None and self._parts:
                self._parts = [self._parts[0][: self._n_done]]
            self.n = None
            self._parts.append(values)
        self._n_done = end

    def whole(self) -> Tensor:
        if not self._n_done:
            raise ValueError("data is empty: expected at least one photo")
        return self._parts[0][: self._n_done] if self.n is not None else torch.cat(self._parts)


def _length(data: Any) -> int | None:
    """How many photos, where that is known beforehand."""
    if isinstance(data, DataLoader):
        data = data.dataset if data.drop_last is False else None
    elif _is_pair(data):
        data = data[0]
    try:
        return len(data)
    except TypeError:
        return None


def _is_pair(data: Any) -> bool:
    """Whether data are photos and labels as two tensors; two batches of photos are none."""
    return (
        isinstance(data, (tuple, list))
        and len(data) in (2, 3)
        and all(isinstance(part, Tensor) for part in data)
        and data[0].ndim == 4
        and all(part.ndim in (1, 2) for part in data[1:])
    )


def _batches(data: Any, batch_size: int) -> Iterator[Tensor]:
    """Photos ``(n, C, H, W)`` of one size."""
    if isinstance(data, DataLoader):
        for number, batch in enumerate(data):
            yield _checked(f"batch {number}", _image_of(batch), 4)
        return
    if _is_pair(data):
        data = data[0]
    if isinstance(data, Tensor):
        if len(_checked("data", data, 4)):
            yield from data.split(batch_size)
        return
    waiting = enumerate(_items(data))
    while items := list(islice(waiting, batch_size)):
        images = [_checked(f"item {number}", _image_of(item), 3) for number, item in items]
        start = 0
        for end in range(1, len(images) + 1):
            if end == len(images) or images[end].shape != images[start].shape:
                yield torch.stack(images[start:end])
                start = end


def _items(data: Any) -> Iterator[Any]:
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not hasattr(data, "__iter__"):
        return (data[number] for number in range(len(data)))
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise TypeError(
            f"data is {type(data).__name__}, expected photos as a tensor, a Dataset, a DataLoader "
            "or something to iterate over"
        )
    return iter(data)


def _image_of(item: Any) -> Any:
    if isinstance(item, Mapping):
        return item.get("pixel_values")
    return item[0] if isinstance(item, (tuple, list)) and item else item


def _checked(name: str, image: Any, n_dims: int) -> Tensor:
    shape = "(C, H, W)" if n_dims == 3 else "(N, C, H, W)"
    if not isinstance(image, Tensor):
        raise TypeError(
            f"{name} has a {type(image).__name__} for a photo, expected a tensor {shape}: give a "
            "Dataset a transform such as torchvision.transforms.v2.ToImage() and "
            "ToDtype(torch.float32, scale=True)"
        )
    if image.ndim != n_dims:
        raise ValueError(f"{name} has shape {tuple(image.shape)}, expected {shape}")
    return image


def _span(bar: tqdm[Any], images: Tensor) -> str:
    return f"{bar.n}..{bar.n + len(images) - 1}"
