"""The picture of the packages is the package's own, and no two classes have one name."""

from __future__ import annotations

import ast
import runpy
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "module_graph.py"))
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_picture_is_up_to_date() -> None:
    assert SCRIPT["with_graphs"](PAGE) == PAGE, "run `python docs/module_graph.py`"
    assert PAGE.count("```mermaid") == PAGE.count("<!-- graph of") == 2


@pytest.mark.parametrize("parent", ["captum_neuroinspect", "captum_neuroinspect.inspection"])
def test_every_package_is_drawn_and_described(parent: str) -> None:
    for room in SCRIPT["room_graph"](parent):
        assert f'    {room}["{room}"]\n' in PAGE
        assert f"| `{room}` | " in PAGE


def test_arrows_that_a_longer_way_implies_are_left_out() -> None:
    graph = {"c": {"a", "b"}, "b": {"a"}, "a": set()}
    assert SCRIPT["reduced"](graph) == {"c": {"b"}, "b": {"a"}, "a": set()}
    with pytest.raises(ValueError, match=r"in a circle: \w -> \w -> \w"):
        SCRIPT["reduced"]({"a": {"b"}, "b": {"a"}})


def test_no_two_classes_have_one_name() -> None:
    names = Counter[str]()
    for path in (ROOT / "captum_neuroinspect").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names.update(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, n in names.items() if n > 1] == []
