"""Models that a function in a user's own Python file makes."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from captum_neuroinspect.models._known_code import WatchedLoader, package_root
from captum_neuroinspect.models._recipe import Built, Recipe, Wanted
from captum_neuroinspect.photos.view import View

_N_CLASSES = ("n_classes", "num_classes")


class FileSource:
    """A function of a Python file that returns a module or ``(module, preprocess)``.

    The file is run, as ``python file.py`` would run it, and may import its neighbours.

    Args:
        path: the file.
        function: takes nothing, or ``n_classes`` / ``num_classes``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it has no such function.
    """

    def __init__(self, path: str, function: str) -> None:
        self._path, self._name = Path(path).expanduser().resolve(), function
        if not self._path.is_file():
            raise FileNotFoundError(f"spec='{path}:{function}': there is no file {self._path}")
        self._spec = f"{self._path.name}:{function}"
        with _importing_from(self._path):
            module = _run(self._path)
        self._factory = getattr(module, function, None)
        if not callable(self._factory):
            raise ValueError(f"{self._path} has no function {function!r} that could be called")

    def build(self, n_classes: int | None) -> Built:
        assert callable(self._factory)
        options = {} if n_classes is None else {self._n_classes_argument(): n_classes}
        with _importing_from(self._path):
            made = self._factory(**options)
        model, preprocess = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(model, nn.Module) or not (preprocess is None or callable(preprocess)):
            raise TypeError(
                f"{self._spec} returned {_kinds(made)}, expected an nn.Module or "
                "(nn.Module, preprocess), preprocess from images in 0..1 to the model's input"
            )

        def recipe(wanted: Wanted) -> Recipe:
            return Recipe(preprocess or nn.Identity(), wanted.applied_to(View.of(224)), "nobody")

        return Built(model, recipe, f"as {self._spec} made them", n_classes)

    def pretrained(self, weights: str) -> Built:
        if weights != "DEFAULT":
            raise ValueError(
                f"weights={weights!r} is no file, and {self._spec} has no named weights"
            )
        return self.build(None)

    def adapt(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Nothing: it has no parts that may be missing."""

    def _n_classes_argument(self) -> str:
        factory: Callable[..., Any] = self._factory  # type: ignore[assignment]
        parameters = inspect.signature(factory).parameters
        for name in _N_CLASSES:
            if name in parameters:
                return name
        raise ValueError(
            f"{self._spec} takes no number of classes: give it an argument `n_classes`, or "
            "let it build the model with the head of the checkpoint"
        )


def _run(path: Path) -> Any:
    if _is_in_package(path):
        return _run_in_package(path)
    # A name of its own: a user's `models.py` must not hide a library's.
    name = f"_neuroinspect_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=WatchedLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look modules up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_in_package(path: Path) -> bool:
    """Whether a file says `from .neighbour import`."""
    with suppress(SyntaxError, ValueError):  # running the file says more of these
        nodes = ast.walk(ast.parse(path.read_bytes()))
        return any(isinstance(node, ast.ImportFrom) and node.level > 0 for node in nodes)
    return False


def _run_in_package(path: Path) -> Any:
    """Run a file as part of the package whose folder it lies in, with its `__init__.py`."""
    root = package_root(path)
    place = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    # A name of its own, as above; what an earlier call imported may have changed since.
    package = f"_neuroinspect_package_{place}"
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]
    start = root / "__init__.py"
    spec = importlib.machinery.ModuleSpec(package, None, is_package=True)
    if start.is_file():
        spec.loader = WatchedLoader(package, str(start))
        spec.origin, spec.has_location = str(start), True
    spec.submodule_search_locations = [str(root)]
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    try:
        if spec.loader is not None:
            spec.loader.exec_module(module)
        inside = path.relative_to(root).with_suffix("").parts
        return importlib.import_module(".".join((package, *inside)))
    except ImportError as error:
        if "beyond top-level package" not in str(error):
            raise
        raise ValueError(
            f"{path} imports from above {root}, which has no __init__.py: put one there, and into "
            "each folder between"
        ) from error


@contextmanager
def _importing_from(path: Path) -> Iterator[None]:
    """Find the neighbours of a file, and its package by its own name."""
    folders = [str(path.parent), str(package_root(path).parent)]
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)


def _kinds(made: Any) -> str:
    if isinstance(made, tuple):
        return f"({', '.join(type(item).__name__ for item in made)})"
    return type(made).__name__
