"""What README, docs and tutorials import is public, and can be called by a person."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *TUTORIALS]
FACES = [
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in sorted((ROOT / "captum_neuroinspect").rglob("__init__.py"))
    if "__all__" in path.read_text(encoding="utf-8") and path.parent.name[0] != "_"
]
MAX_PARAMETERS = 16


def _code(page: Path) -> Iterator[str]:
    """The Python of a page: its blocks, or the cells of a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        for cell in cells:
            if cell["cell_type"] == "code":
                # Notebooks have lines that are not Python, such as `%matplotlib inline`.
                yield "".join(line for line in cell["source"] if line[0] not in "%!")
    else:
        yield from re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def _imported(page: Path) -> Iterator[tuple[str, str]]:
    """Module and name of all that a page takes from the package."""
    for code in _code(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.module or "", alias.name) for alias in node.names)


def _is_face(module: str, page: Path) -> bool:
    return module in FACES or (
        page in TUTORIALS and module.startswith("captum_neuroinspect.experiments.")
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_imports_go_through_a_public_face(page: Path) -> None:
    for module, name in _imported(page):
        if module.split(".")[0] != "captum_neuroinspect":
            continue
        assert _is_face(module, page), f"{page.name} imports from {module}"
        found = importlib.import_module(module)
        if module in FACES and name:
            assert name in found.__all__, f"{page.name} imports {name} from {module}"
        assert not name.startswith("_")
        assert not name or hasattr(found, name)


def test_pages_import_something() -> None:
    assert sum(m.startswith("captum_neuroinspect") for p in PAGES for m, _ in _imported(p)) > 20


@pytest.mark.parametrize("face", FACES[1:])
def test_a_face_has_a_page_of_the_reference(face: str) -> None:
    page = ROOT / "docs" / "api" / f"{face.partition('.')[2]}.md"
    assert f"automodule:: {face}\n" in page.read_text(encoding="utf-8")


def _callables(face: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(face)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            if not is_dataclass(value):
                yield name, value.__init__
            methods = inspect.getmembers(value, inspect.isroutine)
            yield from ((f"{name}.{m}", call) for m, call in methods if not m.startswith("_"))
        elif callable(value):
            yield name, value


@pytest.mark.parametrize("face", FACES)
def test_a_public_function_has_few_parameters(face: str) -> None:
    """More belong in an object of options."""
    for name, call in _callables(face):
        try:
            parameters = [*inspect.signature(call).parameters]
        except ValueError:  # of a class of Python's own
            continue
        n = len(parameters) - (parameters[:1] == ["self"])
        assert n <= MAX_PARAMETERS, f"{face}.{name} has {n} parameters"
