"""Whether a model is shown what it was trained on: other normalisations on a few photos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.transforms.v2 import Normalize

from captum_neuroinspect._core.head_watch import watched
from captum_neuroinspect._core.modules import as_input, device_of, frozen, logits_of
from captum_neuroinspect.models._recipe import Preprocess

_LEVEL = 0.01  # of the test that another normalisation recognises more photos
_LEAST_GAIN = 0.1  # share of the photos
# Distance of the first BatchNorm's input from what it was trained on: measured on photos with
# EfficientNet-Lite0 and 2, .11 with the right normalisation, .53 to .66 with others.
_FAR = 0.3
_NEARER = 1 / 3
_FLAT = 0.02  # standard deviation of pixels in 0..1; photos have about 0.2
_BATCH = 8


@dataclass(frozen=True)
class PreprocessingCheck:
    """What a model sees of photos, and whether it would rather see something else.

    Attributes:
        is_given: whether there is a preprocessing; without one the model sees pixels in 0..1.
        n_photos: that were looked at.
        pixels: the smallest and the largest value of the photos.
        spread: standard deviation of the photos' values.
        seen: the smallest and the largest value that the model sees.
        better: the normalisation that fits clearly better, or ``None``.
        evidence: what says so, as a sentence; empty without ``better``.
    """

    is_given: bool
    n_photos: int
    pixels: tuple[float, float]
    spread: float
    seen: tuple[float, float]
    better: str | None = None
    evidence: str = ""

    @property
    def is_flat(self) -> bool:
        """Whether the photos are of nearly one colour, as if divided by 255 once too often."""
        return self.spread < _FLAT


def check_preprocessing(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    preprocess: Preprocess | None = None,
    *,
    head: nn.Linear | None = None,
    compare: bool = True,
) -> PreprocessingCheck:
    """Compare the normalisation that is used with common ones, on a few photos.

    Another one fits clearly better when it recognises more photos (exact McNemar test), or
    when the first BatchNorm of the network finds its input much nearer to that of its
    training. The model is as before afterwards.

    Args:
        model: a classifier; it runs on its own device.
        images: ``(N, 3, H, W)`` in 0..1.
        labels: ``(N,)`` the right classes.
        preprocess: from images to the model's input; ``None``: the model takes them as they
            are.
        head: the decision layer, of a model that returns several outputs.
        compare: try other normalisations; else only look at the values.

    Raises:
        ValueError: when there are no images, or not one label for each.

    Examples::

        >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> found = check_preprocessing(net, torch.rand(8, 3, 4, 4), torch.arange(8) % 2)
        >>> found.is_given, found.n_photos
        (False, 8)
    """
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            f"{len(images)} images and {len(labels)} labels, expected one label for each of at "
            "least one image"
        )
    given = _as_they_are if preprocess is None else preprocess
    with frozen(model), torch.no_grad():
        seen = torch.cat([given(part) for part in images.split(_BATCH)])
        better, evidence = None, ""
        if compare:
            looks = {name: _look(model, head, images, labels, f) for name, f in _candidates(given)}
            better, evidence = _clearly_better(looks, len(images))
    return PreprocessingCheck(
        is_given=not _is_nothing(preprocess),
        n_photos=len(images),
        pixels=_range(images),
        spread=float(images.float().std(correction=0)),
        seen=_range(seen),
        better=better,
        evidence=evidence,
    )


_GIVEN = ""


def _candidates(given: Preprocess) -> Iterator[tuple[str, Preprocess]]:
    yield _GIVEN, given
    if not _is_nothing(given):
        yield "no normalisation (pixels in 0..1)", _as_they_are
    imagenet = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    yield "ImageNet's mean and standard deviation", imagenet
    yield "values in -1..1", Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    yield "values in 0..255", _in_bytes


def _as_they_are(images: Tensor) -> Tensor:
    return images


def _in_bytes(images: Tensor) -> Tensor:
    return 255 * images


def _is_nothing(preprocess: Preprocess | None) -> bool:
    return preprocess is None or preprocess is _as_they_are or isinstance(preprocess, nn.Identity)


@dataclass(frozen=True)
class _Look:
    """Which photos are right (N,), and how far the first BatchNorm is from its training."""

    right: Tensor
    distance: float | None


def _look(
    model: nn.Module,
    head: nn.Linear | None,
    images: Tensor,
    labels: Tensor,
    preprocess: Preprocess,
) -> _Look:
    device, right, inputs = device_of(model), [], []
    with _first_batch_norm(model) as first:
        for part, truth in zip(images.split(_BATCH), labels.split(_BATCH), strict=True):
            first.clear()
            logits = _logits(model, head, as_input(model, preprocess(part.to(device))))
            found = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
            right.append(found == truth)
            inputs.append(first.input)
        layer = first.layer
    distance = None
    if layer is not None and all(part is not None for part in inputs):
        distance = _distance(layer, torch.cat([part for part in inputs if part is not None]))
    return _Look(torch.cat(right), distance)


def _logits(model: nn.Module, head: nn.Linear | None, given: Tensor) -> Tensor:
    if head is None:
        return logits_of(model(given)).float().cpu()
    with watched(model, head) as watch:
        return watch.logits(model(given)).float().cpu()


class _First:
    """The first trained BatchNorm that a forward pass meets, and what it takes."""

    def __init__(self) -> None:
        self.layer: _BatchNorm | None = None
        self.input: Tensor | None = None

    def clear(self) -> None:
        self.layer = self.input = None

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self.layer is None and inputs and isinstance(inputs[0], Tensor):
            assert isinstance(layer, _BatchNorm)
            self.layer, self.input = layer, inputs[0].detach().float().cpu()


@contextmanager
def _first_batch_norm(model: nn.Module) -> Iterator[_First]:
    first = _First()
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and _is_trained(m)]
    handles = [layer.register_forward_pre_hook(first) for layer in layers]
    try:
        yield first
    finally:
        for handle in handles:
            handle.remove()


def _is_trained(layer: _BatchNorm) -> bool:
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        return False
    return bool(mean.any()) or bool((variance != 1).any())


def _distance(layer: _BatchNorm, inputs: Tensor) -> float:
    """Mean over the channels of the divergence of two normal distributions, KL(seen | trained)."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    channels = inputs.transpose(0, 1).flatten(1)
    variance, mean = torch.var_mean(channels, dim=1, correction=0)
    # Epsilon as the layer has it: channels that are always 0 are no distance.
    trained = layer.running_var.float().cpu() + layer.eps
    ratio = (variance + layer.eps) / trained
    shift = (mean - layer.running_mean.float().cpu()).square() / trained
    return float(((shift + ratio - 1 - ratio.log()) / 2).mean())


def _clearly_better(looks: dict[str, _Look], n_photos: int) -> tuple[str | None, str]:
    given = looks.pop(_GIVEN)
    by_photos = max(looks, key=lambda name: int(looks[name].right.sum()))
    if _recognises_more(looks[by_photos].right, given.right):
        n_now, n_then = int(given.right.sum()), int(looks[by_photos].right.sum())
        return by_photos, (
            f"with {by_photos}, {n_then} instead of {n_now} of {n_photos} photos are recognised"
        )
    known = {name: look.distance for name, look in looks.items() if look.distance is not None}
    if given.distance is None or not known:
        return None, ""
    nearest = min(known, key=lambda name: known[name])
    if given.distance > _FAR and known[nearest] < _NEARER * given.distance:
        return nearest, f"the first BatchNorm finds what it was trained on with {nearest}"
    return None, ""


def _recognises_more(right: Tensor, given: Tensor) -> bool:
    from scipy.stats import binomtest

    gained, lost = int((right & ~given).sum()), int((given & ~right).sum())
    if gained - lost < max(_LEAST_GAIN * len(right), 1):
        return False
    return bool(binomtest(gained, gained + lost, alternative="greater").pvalue < _LEVEL)


def _range(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())
