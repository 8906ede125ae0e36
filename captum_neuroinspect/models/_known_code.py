"""Python files that a run names: run only where their user ran that very content before.

A run folder may come from someone else, and its ``run.json`` may name a Python file. What is
in the file decides, not its name, and so for every file beside it that it imports.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from platformdirs import user_cache_path

from captum_neuroinspect._core.files import read_text


def watch(spec: str, *, trusted: bool) -> None:
    """From now on look at each Python file that a model's file and its neighbours are.

    Args:
        spec: of the model; only ``file.py:function`` names code.
        trusted: run and remember them. Else those alone run whose content is remembered.
    """
    in_file = re.fullmatch(r"(.+\.py):(\w+)", spec)
    if in_file is None:
        return
    file = Path(in_file[1]).expanduser().resolve()
    # The file may be a part of a package, whose other parts run with it.
    for folder in (package_root(file), file.parent):
        _watcher.folders[folder] = trusted
    if _watcher not in sys.meta_path:
        _watcher.places = [Path(place).resolve() for place in sys.path]
        sys.meta_path.insert(0, _watcher)


def package_root(path: Path) -> Path:
    """The highest folder above a file that is a package; at least its own."""
    root = path.parent
    while (root / "__init__.py").is_file() and (root.parent / "__init__.py").is_file():
        root = root.parent
    return root


class WatchedLoader(SourceFileLoader):
    """Runs the very text that was looked at, never a ``.pyc`` that lies beside it."""

    def get_code(self, fullname: str) -> CodeType:
        content = self.get_data(self.path)
        _watcher.check(Path(self.path), content)
        code: CodeType = self.source_to_code(content, self.path)
        return code


class _Watcher(MetaPathFinder):
    """Stands before Python's finders, and stays: models import while they run, too.

    Attributes:
        folders: of models' files, and whether what is in them is trusted.
        places: where Python looked for modules when it began.
    """

    def __init__(self) -> None:
        self.folders: dict[Path, bool] = {}
        self.places: list[Path] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not spec.has_location or spec.origin is None:
            return None
        file = Path(spec.origin)
        if self._trust(file) is None:
            return None
        if type(spec.loader) is SourceFileLoader:
            spec.loader = WatchedLoader(fullname, spec.origin)
        else:  # compiled: read here, run by Python
            self.check(file, file.read_bytes())
        return spec

    def check(self, file: Path, content: bytes) -> None:
        """Remember what is trusted, and refuse what is neither trusted nor remembered.

        Raises:
            RuntimeError: says what to do.
        """
        trusted = self._trust(file)
        if trusted is None:
            return
        digest = hashlib.sha256(content).hexdigest()
        if trusted:
            _remember(digest)
        elif digest not in _remembered():
            raise RuntimeError(
                f"{file} is Python code that this run names, and you have not run this very "
                "content before: it was not run. Look at it, and give --trust if it may run; "
                "`neuroinspect inspect` makes a run of your own"
            )

    def _trust(self, file: Path) -> bool | None:
        """Whether a file is trusted; ``None`` for what is installed, of which nothing is asked."""
        file = file.resolve()
        for folder, trusted in reversed(self.folders.items()):
            within = [place for place in self.places if folder in place.parents]
            is_installed = any(place in file.parents for place in within)
            if folder in file.parents and not is_installed:
                return trusted
        if not self.folders or any(place in file.parents for place in self.places):
            return None
        return next(reversed(self.folders.values()))  # of a folder that the code itself added


_watcher = _Watcher()


def _store() -> Path:
    return user_cache_path("captum-neuroinspect") / "python-files-that-ran.txt"


def _remembered() -> set[str]:
    try:
        return set(read_text(_store()).split())
    except (OSError, ValueError):
        return set()


def _remember(digest: str) -> None:
    if digest in _remembered():
        return
    with suppress(OSError):  # no home, or no space: it is asked for again
        _store().parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(_store(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "a") as file:
            file.write(f"{digest}\n")
