"""Pictures on sheets: a file for three dozen of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from captum_neuroinspect._core.files import write_atomically

# A sheet of 128-pixel pictures is 2.4 MB when a browser has decoded it: a page of hits that are
# on as many sheets stays light.
PER_ROW, PER_SHEET = 6, 36
_QUALITY = 90  # WebP; without loss they are four times as large
_FOLDER = "sheets"


def sheet_name(number: int) -> str:
    """Where a sheet is, as the page names it."""
    return f"{_FOLDER}/sheet-{number:04d}.webp"


class Sheets:
    """Writes sheets, each again only when it has more pictures.

    Args:
        folder: of the page.
        size: pixels a side of a picture.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self._written: dict[int, tuple[str | None, ...]] = {}

    def write(self, digests: Sequence[str | None], picture: Callable[[int], Image.Image]) -> None:
        """Bring all sheets up to date.

        Args:
            digests: of each picture, ``None`` where it is not there yet.
            picture: gives one by its number.
        """
        for number in range(-(-len(digests) // PER_SHEET)):
            first = number * PER_SHEET
            content = tuple(digests[first : first + PER_SHEET])
            if self._written.get(number) != content and any(content):
                self._write(number, content, picture)
                self._written[number] = content

    def _write(
        self,
        number: int,
        content: tuple[str | None, ...],
        picture: Callable[[int], Image.Image],
    ) -> None:
        first, n_rows = number * PER_SHEET, -(-len(content) // PER_ROW)
        sheet = Image.new("RGB", (PER_ROW * self._size, n_rows * self._size))
        for place, digest in enumerate(content):
            if digest is not None:
                row, column = divmod(place, PER_ROW)
                shown = picture(first + place).convert("RGB")
                sheet.paste(shown, (column * self._size, row * self._size))
        write_atomically(
            self._folder / sheet_name(number),
            lambda path: sheet.save(path, format="WEBP", quality=_QUALITY, method=4),
        )
