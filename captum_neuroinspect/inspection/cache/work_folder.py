"""A folder that keeps expensive results, so that a second run starts where the first ended."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.files import clear_partial, read_text, write_text
from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect._core.locks import locked
from captum_neuroinspect.inspection.cache.entry import (
    RECORD,
    CacheEntry,
    NotUsableError,
    explained,
)

if TYPE_CHECKING:
    from captum_neuroinspect.optvis import Illusions

T = TypeVar("T")


class WorkFolder:
    """Keeps results by what they depend on.

    A result lies in ``<path>/<kind>/<hash>.<checksum>.<suffix>``; beside it
    ``<hash>.entry.json`` says in plain words what it is: its kind, its key, its file,
    size, SHA-256 and when it was made. Both are written aside, brought onto the disk
    and moved into place, the record last: after an interrupt at any point, also by
    SIGKILL, a result is there whole or not at all.

    One result is made by one process at a time; another that wants it waits and then
    reads it, as doing the work twice may cost minutes. The lock is the operating
    system's and ends with its holder, so nothing has to be cleaned up.

    Args:
        path: made with the first result.

    Examples::

        >>> import tempfile
        >>> work = WorkFolder(tempfile.mkdtemp())
        >>> work.json("answer", {"seed": 0}, lambda: {"n": 42})
        {'n': 42}
        >>> work.json("answer", {"seed": 0}, lambda: {"n": "not asked again"})
        {'n': 42}
        >>> [entry["key"] for entry in work.entries()]
        [{'seed': 0}]
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"path={str(self.path)!r} is a file, expected a folder")
        for folder in self.path.glob("*/"):
            clear_partial(folder)

    def __repr__(self) -> str:
        return f"WorkFolder({str(self.path)!r})"

    def get_or_make(
        self,
        kind: str,
        key: Mapping[str, Any],
        make: Callable[[], T],
        save: Callable[[T, Path], object],
        load: Callable[[Path], T],
        *,
        suffix: str = ".safetensors",
        fresh: bool = False,
    ) -> T:
        """The kept result, or a new one that is then kept.

        A result whose file is damaged or cannot be loaded, or that another version of this
        package made, is reported in a ``UserWarning`` and made again. From a folder without
        write access results are read; when one would have to be made, the error comes before
        the work.

        Args:
            kind: lower-case letters, digits, ``-`` and ``_``.
            key: all that the result depends on: numbers, strings, paths, lists and
                dictionaries of them.
            make: the work.
            save: writes a value into a file, such as ``FeatureSet.save``.
            load: reads it back.
            suffix: of the file.
            fresh: make it again even if it is there.

        Raises:
            TypeError: when a part of ``key`` is no plain data.
            ValueError: for another ``kind``.
            OSError: when the folder cannot be written to; names it and says what to do.
        """
        entry = CacheEntry.of(self.path, kind, key, suffix)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(entry.lock))
            except OSError:
                found = None if fresh else _found(entry, load)
                if found is not None:
                    return found[0]
                with explained(entry.folder):
                    raise
            found = None if fresh else _found(entry, load)
            if found is not None:
                return found[0]
            value = make()
            entry.write(value, save)
            return value

    def features(
        self, key: Mapping[str, Any], make: Callable[[], FeatureSet], *, fresh: bool = False
    ) -> FeatureSet:
        """:meth:`get_or_make` for features."""
        load = FeatureSet.load
        return self.get_or_make("features", key, make, FeatureSet.save, load, fresh=fresh)

    def illusions(
        self, key: Mapping[str, Any], make: Callable[[], Illusions], *, fresh: bool = False
    ) -> Illusions:
        """:meth:`get_or_make` for illusions."""
        from captum_neuroinspect.optvis import Illusions

        load = Illusions.load
        return self.get_or_make("illusions", key, make, Illusions.save, load, fresh=fresh)

    def tensors(
        self,
        kind: str,
        key: Mapping[str, Any],
        make: Callable[[], dict[str, Tensor]],
        *,
        check: Callable[[dict[str, Tensor]], object] | None = None,
        fresh: bool = False,
    ) -> dict[str, Tensor]:
        """:meth:`get_or_make` for tensors by name.

        ``check`` raises for kept tensors that are something else: then they are made again.
        """

        def save(values: dict[str, Tensor], path: Path) -> None:
            write_kept(path, "tensors", values, {})

        def load(path: Path) -> dict[str, Tensor]:
            tensors = read_kept(path, "tensors")[0]
            if check is not None:
                check(tensors)
            return tensors

        return self.get_or_make(kind, key, make, save, load, fresh=fresh)

    def json(
        self,
        kind: str,
        key: Mapping[str, Any],
        make: Callable[[], T],
        *,
        check: Callable[[T], object] | None = None,
        fresh: bool = False,
    ) -> T:
        """:meth:`get_or_make` for plain data: tuples come back as lists.

        ``check`` raises for kept data that are something else: then they are made again.
        """

        def save(value: T, path: Path) -> None:
            write_text(path, json.dumps(value, indent=2) + "\n")

        def load(path: Path) -> Any:
            value = json.loads(read_text(path))
            if check is not None:
                check(value)
            return value

        return self.get_or_make(kind, key, make, save, load, suffix=".value.json", fresh=fresh)

    def has(self, kind: str, key: Mapping[str, Any], *, suffix: str = ".safetensors") -> bool:
        """Whether a result is kept; it is not read."""
        return CacheEntry.of(self.path, kind, key, suffix).record.exists()

    def remove(self, kind: str, key: Mapping[str, Any], *, suffix: str = ".safetensors") -> None:
        """Forget a result, if there is one."""
        entry = CacheEntry.of(self.path, kind, key, suffix)
        if entry.folder.is_dir():
            with explained(entry.folder), locked(entry.lock):
                entry.remove()

    def entries(self) -> Iterator[dict[str, Any]]:
        """The record of every kept result: what its file is, and what it depends on."""
        for record in sorted(self.path.glob(f"*/*{RECORD}")):
            try:
                content: dict[str, Any] = json.loads(read_text(record))
            except (OSError, ValueError, RecursionError):
                continue  # being replaced, or damaged: get_or_make reports it
            yield content


def _found(entry: CacheEntry, load: Callable[[Path], T]) -> tuple[T] | None:
    try:
        return entry.read(load)
    except NotUsableError as error:
        warnings.warn(f"a kept result {error}", stacklevel=4)
        return None
