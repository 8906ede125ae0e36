"""Pictures side by side with a few legible words: on a sheet, or in a matplotlib figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Resampling

from captum_neuroinspect._core.checks import check_at_least, check_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FONT_SIZE = 13
_LINE = 18
_GAP = 8
# Narrower pictures are enlarged and centred in a cell of this width, so that a caption
# stays legible and the picture does not get lost over it.
_MIN_CELL = 150
_PAPER, _INK = "white", "black"
_ELLIPSIS = "..."
# Of a figure, in inches.
_FIGURE_CELL, _FIGURE_LINE, _FIGURE_PAD = 2.2, 0.16, 0.08
_CHARACTERS = 28
_DPI = 110


def contact_sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str] | None,
    columns: int | None = None,
    title: str = "",
) -> Image.Image:
    """Put pictures of one size on white paper, row by row.

    Args:
        pictures: at least one.
        captions: one text per picture, lines separated by newlines; a line that is
            too long for its column ends in an ellipsis. ``None``: pictures only, as
            small as they are.
        columns: pictures in a row; by default as square as possible.
        title: one line above all.

    Raises:
        ValueError: when there is no picture, ``columns`` is below 1, or there are more
            or fewer captions than pictures.
    """
    columns = _n_columns(len(pictures), columns)
    texts = [""] * len(pictures) if captions is None else captions
    _check_captions(texts, len(pictures))
    cell_width, below = pictures[0].width, 0
    if captions is not None:
        pictures = [_enlarged(picture) for picture in pictures]
        cell_width = max(pictures[0].width, _MIN_CELL)
        below = _GAP + _LINE * max(caption.count("\n") + 1 for caption in captions)
    width, height = pictures[0].size
    above = _GAP + (_LINE if title else 0)
    rows = math.ceil(len(pictures) / columns)
    size = columns * (cell_width + _GAP) + _GAP, rows * (height + below + _GAP) + above
    sheet = Image.new("RGB", size, _PAPER)
    _write(sheet, title, _GAP, _GAP // 2, size[0] - 2 * _GAP)
    for number, (picture, caption) in enumerate(zip(pictures, texts, strict=True)):
        left = _GAP + number % columns * (cell_width + _GAP)
        top = above + number // columns * (height + below + _GAP)
        sheet.paste(picture, (left + (cell_width - width) // 2, top))
        _write(sheet, caption, left, top + height + _GAP // 2, cell_width)
    return sheet


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
    columns = _n_columns(len(pictures), columns)
    texts = [""] * len(pictures) if titles is None else [_wrapped(title) for title in titles]
    _check_captions(texts, len(pictures))
    # Imports that take long, for those who draw.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = math.ceil(len(pictures) / columns)
    n_lines = max(title.count("\n") + 1 for title in texts)
    width, height = pictures[0].size
    row_height = _FIGURE_CELL * height / width + n_lines * _FIGURE_LINE + 2 * _FIGURE_PAD
    layout = ConstrainedLayoutEngine(h_pad=_FIGURE_PAD)
    figure = Figure((_FIGURE_CELL * columns, row_height * rows), dpi=_DPI, layout=layout)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, picture, title in zip(grid.flat, pictures, texts, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        # A class may be called "$1 bill", which is no formula.
        axes.set_title(title, fontsize="small", parse_math=False)
    return figure


def _enlarged(picture: Image.Image) -> Image.Image:
    """A small picture, each pixel as a square."""
    scale = max(1, _MIN_CELL // picture.width)
    return picture.resize((scale * picture.width, scale * picture.height), Resampling.NEAREST)


def _n_columns(n_pictures: int, columns: int | None = None) -> int:
    """How many pictures stand in a row: by default as many as make a square.

    Raises:
        TypeError: when ``columns`` is no whole number.
        ValueError: when there is no picture or ``columns`` is below 1.
    """
    if n_pictures == 0:
        raise ValueError("no pictures, expected at least one for a sheet")
    columns = math.ceil(math.sqrt(n_pictures)) if columns is None else columns
    check_whole("columns", columns)
    check_at_least("columns", columns, 1)
    return min(columns, n_pictures)


def _check_captions(captions: Sequence[str], n_pictures: int) -> None:
    """Refuse more or fewer captions than pictures."""
    if len(captions) != n_pictures:
        raise ValueError(f"{len(captions)} captions, expected {n_pictures}: one per picture")


def _write(sheet: Image.Image, caption: str, left: int, top: int, width: int) -> None:
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(caption.split("\n") if caption else ()):
        text = _fitted(line, width, _font())
        draw.text((left + width // 2, top + number * _LINE), text, _INK, _font(), anchor="ma")


@cache
def _font() -> ImageFont.FreeTypeFont:
    # Pillow's own font has no umlauts; matplotlib's has Latin, Greek and Cyrillic.
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(str(path), _FONT_SIZE)  # Pillow 10.1 takes no path


def _fitted(line: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(line) <= width:
        return line
    kept = len(line)
    while kept and font.getlength(line[:kept] + _ELLIPSIS) > width:
        kept -= 1
    return line[:kept].rstrip() + _ELLIPSIS


def _wrapped(title: str) -> str:
    lines = (
        textwrap.wrap(line, _CHARACTERS, max_lines=2, placeholder="...")
        for line in title.split("\n")
    )
    return "\n".join(part for parts in lines for part in parts)
