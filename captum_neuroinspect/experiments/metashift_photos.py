"""MetaShift's photos: cats, dogs and others, each in many contexts (Liang and Zou, 2022)."""

from __future__ import annotations

import io
import itertools
import pickle
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from captum_neuroinspect.experiments._photos import folders_of_photos

SUBSETS = "full-candidate-subsets.pkl"
_PLACES = ("", "dataset/meta_data", "meta_data", "MetaShift/dataset/meta_data")
_PHOTOS = ("allImages/images", "images", "data/allImages/images")
_CUES = ("with_cue", "without_cue")
_SUBSET = re.compile(r"(.+)\((.+)\)")
_KNOWN = {
    ("collections", "defaultdict"): defaultdict,
    ("builtins", "set"): set,
    ("builtins", "list"): list,
    ("__builtin__", "set"): set,  # as Python 2 wrote it
    ("__builtin__", "list"): list,
}
HOW_TO_GET = (
    f"expected (1) the published data: {SUBSETS} of "
    "https://github.com/Weixin-Liang/MetaShift (in dataset/meta_data/), and "
    "https://nlp.stanford.edu/data/gqa/images.zip (about 20 GB) unpacked in allImages/; or (2) "
    "what its generate_full_MetaShift.py writes: CLASS/CLASS(CONTEXT)/ID.jpg; or (3) photos "
    "of your own: SCENARIO/CLASS/with_cue/ and SCENARIO/CLASS/without_cue/, such as "
    "dog(chair)/dog/with_cue/1.jpg, the second one only for the other classes"
)


@dataclass(frozen=True)
class Subsets:
    """Photos by class and context.

    Attributes:
        photos: subset such as ``"dog(chair)"`` -> its photos, sorted. A photo may be in many.
        is_own: whether it is the third layout, whose classes have no context but the cue.
    """

    photos: Mapping[str, tuple[Path, ...]]
    is_own: bool = False

    def of_class(self, name: str) -> set[Path]:
        """All photos of a class, whatever its context."""
        start = f"{name}("
        return {path for key, some in self.photos.items() if key.startswith(start) for path in some}

    def limited(self, classes: Iterable[str], most: int) -> Subsets:
        """Those of some classes, with at most so many photos each; 0: with all."""
        starts = tuple(f"{name}(" for name in classes)
        some = {key: paths for key, paths in self.photos.items() if key.startswith(starts)}
        few = {key: paths[:most] if most else paths for key, paths in some.items()}
        return replace(self, photos=few)


