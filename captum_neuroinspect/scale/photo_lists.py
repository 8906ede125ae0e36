"""Lists of many photos, and their bytes: folders, Parquet files and WebDataset shards.

A list is gone through, and is never in memory; pictures are read where they are worked on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from captum_neuroinspect._core.class_names import ClassMatch
from captum_neuroinspect._core.optional import SCALE, optional
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.photos import Photos
from captum_neuroinspect.photos._reading import as_rgb, photo_suffixes

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "bytes", "image_bytes")
_LABELS = ("label", "class", "target", "cls", "labels")
_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")

Kind = Literal["folder", "parquet", "webdataset"]


@dataclass(frozen=True)
class PhotoPlace:
    """Where one photo is.

    Attributes:
        identity: of the photo, different from all others of the list.
        file: relative to the list's root.
        place: the row of a Parquet file, or the offset in a shard; 0 for a photo's own file.
        size: bytes, where the list knows them; else 0.
        label: the model's class.
    """

    identity: str
    file: str
    place: int
    size: int
    label: int


@dataclass(frozen=True)
class PhotoList(Iterable[PhotoPlace]):
    """Many photos in a fixed order: by file, then by their place in it.

    Attributes:
        root: folder of the files.
        kind: of the files.
        class_names: of the model, or ``None``.
        files: names of Parquet files or shards; none for a folder of photos.
        numbers: the class of each label that is a name; ``None`` where labels are numbers.
    """

    root: Path
    kind: Kind
    class_names: tuple[str, ...] | None
    files: tuple[str, ...] = ()
    numbers: Mapping[str, int] | None = None

    @classmethod
    def of(cls, source: str | Path, class_names: Sequence[str] | None = None) -> PhotoList:
        """Find what is there; no picture is read.

        Labels that are names are looked at once beforehand, to know all of them.

        Args:
            source: a folder with one subfolder of photos a class; a ``.parquet`` file or a
                folder of them, with a column of image bytes (``image``, also as Hugging Face
                writes it, ``jpg``, ``bytes``, ...) and one of labels (``label``, ``class``,
                ``target``, ``cls``); or a ``.tar`` shard of WebDataset or a folder of them,
                with ``.cls`` or a ``.json`` that has ``"label"`` for each photo.
            class_names: of the model, to which labels that are names belong.

        Raises:
            FileNotFoundError: when there is nothing.
            ValueError: for no photos, missing columns or labels, or class names that do not fit.
            ImportError: when pyarrow is missing for Parquet files.
        """
        source = Path(source)
        names = None if class_names is None else tuple(class_names)
        if not source.exists():
            raise FileNotFoundError(f"source={str(source)!r}: there is no such file or folder")
        if source.is_dir() and all(_files(source, suffix)[1] for suffix in (".parquet", ".tar")):
            raise ValueError(
                f"source={str(source)!r} has .parquet files and .tar shards, expected one of them"
            )
        for suffix, kind, read in (
            (".parquet", "parquet", _in_parquet),
            (".tar", "webdataset", _in_shard),
        ):
            root, files = _files(source, suffix)
            if files:
                found = cls(root, kind, names, tuple(files))  # type: ignore[arg-type]
                return replace(found, numbers=_numbers(read, root, files, names, source))
        if source.is_file():
            raise ValueError(
                f"source={str(source)!r}, expected a folder, a .parquet file or a .tar shard"
            )
        return cls(source, "folder", names)

    def __iter__(self) -> Iterator[PhotoPlace]:
        """The photos.

        Raises:
            ValueError: for labels that are no classes, and what a file lacks.
        """
        if self.kind == "folder":
            yield from _in_folder(self.root, self.class_names)
        read = _in_parquet if self.kind == "parquet" else _in_shard
        for name in self.files:
            for row in read(self.root, name):
                yield PhotoPlace(*row[:4], _class_of(row, self.numbers))


class FileStates:
    """Names the state of files: their sizes and times, which tell of changes without reading.

    Args:
        root: folder of the files.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._last, self._digest = root, "", hashlib.sha256()

    def add(self, file: str) -> None:
        """Look at a file; once, where its photos follow each other."""
        if file != self._last:
            at = (self._root / file).stat()
            state = [file, at.st_size, at.st_mtime_ns, at.st_ctime_ns]
            self._digest.update(json.dumps(state).encode())
            self._last = file

    @property
    def digest(self) -> str:
        """Of all that were added."""
        return self._digest.hexdigest()


class UnreadableError(ValueError):
    """A photo whose bytes are no picture; its words are the same on every machine."""


