"""What an inspection works on: the model, the photos, and their features in parts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from torch import Tensor, nn

from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect.inspection.models import LoadedModel
from captum_neuroinspect.inspection.photos import OnError, Photos
from captum_neuroinspect.inspection.workfolder import WorkFolder, collect_in_parts

_FEWEST_FOR_TWO = 4


@dataclass(frozen=True, eq=False)
class Part:
    """Photos and what the decision layer sees of them; row i is of photo ``indices[i]``.

    Attributes:
        photos: all of them.
        features: of all or some of them.
        fingerprint: names the photos; found once, as a ``Dataset`` is read for it.
    """

    photos: Photos
    features: FeatureSet
    fingerprint: str

    def images(self, features: FeatureSet) -> Tensor:
        """``(N, 3, H, W)`` the photos of some of these features."""
        return self.photos.images(features.indices)

    def names(self, features: FeatureSet) -> list[str]:
        return [self.photos.name(i) for i in features.indices.tolist()]


@dataclass(frozen=True, eq=False)
class Material:
    """The photos of an inspection.

    Attributes:
        inspected: the photos that it is about.
        shown: those of them whose mistakes are explained and may teach.
        held: the others, which choose an edit.
        train: what the head was trained on, or ``None``.
        test: photos that judge an edit, or ``None``: ``held`` does.
    """

    inspected: Part
    shown: FeatureSet
    held: FeatureSet
    train: Part | None
    test: Part | None

    @property
    def reference(self) -> FeatureSet:
        """Samples to contrast mistakes with, and to train on."""
        return self.shown if self.train is None else self.train.features

    @property
    def judge(self) -> Part:
        """What judges an edit."""
        return replace(self.inspected, features=self.held) if self.test is None else self.test


def load_material(
    model: LoadedModel,
    head: nn.Linear,
    data: Any,
    train: Any,
    test: Any,
    *,
    key: Mapping[str, Any],
    work: WorkFolder,
    held_out: float,
    on_error: OnError,
    seed: int,
    fresh: bool,
    progress: bool,
) -> Material:
    """Read photos, collect their features, and keep a share of them out of sight."""
    _check_share(held_out)
    # All arguments are looked at before the backbone runs over any of them.
    given = {"data": data, "train": train, "test": test}
    photos = {name: _photos(model, one, on_error) for name, one in given.items() if one is not None}

    def part(name: str) -> Part | None:
        if name not in photos:
            return None
        return _part(model, head, photos[name], name, key, work, fresh, progress)

    inspected = part("data")
    assert inspected is not None
    if len(inspected.features) < _FEWEST_FOR_TWO:
        raise ValueError(
            f"data has {len(inspected.features)} photos, expected at least {_FEWEST_FOR_TWO}: "
            "some are explained, the others judge"
        )
    shown, held = inspected.features.split(1 - held_out, seed=seed)
    return Material(inspected, shown, held, part("train"), part("test"))


def _photos(model: LoadedModel, data: Any, on_error: OnError) -> Photos:
    if isinstance(data, Photos):
        return data
    photos = Photos.of(data, view=model.view, class_names=model.class_names, on_error=on_error)
    size, wanted = photos.tensor_size(), model.view.size
    is_asked_for = model.sized_by == "user"
    if size is not None and not is_asked_for and (size[0] < wanted[0] or size[1] < wanted[1]):
        warnings.warn(
            f"tensors of {size[1]} x {size[0]} pixels are enlarged to {wanted[1]} x {wanted[0]}: "
            f"give image_size={min(size)} where the model was trained at their size",
            stacklevel=4,
        )
    return photos


def _part(
    model: LoadedModel,
    head: nn.Linear,
    photos: Photos,
    name: str,
    key: Mapping[str, Any],
    work: WorkFolder,
    fresh: bool,
    progress: bool,
) -> Part:
    _check_classes(name, photos, head)
    fingerprint = photos.fingerprint()
    features = collect_in_parts(
        work,
        model.on_pixels(),
        photos.dataset(),
        head,
        key={"photos": fingerprint, **key},
        fresh=fresh,
        progress=progress,
    )
    if features.is_multi_hot:
        raise ValueError(f"{name} has multi-hot labels, expected one class a photo")
    return Part(photos, features, fingerprint)


def _check_share(held_out: float) -> None:
    if not isinstance(held_out, Real):
        raise TypeError(f"held_out is {held_out!r}, expected a share between 0 and 1")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out}, expected a share between 0 and 1")


def _check_classes(name: str, photos: Photos, head: nn.Linear) -> None:
    names = photos.class_names
    if names is not None and len(names) != head.out_features and head.out_features > 1:
        raise ValueError(
            f"{name} has {len(names)} classes ({', '.join(names[:5])}, ...), the model "
            f"{head.out_features}: give class_names= (--class-names) in the order of the "
            "model's outputs, among which the folders are found by name"
        )
