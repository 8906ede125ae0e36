"""Waterbirds as published (Sagawa et al. 2020, arXiv 1911.08731).

The archive has photos and ``metadata.csv`` with the columns ``img_filename``, ``y`` (1:
waterbird), ``split`` (0: training, 1: validation, 2: test) and ``place`` (1: water). In training
95 % of each kind stand before their own place; in validation and test photos half do.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from captum_neuroinspect.experiments.downloads import Archive, ensure

CLASSES = ("landbird", "waterbird")
COLUMNS = ("img_filename", "y", "split", "place")
TRAIN, VALIDATION, TEST = 0, 1, 2
FOLDER = "waterbird_complete95_forest2water2"
TABLE = "metadata.csv"
# Its publishers give no hash; the archive's own check sums and the table tell damage.
ARCHIVE = Archive(
    f"https://nlp.stanford.edu/data/dro/{FOLDER}.tar.gz", None, "11,788 photos", inner=FOLDER
)


@dataclass(frozen=True)
class Bird:
    """One photo.

    Attributes:
        path: its file.
        label: position in ``CLASSES``.
        split: 0 training, 1 validation, 2 test.
        place: 0 land, 1 water.
    """

    path: Path
    label: int
    split: int
    place: int


def find_waterbirds(data: Path, *, download: bool = False) -> Path:
    """The unpacked archive: ``data`` itself, or in it.

    Raises:
        FileNotFoundError: when it is not there; says what to download, from where, and where to
            put it.
        RuntimeError: when it cannot be downloaded.
        ValueError: when the archive is cut off or another one.
    """
    if (data / TABLE).is_file():
        return data
    ensure((ARCHIVE,), data, download=download, what="Waterbirds")
    return ARCHIVE.place(data)


def read_birds(folder: Path) -> list[Bird]:
    """All photos of the unpacked archive.

    Raises:
        FileNotFoundError: without ``metadata.csv``; says what belongs there.
        ValueError: for missing columns, other values, or a photo that is not there.
    """
    path = folder / TABLE
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing, expected the unpacked archive {FOLDER}")
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        if missing := set(COLUMNS) - set(table.fieldnames or ()):
            raise ValueError(f"{path} lacks the columns {sorted(missing)}")
        lines = list(table)
    birds = [
        Bird(folder / line["img_filename"], *(int(line[c]) for c in ("y", "split", "place")))
        for line in lines
    ]
    for one in birds:
        if one.label not in (0, 1) or one.place not in (0, 1) or one.split not in (0, 1, 2):
            raise ValueError(f"{path}: y={one.label}, split={one.split}, place={one.place}")
    if absent := [one.path for one in birds if not one.path.is_file()]:
        raise ValueError(f"{len(absent)} of {len(birds)} photos are missing, such as {absent[0]}")
    return birds
