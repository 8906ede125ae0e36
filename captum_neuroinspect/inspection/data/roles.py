"""Four roles of photos, none in two of them: train, deployment, validation and test.

*Train*: what the head was or is trained on, the contrast for mistakes. *Deployment*: labelled
photos of its use; their mistakes are explained and may teach an edit. *Validation*: chooses, such
as epochs and whether an edit is worth it. *Test*: judges, and is used for nothing else.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.same_samples import row_names
from captum_neuroinspect._core.splitting import dealt
from captum_neuroinspect.edit.judged import n_photos
from captum_neuroinspect.photos.photos import Photos

_N_NAMES = 3  # in a message
# A photo of a later set that is in an earlier one too is left out of the later.
_ORDER = ("data", "train", "test")


def shares_of(held_out: float, given: Collection[str]) -> dict[str, float]:
    """The share of ``data`` that each role has; photos that are given for a role are that role.

    Args:
        held_out: share of validation and test photos together.
        given: roles that have photos of their own, of ``"train"`` and ``"test"``.

    Examples::

        >>> shares_of(0.5, ["test"])
        {'train': 0.25, 'deployment': 0.25, 'validation': 0.5}
    """
    pairs = (("train", "deployment", 1 - held_out), ("test", "validation", held_out))
    shares: dict[str, float] = {}
    for role, other, share in pairs:
        shares |= {other: share} if role in given else {role: share / 2, other: share / 2}
    order = ("train", "deployment", "validation", "test")
    return {role: shares[role] for role in order if role in shares}


def dealt_roles(
    data: FeatureSet, digests: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[str, FeatureSet]:
    """The photos of each role: its share of each class, of mistakes and of right ones.

    Copies of a photo stay together, and so do photos that the model cannot tell apart.

    Args:
        data: N photos.
        digests: of their contents.
        shares: of each role; they add up to 1.
        seed: draws the photos.

    Raises:
        ValueError: when a role gets no photo.
    """
    units = _units(digests, row_names(data.features))
    n_units = int(units.max()) + 1 if len(units) else 0
    if n_units < len(shares):
        different = "" if n_units == len(data) else f", {n_units} of them different to the model"
        raise ValueError(
            f"data has {n_photos(len(data))}{different}, expected at least {len(shares)}: one or "
            f"more each for {_listed(shares)}"
        )
    masks = dealt(data.labels, data.is_correct.long(), units, shares, seed)
    for role, mask in masks.items():
        if not mask.any():
            raise ValueError(
                f"data has {n_photos(len(data))}, which leaves none for {role} with a share of "
                f"{shares[role]:.3g}: give more photos, or another held_out"
            )
    return {role: data.subset(mask) for role, mask in masks.items()}


def set_apart(photos: Mapping[str, Photos]) -> dict[str, Photos]:
    """Photos of ``data``, ``train`` and ``test``, none in two of them by its content.

    Args:
        photos: by argument; ``data`` is among them.

    Raises:
        ValueError: when all photos of a set are in another one.

    Warns:
        UserWarning: when photos are left out, or one is there under two labels.
    """
    digests = {name: photos[name].digests() for name in _ORDER if name in photos}
    _warn_of_two_labels(photos, digests)
    found, known = dict(photos), dict[str, str]()
    for name, of_set in digests.items():
        shared = [known.get(digest) for digest in of_set]
        if any(shared):
            keep = [row for row, other in enumerate(shared) if other is None]
            names = [photos[name].name(row) for row, other in enumerate(shared) if other]
            _say_left_out(name, shared, names)
            found[name] = photos[name].subset(keep)
        for digest in of_set:
            known.setdefault(digest, name)
    return found


def seen_apart(
    features: Mapping[str, FeatureSet], photos: Mapping[str, Photos]
) -> dict[str, FeatureSet]:
    """The same by what the model sees of photos, which finds copies in another format too.

    Raises:
        ValueError: when all photos of a set are in another one.

    Warns:
        UserWarning: when photos are left out.
    """
    found, known = dict(features), dict[str, str]()
    for name in _ORDER:
        if name not in features:
            continue
        rows = row_names(features[name].features)
        shared = [known.get(row) for row in rows]
        if any(shared):
            mask = torch.tensor([other is None for other in shared])
            names = [photos[name].name(i) for i in features[name].indices[~mask].tolist()]
            _say_left_out(name, shared, names, " to the model")
            found[name] = features[name].subset(mask)
        for row in rows:
            known.setdefault(row, name)
    return found


def _say_left_out(
    name: str, shared: Sequence[str | None], names: Sequence[str], how: str = ""
) -> None:
    others = [other for other in _ORDER if other in shared]
    if len(names) == len(shared):
        raise ValueError(
            f"{name}= are the same photos as {_listed(f'{other}=' for other in others)}{how}: "
            f"expected others, or no {name}=, so that photos of data take its place"
        )
    more = "" if len(names) <= _N_NAMES else ", ..."
    warnings.warn(
        f"{len(names)} of {len(shared)} photos of {name} are the same as in {_listed(others)}"
        f"{how}, and are left out of {name}: {', '.join(names[:_N_NAMES])}{more}",
        stacklevel=2,
    )


def _warn_of_two_labels(photos: Mapping[str, Photos], digests: Mapping[str, Sequence[str]]) -> None:
    places = defaultdict[str, list[tuple[str, int]]](list)
    for name, of_set in digests.items():
        for row, digest in enumerate(of_set):
            places[digest].append((name, row))
    pairs = [pair for rows in places.values() if (pair := _two_labels(photos, rows))]
    if pairs:
        n = f"{len(pairs)} photos are" if len(pairs) > 1 else "a photo is"
        warnings.warn(
            f"{n} there under two labels: {'; '.join(pairs[:_N_NAMES])}"
            f"{'' if len(pairs) <= _N_NAMES else '; ...'}",
            stacklevel=2,
        )


def _two_labels(photos: Mapping[str, Photos], places: Sequence[tuple[str, int]]) -> str | None:
    """Two copies of a photo with different labels, in words, if there are any."""
    if len(places) < 2:
        return None
    labels = [photos[name].label(row) for name, row in places]
    for place, label in zip(places, labels, strict=True):
        if isinstance(label, int) and isinstance(labels[0], int) and label != labels[0]:
            return f"{_named(photos, *places[0])} and {_named(photos, *place)}"
    return None


def _named(photos: Mapping[str, Photos], name: str, row: int) -> str:
    label, names = photos[name].label(row), photos[name].class_names
    words = f"class {label}" if names is None or isinstance(label, Tensor) else names[label]
    return f"{photos[name].name(row)} of {name} ({words})"


def _units(*names: Sequence[str]) -> Tensor:
    """``(N,)`` one number for all samples that share a name, also by way of others."""
    # Imported here: it takes a while, and only those who inspect need it.
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(names[0])
    firsts = []
    for one in names:
        first: dict[str, int] = {}
        firsts.append([first.setdefault(name, row) for row, name in enumerate(one)])
    ends = np.concatenate([np.asarray(first, dtype=np.int64) for first in firsts])
    starts = np.tile(np.arange(n), len(names))
    graph = coo_array((np.ones(len(ends), dtype=bool), (starts, ends)), shape=(n, n))
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else str(last)
