"""Rows as CSV or Parquet files that are safe to open."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_neuroinspect._core.files import write_atomically
from captum_neuroinspect._core.optional import TABLES, optional

Row = Mapping[str, Any]
FORMATS = ("csv", "parquet")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_table(rows: Sequence[Row], path: str | Path, columns: Sequence[str] = ()) -> Path:
    """Write rows as a table: CSV, or Parquet where the file's name ends in ``.parquet``.

    In CSV a text that a spreadsheet would take for a formula gets an apostrophe before it, as
    names of files and classes may come from anybody. Parquet has texts as they are.

    Args:
        rows: dictionaries with the same keys; values are texts, numbers, truth values or ``None``.
        path: of the file.
        columns: their order, and the header where there are no rows; else as in the first row.

    Raises:
        ImportError: for Parquet, when pyarrow is not installed.
        TypeError: for a value of another kind.
        ValueError: for another suffix, rows with other keys, or neither rows nor columns.
        OSError: when the file cannot be written.

    Examples::

        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "words.csv"
        >>> print(write_table([{"word": "=1+1", "score": 0.5}], path).read_text().strip())
        word,score
        '=1+1,0.5
    """
    path = Path(path)
    if (kind := path.suffix.lower().removeprefix(".")) not in FORMATS:
        raise ValueError(f"path={str(path)!r} ends in {path.suffix!r}, expected .csv or .parquet")
    names = tuple(columns) or tuple(rows[0] if rows else ())
    if not names:
        raise ValueError("there are neither rows nor columns, expected columns= for an empty table")
    for number, row in enumerate(rows):
        _check(number, row, names)
    if kind == "csv":
        content = _csv(rows, names).encode()
        return write_atomically(path, lambda temporary: temporary.write_bytes(content))
    arrow, parquet = optional("pyarrow", TABLES), optional("pyarrow.parquet", TABLES)
    table = arrow.table({name: [_text(row[name]) for row in rows] for name in names})
    return write_atomically(path, lambda temporary: parquet.write_table(table, str(temporary)))


def _check(number: int, row: Row, names: Sequence[str]) -> None:
    if set(row) != set(names):
        raise ValueError(f"row {number} has the keys {sorted(row)}, expected {sorted(names)}")
    for name, value in row.items():
        if value is not None and not isinstance(value, (str, int, float)):
            raise TypeError(
                f"row {number}: {name} is {type(value).__name__}, expected a text, a number, a "
                "truth value or None"
            )


def _csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    text = io.StringIO(newline="")  # as the writer gives them
    writer = csv.writer(text)  # with both ends of lines in it, a cell that has either is quoted
    writer.writerow([_cell(name) for name in names])
    writer.writerows([[_cell(row[name]) for name in names] for row in rows])
    return text.getvalue()


def _cell(value: Any) -> Any:
    value = _text(value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _text(value: Any) -> Any:
    """A file's name may hold bytes that are no text: they are escaped, as no UTF-8 has them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