@dataclass
class PhotoReader:
    """Reads the photos of a list, one at a time.

    Attributes:
        root: folder of the files.
        kind: of the files.
    """

    root: Path
    kind: Kind
    _file: str = ""
    _rows: Any = None
    _group: tuple[int, Any] = field(default=(-1, None))

    def picture(self, photo: PhotoPlace) -> Tensor:
        """``(3, H, W)`` uint8.

        Raises:
            UnreadableError: when its bytes are no whole picture.
            OSError: when its file cannot be read.
        """
        content = self._bytes(photo)
        try:
            with Image.open(io.BytesIO(content)) as image:
                return as_rgb(image)
        except (ValueError, SyntaxError, EOFError, OSError, Image.DecompressionBombError) as error:
            # Memory addresses would make the record of one photo differ from run to run.
            reason = _OBJECT.sub("", str(error)).strip()
            raise UnreadableError(f"{type(error).__name__}: {shown(reason)}") from None

    def _bytes(self, photo: PhotoPlace) -> bytes:
        path = self.root / photo.file
        if self.kind == "folder":
            return path.read_bytes()
        if self.kind == "webdataset":
            with path.open("rb") as file:
                file.seek(photo.place)
                return file.read(photo.size)
        return self._row(photo)

    def _row(self, photo: PhotoPlace) -> bytes:
        if self._file != photo.file:
            parquet = optional("pyarrow.parquet", SCALE)
            self._rows = parquet.ParquetFile(self.root / photo.file)
            self._file, self._group = photo.file, (-1, None)
        starts = _row_starts(self._rows)
        group = bisect_right(starts, photo.place) - 1
        if self._group[0] != group:
            column = _column(self._rows.schema_arrow.names, _IMAGES, photo.file)
            read = self._rows.read_row_group(group, columns=[column])
            self._group = group, read.column(0)
        value = self._group[1][photo.place - starts[group]].as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(value, bytes):
            raise UnreadableError("the row has no bytes of a picture")
        return value


_Row = tuple[str, str, int, int, Any]  # identity, file, place, size, label as given


def _files(source: Path, suffix: str) -> tuple[Path, list[str]]:
    if source.is_file():
        return source.parent, [source.name] if source.suffix.lower() == suffix else []
    names = (name for name in os.listdir(source) if not name.startswith("."))
    return source, sorted(name for name in names if name.lower().endswith(suffix))


def _in_folder(source: Path, class_names: Sequence[str] | None) -> Iterator[PhotoPlace]:
    photos = Photos.of(source, class_names=class_names)
    for index in range(len(photos)):
        name = photos.name(index)
        label = photos.label(index)
        assert isinstance(label, int)  # a photo in a folder is of one class
        yield PhotoPlace(name, name, 0, (source / name).stat().st_size, label)


def _in_parquet(root: Path, name: str) -> Iterator[_Row]:
    parquet = optional("pyarrow.parquet", SCALE)
    rows = parquet.ParquetFile(root / name)
    columns = rows.schema_arrow.names
    _column(columns, _IMAGES, name)
    label = _column(columns, _LABELS, name)
    place = 0
    for batch in rows.iter_batches(columns=[label]):
        for value in batch.column(0).to_pylist():
            yield f"{name}#{place}", name, place, 0, value
            place += 1


def _in_shard(root: Path, name: str) -> Iterator[_Row]:
    suffixes = photo_suffixes()
    photos: dict[str, tuple[int, int]] = {}
    labels: dict[str, Any] = {}
    with tarfile.open(root / name) as shard:
        for member in shard:
            folder, _, base = member.name.rpartition("/")
            stem, _, end = base.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if not member.isfile() or not end:
                continue
            if f".{end.lower()}".endswith(suffixes):
                if key in photos:
                    raise ValueError(f"{name} has two photos called {key!r}, expected one a key")
                photos[key] = member.offset_data, member.size
            elif end in ("cls", "json"):
                file = shard.extractfile(member)
                assert file is not None
                labels.setdefault(key, _shard_label(end, file.read()))
    for key, (place, size) in photos.items():
        if labels.get(key) is None:
            raise ValueError(f"{name}: the photo {key!r} has no label in a .cls or .json beside it")
        yield f"{name}#{key}", name, place, size, labels[key]


def _shard_label(kind: str, content: bytes) -> Any:
    if kind == "json":
        read = json.loads(content)
        return read.get("label", read.get("cls")) if isinstance(read, dict) else None
    text = content.decode().strip()
    return int(text) if text.isdecimal() else text


def _numbers(
    read: Callable[[Path, str], Iterator[_Row]],
    root: Path,
    files: Sequence[str],
    class_names: tuple[str, ...] | None,
    source: Path,
) -> dict[str, int] | None:
    """The model's class of each label that is a name; None when labels are numbers."""
    first = next((row for name in files for row in read(root, name)), None)
    if first is None:
        raise ValueError(f"source={str(source)!r} has no photos")
    if not isinstance(first[4], str):
        return None
    own = sorted({_name_of(row) for name in files for row in read(root, name)})
    match = ClassMatch.own(own).onto(class_names)
    return {name: int(match.label(i)) for i, name in enumerate(own)}


def _name_of(row: _Row) -> str:
    if not isinstance(row[4], str):
        raise _no_label(row)
    return row[4]


def _class_of(row: _Row, numbers: Mapping[str, int] | None) -> int:
    """A label as the model counts them."""
    label = row[4]
    if numbers is not None:
        return numbers[_name_of(row)]
    if not isinstance(label, (int, np.integer)) or isinstance(label, bool) or label < 0:
        raise _no_label(row)
    return int(label)


def _no_label(row: _Row) -> ValueError:
    return ValueError(
        f"the label of {row[0]} is {row[4]!r}, expected a class index, or names everywhere"
    )


def _column(names: Sequence[str], known: Sequence[str], file: str) -> str:
    found = [name for name in names if name.lower() in known]
    if not found:
        raise ValueError(
            f"{file} has the columns {', '.join(names)}, expected one of {', '.join(known)}"
        )
    return found[0]


def _row_starts(rows: Any) -> list[int]:
    counts = [rows.metadata.row_group(i).num_rows for i in range(rows.metadata.num_row_groups)]
    return [0, *np.cumsum(counts[:-1]).tolist()]
