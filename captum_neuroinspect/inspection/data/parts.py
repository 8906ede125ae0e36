"""What an inspection works on: the model, the photos, and their features in parts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.class_names import by_position_note, shortened
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.shares import FEW
from captum_neuroinspect.inspection.cache.collect_in_parts import collect_in_parts
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.inspection.data.roles import (
    dealt_roles,
    seen_apart,
    set_apart,
    shares_of,
)
from captum_neuroinspect.models.load import LoadedModel
from captum_neuroinspect.photos.photos import OnError, Photos

if TYPE_CHECKING:
    from captum_neuroinspect.edit import HeadEdit
    from captum_neuroinspect.edit.cross_fitting import MakeEdit


@dataclass(frozen=True, eq=False)
class PhotoSet:
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
class InspectionData:
    """The photos of an inspection, in four roles; no photo has two of them.

    Attributes:
        inspected: ``data``, the photos that it is about.
        train: what the head was trained on: the contrast for mistakes, and what an edit keeps to.
        deployment: photos of ``data`` whose mistakes are explained and may teach.
        validation: photos of ``data`` that choose.
        test: photos that judge, and serve for nothing else.
        given: which of the roles ``"train"`` and ``"test"`` have photos of their own.
        seed: dealt the photos out.
    """

    inspected: PhotoSet
    train: PhotoSet
    deployment: PhotoSet
    validation: PhotoSet
    test: PhotoSet
    given: frozenset[str] = frozenset()
    seed: int = 0

    @property
    def held_out(self) -> PhotoSet:
        """Photos of ``data`` that are not explained: for validation, and for test if it has none.

        They are the only ones that choose or judge, so that what people pick by looking at the
        explanation is judged by other photos.
        """
        if "test" in self.given:
            return self.validation
        rows = torch.cat([self.validation.features.indices, self.test.features.indices])
        features = self.inspected.features
        return replace(self.inspected, features=features.subset(torch.isin(features.indices, rows)))

    def is_cross_fitted(self, target: int) -> bool:
        """Whether test photos of a class are so few that all held-out photos judge in turn.

        Below twenty, as a share of so few says little; photos that were given judge as they are.
        """
        n_test = int(self.test.features.of_class(target).sum())
        return (
            "test" not in self.given
            and n_test < FEW
            and len(self.validation.features) + len(self.test.features) > 1
        )

    def edited(self, fit: MakeEdit, target: int, neurons: Sequence[int] | None) -> HeadEdit:
        """What a fit gives on train, deployment and validation photos, judged on test photos.

        Where these are too few for the class by :func:`cross_fit`.
        """
        # Imported here: it takes a while, and only those who edit need it.
        from captum_neuroinspect.edit import cross_fit, fit_and_judge

        used = self.train.features, self.deployment.features
        if self.is_cross_fitted(target):
            return cross_fit(fit, *used, self.held_out.features, neurons, seed=self.seed)
        return fit_and_judge(fit, *used, self.validation.features, self.test.features, neurons)

    def roles(self) -> str:
        """How many photos have each role, and where they are from.

        Such as ``"train 120, deployment 60, validation 60, test 60 (all from data)"``.
        """
        names = ("train", "deployment", "validation", "test")
        counts = [f"{name} {len(getattr(self, name).features):,}" for name in names]
        own = " and ".join(name for name in names if name in self.given)
        where = f"{own} from the photos given for it, the others" if own else "all"
        return f"{', '.join(counts)} ({where} from data)"


def load_inspection_data(
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
) -> InspectionData:
    """Read photos, collect their features, and deal out the four roles."""
    _check_share(held_out)
    # All arguments are looked at before the backbone runs over any of them.
    given = {"data": data, "train": train, "test": test}
    photos = {
        name: _photos(model, one, name, on_error, by_position)
        for name, one in given.items()
        if one is not None
    }
    photos = _with_one_list(photos, model.class_names, by_position)
    photos = _with_one_list_of_groups(photos)
    for name, found in photos.items():
        # One output decides between two classes.
        _check_classes(name, found, model.class_names, max(head.out_features, 2))
    if model.class_names is None:
        _say_by_position(photos)
    photos = set_apart(photos)
    parts = {
        name: _part(model, head, one, name, key, work, fresh, progress)
        for name, one in photos.items()
    }
    apart = seen_apart({name: part.features for name, part in parts.items()}, photos)
    parts = {name: replace(part, features=apart[name]) for name, part in parts.items()}
    inspected = parts.pop("data")
    shares = shares_of(held_out, parts)
    dealt = dealt_roles(inspected.features, inspected.photos.digests(), shares, seed)
    parts |= {role: replace(inspected, features=features) for role, features in dealt.items()}
    return InspectionData(
        inspected, **parts, given=frozenset(given) & set(photos) - {"data"}, seed=seed
    )


def _photos(
    model: LoadedModel, data: Any, name: str, on_error: OnError, by_position: bool
) -> Photos:
    if isinstance(data, Photos):
        return data
    # Names are looked at for all sets together.
    try:
        photos = Photos.of(
            data,
            view=model.view,
            class_names=model.class_names,
            on_error=on_error,
            by_position=by_position,
            what=name,
        )
    except (FileNotFoundError, ValueError) as error:
        # `Photos.of` calls what it is given `data`.
        if name == "data" or not str(error).startswith("data="):
            raise
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{name}{str(error).removeprefix('data')}") from error
    size, wanted = photos.tensor_size(), model.view.size
    is_asked_for = model.sized_by == "user"
    if size is not None and not is_asked_for and (size[0] < wanted[0] or size[1] < wanted[1]):
        warnings.warn(
            f"tensors of {size[1]} x {size[0]} pixels are enlarged to {wanted[1]} x {wanted[0]}: "
            f"give image_size={min(size)} where the model was trained at their size",
            stacklevel=4,
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


def _with_one_list_of_groups(photos: Mapping[str, Photos]) -> dict[str, Photos]:
    """A number means the same group in all sets, as long as the groups have names."""
    names = list(dict.fromkeys(name for one in photos.values() for name in one.group_names or ()))
    found = dict(photos)
    for what, one in photos.items() if names else ():
        if one.group_names is not None:
            found[what] = one.with_groups(names)
        elif one.item(0).group is not None:
            raise ValueError(
                f"the groups of {what} are numbers, those of another set are names "
                f"({shortened(names)}): expected names in all sets, or in none"
            )
    return found


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
) -> PhotoSet:
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
    if features.groups is not None:
        features = replace(features, group_names=photos.group_names)
    return PhotoSet(photos, features, fingerprint)


def _check_share(held_out: float) -> None:
    if not isinstance(held_out, Real):
        raise TypeError(f"held_out is {held_out!r}, expected a share between 0 and 1")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out}, expected a share between 0 and 1")


def _check_classes(
    name: str, photos: Photos, of_model: tuple[str, ...] | None, n_classes: int
) -> None:
    names = photos.class_names
    if names is not None and of_model is None and len(names) != n_classes:
        raise ValueError(
            f"{name} has {len(names)} classes ({shortened(names)}), the model {n_classes}, and no "
            "names for them, so it is unknown which of its outputs these are: give "
            "class_names= (--class-names) in the order of the model's outputs, among which the "
            "classes are found by name"
        )
