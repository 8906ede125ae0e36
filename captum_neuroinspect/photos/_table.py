"""Photos in a table: a CSV or Parquet file of paths and labels."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_neuroinspect._core.class_names import ClassMatch, find_class, shortened
from captum_neuroinspect._core.files import check_file
from captum_neuroinspect._core.optional import TABLES, optional
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.photos._files import PhotoFiles

_PATHS = ("path", "file", "filename", "image", "file_name", "filepath", "file_path", "image_path")
_LABELS = ("label", "class", "target", "class_name", "labels")
_GROUP, _SPLIT = "group", "split"
_KINDS = r"csv|tsv|parquet|pq"
_Row = tuple[str, Mapping[str, Any]]  # where it stands, and its values by column


def table_and_split(path: Path) -> tuple[Path | None, str | None]:
    """A table's path, and what follows a colon behind it; ``None`` for another file.

    Examples::

        >>> table_and_split(Path("labels.csv:val"))
        (PosixPath('labels.csv'), 'val')
    """
    found = re.fullmatch(rf"(.+\.(?:{_KINDS}))(?::(.+))?", str(path), re.IGNORECASE)
    return (None, None) if found is None else (Path(found[1]), found[2])


def photos_in_table(
    path: Path, split: str | None, class_names: Sequence[str], *, must_exist: bool = True
) -> PhotoFiles:
    """Photos whose paths, relative to the table's folder, and labels are in columns.

    Args:
        path: of a file with a header: one column of :data:`_PATHS`, one of
            :data:`_LABELS`, and perhaps ``group`` and ``split``.
        split: the rows to take, by their value in the column ``split``.
        class_names: of the model: with them a number may be a name.
        must_exist: whether the first missing file is an error now.

    Raises:
        OSError: when there is no such table, or it may not be read.
        ImportError: when a Parquet file cannot be read here.
        ValueError: for missing columns or a bad row, which is named by its number.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"data={str(path)!r}: there is no such table")
    check_file(path)
    rows = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    if not rows:
        raise ValueError(f"data={str(path)!r} has no rows, expected one a photo")
    columns = _columns(path, rows[0][1])
    rows = _of_split(path, rows, columns.get(_SPLIT), split)
    names = [_file(path, where, row[columns["path"]], must_exist) for where, row in rows]
    texts = [_label(path, where, row[columns["label"]]) for where, row in rows]
    kept, notes = _once(path, rows, names, texts)
    texts = [texts[i] for i in kept]
    labels, classes = _labels(texts, class_names)
    rows = [rows[i] for i in kept]
    where = [rows[labels.index(i)][0] for i in range(len(classes.given or ()))]
    if classes.given is None and class_names:
        _check_numbers(path, rows, labels, len(class_names))
    groups, group_names = _groups(path, rows, columns.get(_GROUP))
    return PhotoFiles(
        path.parent,
        tuple(names[i] for i in kept),
        labels,
        classes,
        where=tuple(where),
        groups=groups,
        group_names=group_names,
        notes=notes,
    )


def _csv(path: Path) -> list[_Row]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"data={str(path)!r} is no UTF-8 text ({error})") from None
    lines = text.splitlines(keepends=True)
    reader = csv.DictReader(lines, delimiter=_delimiter(path, lines), strict=True)
    rows: list[_Row] = []
    try:
        for number, row in enumerate(reader, 1):
            where = f"row {number} (line {reader.line_num})"
            if None in row or None in row.values():
                raise ValueError(
                    f"data={str(path)!r}, {where} has not as many values as the header has columns"
                )
            rows.append((where, row))
    except csv.Error as error:
        raise ValueError(f"data={str(path)!r}, line {reader.line_num}: {error}") from None
    return rows


def _delimiter(path: Path, lines: Sequence[str]) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = lines[0] if lines else ""
    return max(",;\t", key=header.count)  # Excel writes semicolons in half of Europe


def _parquet(path: Path) -> list[_Row]:
    parquet = optional("pyarrow.parquet", TABLES)
    try:
        # Arrow's own messages repeat a path as it is, control characters too: it gets the bytes.
        with path.open("rb") as file:
            found = parquet.read_table(file).to_pylist()
    except MemoryError:
        raise
    # Texts that are no UTF-8, dates after the year 9999, unknown time zones: each has its own.
    except Exception as error:
        raise ValueError(f"data={str(path)!r} cannot be read ({shown(error)})") from error
    return [(f"row {number}", row) for number, row in enumerate(found, 1)]


