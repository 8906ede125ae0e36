"""Pictures on one sheet, with a few legible words under each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from captum_neuroinspect.optvis._checks import check_at_least

_FONT_SIZE = 13
_LINE = 18
_GAP = 8
# Narrower pictures are centred in a cell of this width, so that a caption stays legible.
_MIN_CELL = 150
_PAPER, _INK = "white", "black"
_ELLIPSIS = "..."


def contact_sheet(
    pictures: Sequence[Image.Image], captions: Sequence[str], columns: int | None = None
) -> Image.Image:
    """Put pictures of one size on white paper, row by row.

    Args:
        pictures: at least one.
        captions: one text per picture, lines separated by newlines; a line that is
            too long for its column ends in an ellipsis.
        columns: pictures in a row; by default as square as possible.

    Raises:
        ValueError: when there is no picture or ``columns`` is below 1.
    """
    if not pictures:
        raise ValueError("no pictures, expected at least one for a sheet")
    columns = math.ceil(math.sqrt(len(pictures))) if columns is None else columns
    check_at_least("columns", columns, 1)
    columns = min(columns, len(pictures))
    width, height = pictures[0].size
    cell_width = max(width, _MIN_CELL) + _GAP
    n_lines = max(caption.count("\n") + 1 for caption in captions)
    cell_height = height + n_lines * _LINE + 2 * _GAP
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * cell_width + _GAP, rows * cell_height + _GAP), _PAPER)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = _GAP + number % columns * cell_width
        top = _GAP + number // columns * cell_height
        sheet.paste(picture, (left + (cell_width - _GAP - width) // 2, top))
        _write(sheet, caption, left, top + height + _GAP // 2, cell_width - _GAP)
    return sheet


def _write(sheet: Image.Image, caption: str, left: int, top: int, width: int) -> None:
    draw = ImageDraw.Draw(sheet)
    font = _font()
    for number, line in enumerate(caption.split("\n")):
        text = _fitted(line, width, font)
        draw.text((left + width // 2, top + number * _LINE), text, _INK, font, anchor="ma")


@cache
def _font() -> ImageFont.FreeTypeFont:
    # Pillow's own font has no umlauts; matplotlib's has Latin, Greek and Cyrillic.
    import matplotlib

    return ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), _FONT_SIZE
    )


def _fitted(line: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(line) <= width:
        return line
    kept = len(line)
    while kept and font.getlength(line[:kept] + _ELLIPSIS) > width:
        kept -= 1
    return line[:kept].rstrip() + _ELLIPSIS
