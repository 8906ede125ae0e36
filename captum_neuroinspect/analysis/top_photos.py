"""The photos in which a neuron is most active, and where in them it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.modules import as_indices, check_indices, device_of, frozen
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.attr.direction import Direction
from captum_neuroinspect.attr.neuron_ranking import NeuronList
from captum_neuroinspect.optvis.units.activation import activation_map
from captum_neuroinspect.optvis.units.reader import Preprocess, UnitReader

__all__ = ["Crops", "TopPhotos", "crops", "top_photos"]

_BATCH = 8


@dataclass(frozen=True, eq=False)
class TopPhotos:
    """The most active photos of each of J neurons, best first.

    Attributes:
        neurons: J of them; of a direction a single 0.
        rows: ``(J, k)`` rows of the feature set.
        indices: ``(J, k)`` positions in the data that the set was collected from.
        activations: ``(J, k)``; of a direction the positions along it.
    """

    neurons: tuple[int, ...]
    rows: Tensor
    indices: Tensor
    activations: Tensor

    def _repr_html_(self) -> str:
        rows = zip(self.neurons, self.indices.tolist(), self.activations.tolist(), strict=True)
        cells = (
            (n, ", ".join(f"{i} ({a:.3g})" for i, a in zip(indices, values, strict=True)))
            for n, indices, values in rows
        )
        return html_table(("neuron", "photos (activation)"), cells, "Most exciting photos")


@dataclass(frozen=True, eq=False)
class Crops:
    """Where a neuron is active in N photos.

    Attributes:
        boxes: ``(N, 4)`` int64: left, top, right, bottom in pixels, the last two just
            outside.
        images: N crops ``(3, h, w)``, squares.
        maps: ``(N, h, w)``, what the boxes were found in, or ``None`` where the neuron has
            no positions: then every box is its whole photo.
    """

    boxes: Tensor
    images: list[Tensor]
    maps: Tensor | None


def top_photos(
    features: FeatureSet,
    neurons: NeuronList | Iterable[int] | Tensor | int | Direction,
    k: int = 9,
) -> TopPhotos:
    """Find the photos that activate each neuron most; of equal ones the earlier.

    Args:
        features: N samples.
        neurons: which of the F features; or a :class:`Direction`: the photos that lie farthest
            along it. ``-direction`` gives those at its other end.
        k: how many photos; all N when there are fewer.

    Raises:
        TypeError: when a neuron is no whole number.
        ValueError: when a neuron is out of range, a direction of another length, ``k`` below 1,
            or the set empty.

    Examples::

        >>> values = torch.tensor([[1.0, 0.0], [3.0, 2.0], [2.0, 9.0]])
        >>> few = FeatureSet(values, values, torch.tensor([0, 0, 1]))
        >>> top_photos(few, [0, 1], k=2).indices
        tensor([[1, 2],
                [2, 1]])
    """
    if k < 1:
        raise ValueError(f"k={k}, expected at least 1")
    if not len(features):
        raise ValueError("features are of no samples, expected at least one")
    n_features = features.features.shape[1]
    if isinstance(neurons, Direction):
        if len(neurons) != n_features:
            raise ValueError(f"the direction has {len(neurons)} features, expected {n_features}")
        wanted, values = torch.tensor([0]), neurons.positions(features.features)[:, None]
    else:
        wanted = _neurons(neurons)
        check_indices("neuron", wanted, n_features, f"{n_features} features")
        values = features.features[:, wanted]
    # Not topk: which of equal values it takes depends on the machine.
    values, rows = values.sort(dim=0, descending=True, stable=True)
    values, rows = values[:k].T, rows[:k].T
    return TopPhotos(tuple(wanted.tolist()), rows, features.indices[rows], values)


@undisturbed()
def crops(
    model: nn.Module,
    images: Tensor,
    neuron: int,
    *,
    preprocess: Preprocess | None = None,
    layer: nn.Module | str | None = None,
    head: nn.Linear | None = None,
    level: float = 0.5,
    min_share: float = 0.3,
) -> Crops:
    """Cut out the part of each photo in which a neuron is most active.

    The neuron's map is the one that illusions' masks come from: its channel before the
    mean over positions, its dimension of the patch tokens, or, where it has no positions,
    its gradient times activation in the last layer that has. The box holds the region
    around the peak in which the map, brought to the photo's size, is above ``level`` of
    the way from its lowest to its highest value, made square. The maps are coarse (often
    7 x 7): a box says where to look, not where a thing ends.

    Args:
        model: the classifier.
        images: ``(N, 3, H, W)`` in 0..1.
        neuron: one unit.
        preprocess: from images to the model's input.
        layer: whose outputs are the units; ``None``: the inputs of the decision layer.
        head: the decision layer, for ``layer=None``; found when not given.
        level: between 0 and 1; higher for smaller boxes.
        min_share: the least side of a box as a share of the photo's shorter side, in
            0..1, because a patch of a few pixels shows nothing.

    Raises:
        TypeError: for images that are no floating point tensor.
        ValueError: for another shape or no images, a neuron out of range, or numbers
            outside their ranges.
    """
    _check(images, level, min_share)
    device = device_of(model)
    reader = UnitReader(model, layer, head, preprocess, images[:2].to(device))
    maps = _joined([_maps(reader, part.to(device), neuron) for part in images.split(_BATCH)])
    height, width = images.shape[-2:]
    if maps is None:
        boxes = torch.tensor([[0, 0, width, height]] * len(images))
    else:
        boxes = torch.tensor([_box(m, (height, width), level, min_share) for m in maps])
    parts = [cut(image, box).clone() for image, box in zip(images, boxes, strict=True)]
    return Crops(boxes, parts, maps)


def cut(image: Tensor, box: Tensor) -> Tensor:
    """The part of a photo ``(3, H, W)`` inside a box (left, top, right, bottom)."""
    left, top, right, bottom = box.tolist()
    return image[:, top:bottom, left:right]


def _neurons(neurons: NeuronList | Iterable[int] | Tensor | int) -> Tensor:
    if isinstance(neurons, NeuronList):
        neurons = neurons.neurons
    if not isinstance(neurons, (int, Tensor)):
        neurons = list(neurons)
    return as_indices("neurons", neurons)


def _maps(reader: UnitReader, images: Tensor, neuron: int) -> Tensor | None:
    """``(N, h, w)`` on the CPU, or ``None``."""
    with frozen(reader.model), torch.no_grad():
        reading = reader(images)
        n_units = reading.units.shape[-1 if reading.units.ndim == 3 else 1]
        wanted = torch.full((len(images),), neuron, device=images.device)
        check_indices("neuron", wanted, n_units, f"{n_units} units")
        maps = None if reading.maps is None else activation_map(reading.maps, wanted)
    return None if maps is None else maps.detach().float().cpu()


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if len(known) == len(parts) else None


def _box(
    coarse: Tensor, size: tuple[int, int], level: float, min_share: float
) -> tuple[int, int, int, int]:
    fine = F.interpolate(coarse[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    height, width = size
    low, high = float(fine.min()), float(fine.max())
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # it says nothing about places
        return 0, 0, width, height
    peak = divmod(int(fine.argmax()), width)
    rows, columns = _around(fine >= low + level * (high - low), peak).nonzero().unbind(1)
    (top, bottom), (left, right) = _span(rows), _span(columns)
    shorter = min(size)
    side = max(bottom - top, right - left, round(min_share * shorter), 1)
    middle = ((top + bottom) / 2, (left + right) / 2)
    if side > shorter:  # a wide photo whose region is wider than a square can be
        side, middle = shorter, (peak[0] + 0.5, peak[1] + 0.5)
    y, x = (_start(m, side, n) for m, n in zip(middle, size, strict=True))
    return x, y, x + side, y + side


def _span(positions: Tensor) -> tuple[int, int]:
    return int(positions.min()), int(positions.max()) + 1


def _start(middle: float, side: int, length: int) -> int:
    return min(max(round(middle - side / 2), 0), length - side)


def _around(region: Tensor, peak: tuple[int, int]) -> Tensor:
    """The connected part of a region ``(H, W)`` that holds the peak."""
    region = region.float()[None, None]
    part = torch.zeros_like(region)
    part[0, 0, peak[0], peak[1]] = 1
    while True:
        grown = F.max_pool2d(part, 3, stride=1, padding=1) * region
        if torch.equal(grown, part):
            return part[0, 0]
        part = grown


def _check(images: Tensor, level: float, min_share: float) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images are {kind}, expected a floating point tensor (N, 3, H, W)")
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"images have shape {tuple(images.shape)}, expected (N, 3, H, W), at least one"
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level}, expected a number between 0 and 1")
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share={min_share}, expected 0..1")
