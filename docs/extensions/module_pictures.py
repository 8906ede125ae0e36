"""Mermaid's graphs as pictures in the page, drawn here: no script from elsewhere."""

from __future__ import annotations

import re
from html import escape
from typing import Any

WIDTH, HEIGHT, GAP_X, GAP_Y = 104, 30, 18, 44


def floors(edges: list[tuple[str, str]]) -> dict[str, int]:
    """How far above the lowest package each one lies."""
    found: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in found:
            found[name] = max((floor(low) + 1 for high, low in edges if high == name), default=0)
        return found[name]

    for edge in edges:
        for name in edge:
            floor(name)
    return found


def places(edges: list[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """Left upper corner of each box: a row a floor, the highest first."""
    floor_of = floors(edges)
    top = max(floor_of.values())
    rows = [sorted(name for name in floor_of if floor_of[name] == f) for f in range(top, -1, -1)]
    widest = max(len(row) for row in rows)
    found = {}
    for y, row in enumerate(rows):
        left = (widest - len(row)) * (WIDTH + GAP_X) / 2
        for x, name in enumerate(row):
            found[name] = (left + x * (WIDTH + GAP_X), y * (HEIGHT + GAP_Y))
    return found


def picture(source: str) -> str:
    """An SVG of `a --> b` lines."""
    edges = [(a, b) for a, b in re.findall(r"^\s*(\w+) --> (\w+)\s*$", source, re.MULTILINE)]
    at = places(edges)
    width = max(x for x, _ in at.values()) + WIDTH
    height = max(y for _, y in at.values()) + HEIGHT
    lines = [
        f'<line x1="{at[a][0] + WIDTH / 2}" y1="{at[a][1] + HEIGHT}" '
        f'x2="{at[b][0] + WIDTH / 2}" y2="{at[b][1]}" marker-end="url(#arrow)"/>'
        for a, b in edges
    ]
    boxes = [
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
        f'<text x="{x + WIDTH / 2}" y="{y + HEIGHT / 2}">{escape(name)}</text>'
        for name, (x, y) in at.items()
    ]
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8"/></marker></defs>'
    )
    names = ", ".join(f"{a} imports {b}" for a, b in edges)
    return (
        f'<svg class="modules" role="img" aria-label="{escape(names)}" '
        f'viewBox="-2 -2 {width + 4} {height + 4}">{arrow}{"".join(lines + boxes)}</svg>'
    )


def draw(app: Any, doctree: Any) -> None:
    """Put a picture where a block of Mermaid stands."""
    from docutils import nodes

    for block in list(doctree.findall(nodes.literal_block)):
        if block.get("language") == "mermaid":
            block.replace_self(nodes.raw("", picture(block.astext()), format="html"))


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
