"""Models that a function in a user's own Python file makes."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from captum_neuroinspect.inspection._models.recipe import Built, Recipe

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
        with _importing_from(self._path.parent):
            module = _run(self._path)
        self._factory = getattr(module, function, None)
        if not callable(self._factory):
            raise ValueError(f"{self._path} has no function {function!r} that could be called")

    def build(self, n_classes: int | None) -> Built:
        assert callable(self._factory)
        options = {} if n_classes is None else {self._n_classes_argument(): n_classes}
        with _importing_from(self._path.parent):
            made = self._factory(**options)
        model, preprocess = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(model, nn.Module) or not (preprocess is None or callable(preprocess)):
            raise TypeError(
                f"{self._spec} returned {_kinds(made)}, expected an nn.Module or "
                "(nn.Module, preprocess), preprocess from images in 0..1 to the model's input"
            )
        recipe = Recipe() if preprocess is None else Recipe(preprocess)
        return Built(model, recipe, f"as {self._spec} made them", n_classes)

    def pretrained(self, weights: str) -> Built:
        if weights != "DEFAULT":
            raise ValueError(
                f"weights={weights!r} is no file, and {self._spec} has no named weights"
            )
        return self.build(None)

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
    # A name of its own: a user's `models.py` must not hide a library's.
    name = f"_neuroinspect_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
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


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _kinds(made: Any) -> str:
    if isinstance(made, tuple):
        return f"({', '.join(type(item).__name__ for item in made)})"
    return type(made).__name__