@dataclass(frozen=True)
class Drawn:
    """The photos of one scenario, with labels and whether each shows the cue.

    Attributes:
        paths: of each.
        labels: index of its class.
        has_cue: only known of the class with the cue; ``False`` for the others.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    has_cue: tuple[bool, ...]


def read_subsets(folder: Path, scenario: str = "") -> Subsets:
    """The subsets of a folder, whichever of the three layouts it has.

    Args:
        folder: see the error for what may lie there.
        scenario: of the third layout.

    Raises:
        FileNotFoundError: when it has none of them; says what to download, from where, and where
            to put it.
        ValueError: when the pickle file holds something else.
    """
    if (folder / scenario).is_dir() and scenario:
        return Subsets(_own(folder / scenario, scenario), is_own=True)
    for place in _PLACES:
        if (folder / place / SUBSETS).is_file():
            return Subsets(_published(folder, folder / place / SUBSETS))
    if folder.is_dir() and (found := _generated(folder)):
        return Subsets(found)
    raise FileNotFoundError(f"data={str(folder)!r} holds no MetaShift: {HOW_TO_GET}")


def draw(
    subsets: Subsets,
    scenario: str,
    classes: Iterable[str],
    sizes: tuple[int, int, int],
    seed: int,
    *,
    n_test_target: int | None = None,
) -> dict[str, Drawn]:
    """Training, validation and test photos of a scenario.

    All training photos of the class with the cue show it; none of its validation and test photos
    does. A photo that is of two of the classes is left out, as its label would be open.

    Args:
        subsets: all photos.
        scenario: such as ``"dog(chair)"``.
        classes: in the order of the labels.
        sizes: photos a class for training, validation and test; of the cue's subset as many as
            there are, where it has fewer.
        seed: draws them.
        n_test_target: test photos of the class with the cue; ``None``: all that are left.

    Raises:
        ValueError: for a scenario or class without photos, or too few; says how many there are.
    """
    names = list(classes)
    target, cue = split_scenario(scenario)
    if target not in names:
        raise ValueError(f"scenario {scenario!r}: {target!r} is not one of the classes {names}")
    pools = {name: subsets.of_class(name) for name in names}
    seen: dict[Path, int] = defaultdict(int)
    for pool in pools.values():
        for path in pool:
            seen[path] += 1
    with_cue = set(subsets.photos.get(scenario, ()))
    parts: dict[str, list[tuple[Path, int, bool]]] = {"train": [], "validation": [], "test": []}
    for label, name in enumerate(names):
        # By name, so that all layouts of the same photos draw the same.
        own = sorted(
            (path for path in pools[name] if seen[path] == 1), key=lambda path: (path.name, path)
        )
        # Drawn by class and seed alone, so that scenarios share what they can.
        order = [own[i] for i in np.random.default_rng([seed, label]).permutation(len(own))]
        if name != target:
            shares = _dealt(order, sizes, f"class {name!r}")
            parts_of = dict(zip(parts, shares, strict=True))
            flags = dict.fromkeys(parts, False)
        else:
            shown = [path for path in order if path in with_cue]
            rest = [path for path in order if path not in with_cue]
            if not shown:
                raise ValueError(f"scenario {scenario!r}: no photo of {target!r} shows {cue!r}")
            n_test = len(rest) - sizes[1] if n_test_target is None else n_test_target
            held = _dealt(rest, (sizes[1], n_test), f"class {name!r} without {cue!r}")
            parts_of = {"train": shown[: sizes[0]], "validation": held[0], "test": held[1]}
            flags = {"train": True, "validation": False, "test": False}
        for part, paths in parts_of.items():
            parts[part] += [(path, label, flags[part]) for path in paths]
    return {name: Drawn(*map(tuple, zip(*rows, strict=True))) for name, rows in parts.items()}


def split_scenario(scenario: str) -> tuple[str, str]:
    """Class and cue of a scenario.

    Raises:
        ValueError: for a text of another form.

    Examples::

        >>> split_scenario("dog(chair)")
        ('dog', 'chair')
    """
    found = _SUBSET.fullmatch(scenario)
    if found is None:
        raise ValueError(f"scenario {scenario!r}, expected a class and its cue as 'dog(chair)'")
    return found[1], found[2]


def _dealt(paths: list[Path], sizes: tuple[int, ...], what: str) -> list[list[Path]]:
    if sum(sizes) > len(paths) or min(sizes) < 1:
        asked = " + ".join(map(str, sizes))
        raise ValueError(f"{what} has {len(paths)} photos, expected at least {asked}, each above 0")
    starts = np.cumsum((0, *sizes))
    return [paths[a:b] for a, b in itertools.pairwise(starts)]


def _published(folder: Path, table: Path) -> dict[str, tuple[Path, ...]]:
    photos = next((folder / one for one in _PHOTOS if (folder / one).is_dir()), None)
    if photos is None:
        raise FileNotFoundError(f"data={str(folder)!r} has {SUBSETS}, but no photos: {HOW_TO_GET}")
    subsets = _read_pickle(table)
    # Listed once: to ask for each of 300,000 names takes minutes.
    there = {path.stem: path for path in photos.iterdir()}
    return {
        key: tuple(there[one] for one in sorted(map(str, ids)) if one in there)
        for key, ids in subsets.items()
    }


def _read_pickle(table: Path) -> dict[str, Any]:
    """Sets of names by subset; anything else in the file is refused before it is made."""
    try:
        found = _Unpickler(io.BytesIO(table.read_bytes())).load()
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{table} is damaged or no table of subsets ({error})") from None
    is_table = isinstance(found, dict) and all(
        isinstance(key, str) and isinstance(ids, set | list | tuple) for key, ids in found.items()
    )
    if not is_table:
        raise ValueError(f"{table} is no table of subsets, expected sets of photos by name")
    return dict(found)


class _Unpickler(pickle.Unpickler):
    """Reads containers of texts: a pickle file may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _KNOWN[module, name]


def _generated(folder: Path) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    for place in sorted(folder.iterdir()):
        if place.is_dir():
            some = folders_of_photos(place)
            mine = {key: tuple(v) for key, v in some.items() if key.startswith(f"{place.name}(")}
            found |= mine
    return _same_photos(found)


def _same_photos(subsets: dict[str, tuple[Path, ...]]) -> dict[str, tuple[Path, ...]]:
    """One path a photo: the script copies or links a photo into each of its subsets."""
    first: dict[str, Path] = {}
    for paths in subsets.values():
        for path in paths:
            first.setdefault(path.name, path)
    return {key: tuple(first[path.name] for path in paths) for key, paths in subsets.items()}


def _own(place: Path, scenario: str) -> dict[str, tuple[Path, ...]]:
    target, _ = split_scenario(scenario)
    found: dict[str, tuple[Path, ...]] = {}
    for folder in sorted(p for p in place.iterdir() if p.is_dir()):
        some = folders_of_photos(folder)
        if unknown := sorted(set(some) - set(_CUES)):
            raise ValueError(f"{folder} has {unknown}, expected {' and '.join(_CUES)}")
        shown, rest = (tuple(some.get(cue, ())) for cue in _CUES)
        if folder.name == target:
            found[scenario] = shown
        elif shown:
            found[f"{folder.name}(with the cue)"] = shown
        found[f"{folder.name}(without the cue)"] = rest
    return found
