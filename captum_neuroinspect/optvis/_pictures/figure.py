"""Pictures in a matplotlib figure, with a title over each."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from captum_neuroinspect.optvis._pictures.sheet import check_captions, n_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = 2.2  # inches
_LINE = 0.16  # inches
_PAD = 0.08  # inches
_CHARACTERS = 28
_DPI = 110


def picture_figure(
    pictures: Sequence[Image.Image], titles: Sequence[str] | None, columns: int | None = None
) -> Figure:
    """Draw pictures of one size row by row.

    Args:
        pictures: at least one.
        titles: one per picture, lines separated by newlines; long lines go on in the
            next one. ``None``: pictures only.
        columns: pictures in a row; by default as square as possible.

    Returns:
        A figure that belongs to no window.

    Raises:
        ValueError: when there is no picture, ``columns`` is below 1, or there are more
            or fewer titles than pictures.
    """
    columns = n_columns(len(pictures), columns)
    texts = [""] * len(pictures) if titles is None else [_wrapped(title) for title in titles]
    check_captions(texts, len(pictures))
    # Imports that take long, for those who draw.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = math.ceil(len(pictures) / columns)
    n_lines = max(title.count("\n") + 1 for title in texts)
    width, height = pictures[0].size
    row_height = _CELL * height / width + n_lines * _LINE + 2 * _PAD
    layout = ConstrainedLayoutEngine(h_pad=_PAD)
    figure = Figure((_CELL * columns, row_height * rows), dpi=_DPI, layout=layout)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, picture, title in zip(grid.flat, pictures, texts, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        # A class may be called "$1 bill", which is no formula.
        axes.set_title(title, fontsize="small", parse_math=False)
    return figure


def _wrapped(title: str) -> str:
    lines = (
        textwrap.wrap(line, _CHARACTERS, max_lines=2, placeholder="...")
        for line in title.split("\n")
    )
    return "\n".join(part for parts in lines for part in parts)
