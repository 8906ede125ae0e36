"""Draws the packages and their imports into ``docs/architecture.md``.

Run ``python docs/module_graph.py`` after imports changed; a test compares.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = "captum_neuroinspect"

Graph = Mapping[str, set[str]]


def room_graph(parent: str) -> Graph:
    """Which packages and modules directly in ``parent`` import which others there."""
    folder = ROOT.joinpath(*parent.split("."))
    graph: dict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.rglob("*.py")):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        # The face of the parent loads from every room by name.
        if room != "__init__":
            graph[room] |= set(_imports(path, parent)) - {room}
    rooms = set(graph)
    return {room: used & rooms for room, used in graph.items()}


def _imports(path: Path, parent: str) -> Iterator[str]:
    """The rooms of ``parent`` that a module imports from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from parent import room` names the room only behind the `import`.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        inside = (name for name in names if name.startswith(f"{parent}."))
        yield from (name.removeprefix(f"{parent}.").split(".")[0] for name in inside)


def reduced(graph: Graph) -> Graph:
    """Without the arrows that lead where a longer way leads too.

    Raises:
        ValueError: when there is a circle.
    """

    def reached(room: str, way: tuple[str, ...]) -> set[str]:
        if room in way:
            raise ValueError(f"the imports go in a circle: {' -> '.join((*way, room))}")
        return graph[room].union(*(reached(used, (*way, room)) for used in graph[room]))

    below = {room: reached(room, ()) for room in graph}
    return {
        room: {used for used in all_used if not any(used in below[o] for o in all_used - {used})}
        for room, all_used in graph.items()
    }


def mermaid(graph: Graph) -> str:
    """The graph in Mermaid's language, those that import above those that are imported."""
    arrows = [
        f"    {room} --> {used}" for room, all_used in graph.items() for used in sorted(all_used)
    ]
    rooms = [f'    {room}["{room}"]' for room in graph]
    return "\n".join(["```mermaid", "graph TD", *rooms, *arrows, "```"])


def with_graphs(page: str) -> str:
    """The page with each ``<!-- graph of X -->`` followed by the graph of X as it is now."""

    def drawn(found: re.Match[str]) -> str:
        graph = mermaid(reduced(room_graph(found[2])))
        return f"{found[1]}\n{graph}\n<!-- end -->"

    marked = r"(<!-- graph of ([\w.]+) -->)\n.*?<!-- end -->"
    return re.sub(marked, drawn, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_graphs(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
