"""Photos in folders: one subfolder a class."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captum_neuroinspect._core.class_names import ClassMatch, folded, shortened
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.photos._files import PhotoFiles
from captum_neuroinspect.photos._reading import photo_suffixes

_SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_NO_FILES_OF_USERS = ("thumbs.db", "desktop.ini")


def photos_in_folder(root: Path, class_names: Collection[str] = ()) -> PhotoFiles:
    """The photos of a folder with one subfolder a class, at any depth below it.

    Args:
        root: the folder.
        class_names: of the model: a folder called "train" may be one of its classes.

    Raises:
        FileNotFoundError: when there is no such folder.
        ValueError: for no photos, a photo in two classes, or splits instead of classes.
        OSError: when a folder cannot be listed.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data={str(root)!r}: there is no such folder")
    walk = _Walk(root)
    folders, beside = _top(root)
    _check_no_splits(root, folders, class_names)
    for folder in sorted(folders, key=lambda name: (root / name).is_symlink()):
        walk.enter(folder, folder)
    walk.finish()
    classes = [folder for folder in folders if folder not in walk.aliases]
    found = [(n, i) for i, folder in enumerate(classes) for n in sorted(walk.photos[folder])]
    if not found:
        raise ValueError(_nothing(root, folders, beside, walk))
    names, labels = zip(*found, strict=True)
    unused = frozenset(range(len(classes))) - set(labels)
    return PhotoFiles(
        root,
        names,
        labels,
        ClassMatch.own(classes),
        unused,
        left_out=dict(sorted(walk.left_out.items())),
        notes=tuple(_notes(walk, [classes[i] for i in sorted(unused)], beside)),
    )


@dataclass
class _Walk:
    """Every file once, by the path that needs no link where there is one."""

    root: Path
    photos: dict[str, list[str]] = field(default_factory=dict)  # class -> names
    aliases: list[str] = field(default_factory=list)  # class folders that are others
    twice: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    _seen: dict[str, tuple[str, str]] = field(default_factory=dict)  # real path -> class, name
    _links: deque[tuple[str, str]] = field(default_factory=deque)  # class, name

    def __post_init__(self) -> None:
        self._suffixes = photo_suffixes()
        self._real_root = os.path.realpath(self.root)
        self._seen[self._real_root] = ("", ".")

    def enter(self, of_class: str, name: str) -> None:
        """Look through a folder, if it was not looked through before; put links off."""
        self.photos.setdefault(of_class, [])
        real = os.path.realpath(self.root / name)
        if self._is_known(of_class, name, real):
            self.aliases += [name] if name == of_class else []
            return
        for entry in _listed(self.root / name):
            path = f"{name}/{entry.name}"
            if entry.is_symlink():
                self._links.append((of_class, path))
            elif entry.is_dir():
                self.enter(of_class, path)
            else:
                self._add(of_class, path, f"{real}{os.sep}{entry.name}")

    def finish(self) -> None:
        """Follow the links, now that all is known that needs none."""
        while self._links:
            of_class, name = self._links.popleft()
            if (self.root / name).is_dir():
                self.enter(of_class, name)
            else:
                self._add(of_class, name, os.path.realpath(self.root / name))

    def _add(self, of_class: str, name: str, real: str) -> None:
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in self._suffixes:
            self.left_out[suffix or "no suffix"] += 1
            return
        if not self._is_known(of_class, name, real):
            self.photos[of_class].append(name)

    def _is_known(self, of_class: str, name: str, real: str) -> bool:
        first = self._seen.setdefault(real, (of_class, name))
        if first[1] == name:
            return False
        self.twice.append(name)
        # What lies in a class folder itself is of that class, whatever else leads there.
        if first[0] != of_class and not real.startswith(self._real_root):
            raise ValueError(
                f"{shown(name)} and {shown(first[1])} lead to the same photos: expected each in "
                "one class"
            )
        return True


def _top(root: Path) -> tuple[list[str], int]:
    """The class folders, and how many photos lie beside them."""
    entries, suffixes = _listed(root), photo_suffixes()
    folders = [entry.name for entry in entries if os.path.isdir(entry.path)]
    others = [entry.name.lower() for entry in entries if entry.name not in folders]
    return folders, sum(name.endswith(suffixes) for name in others)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if _is_shown(entry.name)]
    except OSError as error:
        raise type(error)(
            f"the folder {shown(folder)} cannot be listed ({error.strerror}), so it is unknown "
            "which photos are in it"
        ) from error
    return sorted(found, key=lambda entry: entry.name)


def _is_shown(name: str) -> bool:
    # .ipynb_checkpoints is no class, ._1.jpg is no photo, and people do not make Thumbs.db.
    return not name.startswith(".") and name.lower() not in _NO_FILES_OF_USERS


def _check_no_splits(root: Path, folders: Sequence[str], class_names: Collection[str]) -> None:
    splits = {_SPLITS[folded(name)]: name for name in folders if folded(name) in _SPLITS}
    known = {folded(name) for name in class_names}
    if not splits or any(folded(name) in known for name in splits.values()):
        return
    n_splits = sum(folded(name) in _SPLITS for name in folders)
    if n_splits < len(folders) and not (n_splits > 1 and _have_same_classes(root, splits)):
        return  # a class called "test" among others
    data = splits.get("val") or splits.get("test") or splits["train"]
    advice = [f"data={str(root / data)!r}"]
    for role in ("train", "test"):
        if splits.get(role, data) != data:
            advice.append(f"{role}={str(root / splits[role])!r}")
    raise ValueError(
        f"data={str(root)!r} has the splits {', '.join(splits.values())}, expected one subfolder "
        f"a class: give {', '.join(advice)}"
    )


def _have_same_classes(root: Path, splits: dict[str, str]) -> bool:
    inside = [{e.name for e in _listed(root / s) if e.is_dir()} for s in splits.values()]
    return bool(set.intersection(*inside))


def _nothing(root: Path, folders: Sequence[str], beside: int, walk: _Walk) -> str:
    found = f"; it has {beside} photos that lie in no subfolder" if beside else ""
    if folders and not beside:
        found = f"; the subfolders {shortened(folders)} hold none"
    if walk.left_out:
        found += f" ({_counted(walk.left_out)})"
    return (
        f"data={str(root)!r} has no photos in subfolders{found}: expected one subfolder a class, "
        "with files that Pillow reads, such as .jpg, .png, .webp, .tif"
    )


def _notes(walk: _Walk, empty: Sequence[str], beside: int) -> Iterator[str]:
    if walk.left_out:
        n_files = sum(walk.left_out.values())
        yield f"{n_files} files are left out, as they are no photos: {_counted(walk.left_out)}"
    if beside:
        yield f"{beside} photos are left out, as they lie in no class folder"
    if walk.twice:
        yield (
            f"{len(walk.twice)} links lead to photos or folders that are there already, which "
            f"count once: {shortened(walk.twice, 4)}"
        )
    if empty:
        yield f"{len(empty)} class folders have no photos: {shortened(empty)}"


def _counted(left_out: Counter[str]) -> str:
    return ", ".join(f"{n} {suffix}" for suffix, n in left_out.most_common())
