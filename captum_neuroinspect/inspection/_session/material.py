"""What an inspection works on: the model, the photos, and their features in parts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from torch import Tensor, nn

from captum_neuroinspect._class_names import by_position_note, shortened
from captum_neuroinspect._feature_set import FeatureSet
from captum_neuroinspect.inspection._session.arguments import n_classes_of
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
    by_position: bool = False,
) -> Material:
    """Read photos, collect their features, and keep a share of them out of sight."""
    _check_share(held_out)
    # All arguments are looked at before the backbone runs over any of them.
    given = {"data": data, "train": train, "test": test}
    photos = {
        name: _photos(model, one, name, on_error, by_position)
        for name, one in given.items()
        if one is not None
    }
    photos = _with_one_list(photos, model.class_names, by_position)
    for name, found in photos.items():
        _check_classes(name, found, model.class_names, head)
    if model.class_names is None:
        _say_by_position(photos)

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


def _photos(
    model: LoadedModel, data: Any, name: str, on_error: OnError, by_position: bool
) -> Photos:
    # The view is the model's; names are looked at for all sets together.
    photos = data
    if not isinstance(data, Photos):
        photos = Photos.of(
            data,
            image_size=model.image_size,
            resize_size=model.resize_size,
            interpolation=model.interpolation,
            class_names=model.class_names,
            on_error=on_error,
            by_position=by_position,
            what=name,
        )
    return photos


def _with_one_list(
    photos: Mapping[str, Photos], names: tuple[str, ...] | None, by_position: bool
) -> dict[str, Photos]:
    """All sets with the model's names, or else those of the first set that has some."""
    if names is None:
        names = next((p.class_names for p in photos.values() if p.class_names is not None), None)
    if names is None:
        return dict(photos)
    return {
        what: found.with_classes(names, by_position=by_position, what=what)
        for what, found in photos.items()
    }


def _say_by_position(photos: Mapping[str, Photos]) -> None:
    named = {what: p for what, p in photos.items() if p.match.given is not None}
    if named:
        what, first = next(iter(named.items()))
        warnings.warn(by_position_note(what, first.class_names or ()), stacklevel=4)


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


def _check_classes(
    name: str, photos: Photos, of_model: tuple[str, ...] | None, head: nn.Linear
) -> None:
    names, n_classes = photos.class_names, n_classes_of(head)
    if names is not None and of_model is None and len(names) != n_classes:
        raise ValueError(
            f"{name} has {len(names)} classes ({shortened(names)}), the model {n_classes}, and no "
            "names for them, so that nobody knows which of its outputs these are: give "
            "class_names= (--class-names) in the order of the model's outputs, among which the "
            "classes are found by name"
        )