def _columns(path: Path, row: Mapping[str, Any]) -> dict[str, str]:
    by_name = {name.strip().lower(): name for name in row}
    columns = {name: by_name[name] for name in (_GROUP, _SPLIT) if name in by_name}
    for role, known in {"path": _PATHS, "label": _LABELS}.items():
        found = [by_name[name] for name in known if name in by_name]
        if len(found) != 1:
            given = (
                f"{' and '.join(found)} for it" if found else f"the columns {shortened(list(row))}"
            )
            raise ValueError(
                f"data={str(path)!r} has {given}, expected one column of the photos' {role}s, "
                f"called {', '.join(known[:4])}"
            )
        columns[role] = found[0]
    return columns


def _of_split(path: Path, rows: list[_Row], column: str | None, split: str | None) -> list[_Row]:
    if column is None:
        if split is None:
            return rows
        raise ValueError(f"data='{path}:{split}': the table has no column 'split'")
    values = list(dict.fromkeys(str(row[column]).strip() for _, row in rows))
    if split is None and len(values) == 1:
        return rows
    if split not in values:
        raise ValueError(
            f"data={str(path)!r} has the splits {shortened(values)}: give one of them, as in "
            f"data='{path.name}:{values[-1]}'"
        )
    return [(where, row) for where, row in rows if str(row[column]).strip() == split]


def _file(path: Path, where: str, value: Any, must_exist: bool) -> str:
    name = "" if value is None else str(value).strip()
    if not name:
        raise ValueError(f"data={str(path)!r}, {where} has no path")
    if "\0" in name:
        raise ValueError(f"data={str(path)!r}, {where}: the path is {name!r}, which no file has")
    if must_exist and not (path.parent / name).is_file():
        raise ValueError(
            f"data={str(path)!r}, {where}: there is no file {name!r} in {str(path.parent)!r}; "
            'repair or remove the row, or give on_error="skip" (--skip-unreadable)'
        )
    return name


def _label(path: Path, where: str, value: Any) -> str:
    text = "" if value is None else str(value).strip()
    if not text or text.lower() == "nan":
        raise ValueError(f"data={str(path)!r}, {where} has no label")
    # Libraries write whole numbers as 1.0 when one of the column is missing.
    text = re.sub(r"^(-?\d+)\.0+$", r"\1", text)
    if re.fullmatch(r"-\d+", text):
        raise ValueError(
            f"data={str(path)!r}, {where}: the label is {text}, expected a class's name, or its "
            "number from 0 up"
        )
    return text


def _labels(texts: Sequence[str], class_names: Sequence[str]) -> tuple[tuple[int, ...], ClassMatch]:
    """Names in sorted order; or numbers, where all are numbers and not themselves names."""
    found = dict.fromkeys(texts)
    if all(text.isdecimal() for text in found) and not _are_names(found, class_names):
        return tuple(map(int, texts)), ClassMatch()
    names = sorted(found)
    number = {name: i for i, name in enumerate(names)}
    return tuple(number[text] for text in texts), ClassMatch.own(names)


def _are_names(texts: Mapping[str, None], class_names: Sequence[str]) -> bool:
    return bool(class_names) and all(find_class(text, class_names) is not None for text in texts)


def _check_numbers(path: Path, rows: Sequence[_Row], labels: Sequence[int], n: int) -> None:
    for (where, _), label in zip(rows, labels, strict=True):
        if label >= n:
            raise ValueError(
                f"data={str(path)!r}, {where}: the label is {label}, but the model has the "
                f"classes 0..{n - 1}"
            )


def _groups(
    path: Path, rows: Sequence[_Row], column: str | None
) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
    """Names in sorted order; or numbers, where all are numbers."""
    if column is None:
        return None, None
    values = []
    for where, row in rows:
        value = "" if row[column] is None else str(row[column]).strip()
        if not value:
            raise ValueError(f"data={str(path)!r}, {where} has no group")
        values.append(value)
    if all(value.isdecimal() for value in values):
        return tuple(map(int, values)), None
    names = sorted(set(values))
    number = {name: i for i, name in enumerate(names)}
    return tuple(number[value] for value in values), tuple(names)


def _once(
    path: Path, rows: Sequence[_Row], names: Sequence[str], labels: Sequence[str]
) -> tuple[list[int], tuple[str, ...]]:
    """The rows to keep: each file once."""
    first: dict[Path, int] = {}
    for index, name in enumerate(names):
        earlier = first.setdefault((path.parent / name).resolve(), index)
        if labels[earlier] != labels[index]:
            raise ValueError(
                f"data={str(path)!r}: {rows[earlier][0]} and {rows[index][0]} give {name!r} the "
                f"labels {labels[earlier]!r} and {labels[index]!r}, expected one"
            )
    n_twice = len(names) - len(first)
    notes = (f"{n_twice} rows of {path.name} name photos again, which count once",)
    return list(first.values()), notes if n_twice else ()
