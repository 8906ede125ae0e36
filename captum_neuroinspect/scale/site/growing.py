"""The page of an atlas, written once, or again and again while pairs are added."""

from __future__ import annotations

import time
from pathlib import Path

from captum_neuroinspect._core.files import write_text
from captum_neuroinspect.scale.atlas_folder import AtlasFolder
from captum_neuroinspect.scale.site import words as of_words
from captum_neuroinspect.scale.site.page import page_of
from captum_neuroinspect.scale.site.sheets import Sheets

PAGE = "index.html"
_SECONDS = 60.0  # between two pages of one that grows
_SHARE = 0.05  # of the time that pages may take


class GrowingSite:
    """A page that is readable at any time.

    Args:
        folder: of the atlas, in which it was begun.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sheets: Sheets | None = None
        self._last, self._took = time.monotonic(), 0.0

    def refresh(self) -> None:
        """Write it again, if the last time is a while ago."""
        if time.monotonic() - self._last > max(_SECONDS, self._took / _SHARE):
            self.write()

    def write(self) -> Path:
        """Write it, from what is in the folder now.

        Raises:
            OSError: when it cannot be written, or no atlas was begun there.
            ValueError: when the folder holds something else.
        """
        began = time.monotonic()
        atlas = AtlasFolder.read(self._folder)
        if self._sheets is None:
            self._sheets = Sheets(self._folder, atlas.plan["settings"]["size"])
        digests = [None if one is None else one["sha256"] for one in atlas.records]
        # Pictures first: a page never speaks of one that is on no sheet.
        self._sheets.write(digests, lambda pair: atlas.illusion(pair).to_pil()[0])
        page = write_text(self._folder / PAGE, page_of(atlas, of_words.kept(self._folder)))
        self._last = time.monotonic()
        self._took = self._last - began
        return page


def write_atlas_site(folder: str | Path, *, words: str | Path | None = None) -> Path:
    """Write the page of an atlas again, from its pairs alone: no model is loaded.

    Args:
        folder: that :func:`~captum_neuroinspect.scale.render_atlas` finished, or began.
        words: a CSV of phrases, as ``neuroinspect describe`` writes it. ``None``: those that the
            folder has.

    Returns:
        The page, ``index.html`` in the folder.

    Raises:
        OSError: when no atlas was begun there, or the page cannot be written.
        ValueError: when the folder holds something else, or the CSV has other columns.
    """
    folder = Path(folder)
    AtlasFolder.read(folder)
    if words is not None:
        of_words.keep(of_words.read_table(words), folder)
    return GrowingSite(folder).write()
