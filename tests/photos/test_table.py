from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captum_neuroinspect.photos import Photos
from captum_neuroinspect.photos._table import photos_in_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        path = tmp_path / f"deep/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (60 * number, 0, 0)).save(path)
    return tmp_path


def _write(folder: Path, header: str, *rows: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "header", ["path,label", "File,Class", "filename,target", "n,image,label", " path ,label"]
)
def test_columns_have_several_names(folder: Path, header: str) -> None:
    before = "9," if header.startswith("n,") else ""
    path = _write(folder, header, f"{before}deep/1.png,dog", f"{before}deep/0.png,cat")
    photos = Photos.of(path, image_size=4)
    assert photos.class_names == ("cat", "dog")
    assert photos.labels.tolist() == [1, 0]
    assert [photos.name(i) for i in range(2)] == ["deep/1.png", "deep/0.png"]
    assert photos.image(0)[0].mean() == pytest.approx(60 / 255)
    assert Photos.of(path, class_names=["Dog", "emu", "Cat"]).labels.tolist() == [0, 2]


def test_labels_may_be_numbers(folder: Path) -> None:
    path = _write(folder, "path,label", "deep/0.png,10", "deep/1.png,2.0")
    photos = Photos.of(path)
    assert photos.labels.tolist() == [10, 2]
    assert photos.class_names is None
    # Numbers that are the classes' names are names.
    assert Photos.of(path, class_names=["2", "7", "10"]).labels.tolist() == [2, 0]
    with pytest.raises(ValueError, match=r"row 1 \(line 2\): the label is 10, but the model has"):
        Photos.of(path, class_names=["a", "b", "c"])


def test_other_ways_of_writing(folder: Path) -> None:
    absolute = folder / "deep/0.png"
    semicolons = _write(folder, "path;label", f"{absolute};cat")
    tabs = _write(folder, "path\tlabel", "deep/0.png\tcat, tabby", name="labels.TSV")
    assert Photos.of(semicolons).class_names == ("cat",)
    assert Photos.of(str(tabs)).class_names == ("cat, tabby",)
    marked = folder / "excel.csv"
    with open(marked, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["path", "label"], ["deep/0.png", 'a "b",\nNA'], []])
    assert Photos.of(marked).class_names == ('a "b",\nNA',)


def test_groups(folder: Path) -> None:
    numbers = _write(folder, "path,label,group", "deep/0.png,a,3", "deep/1.png,a,1")
    first = Photos.of(numbers)
    assert [first.item(i).group for i in range(2)] == [3, 1]
    texts = _write(folder, "path,label,group", "deep/0.png,a,snow", "deep/1.png,a,grass")
    assert [Photos.of(texts).item(i).group for i in range(2)] == [1, 0]
    assert Photos.of(texts).group_names == ("grass", "snow")
    assert first.group_names is None
    assert Photos.of(texts).fingerprint() != first.fingerprint()


def test_one_split_is_taken(folder: Path) -> None:
    path = _write(
        folder, "path,label,split", "deep/0.png,a,train", "deep/1.png,b,val", "deep/2.png,a,val"
    )
    with pytest.raises(ValueError, match=r"splits train, val: .* data='labels.csv:val'"):
        Photos.of(path)
    assert len(Photos.of(f"{path}:val")) == 2
    assert len(Photos.of(Path(f"{path}:train"))) == 1
    with pytest.raises(ValueError, match="has the splits train, val"):
        Photos.of(f"{path}:test")
    plain = _write(folder, "path,label", "deep/0.png,a")
    with pytest.raises(ValueError, match="has no column 'split'"):
        Photos.of(f"{plain}:val")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["deep/0.png,a", ",a"], r"row 2 \(line 3\) has no path"),
        (["deep/0.png,"], r"row 1 \(line 2\) has no label"),
        (["deep/0.png,nan"], r"row 1 \(line 2\) has no label"),
        (["deep/0.png,a", "deep/1.png,-1"], r"row 2 .*the label is -1, expected a class's name"),
        (["deep/0.png,a", "deep/9.png,a"], r"row 2 \(line 3\): there is no file 'deep/9.png' in"),
        (["deep/0.png,a", "deep/1.png"], r"row 2 \(line 3\) has not as many values"),
        (["deep/0.png,a,b"], r"row 1 \(line 2\) has not as many values"),
        (["deep/0.png,a", "deep/../deep/0.png,b"], r"row 1 .* and row 2 .* labels 'a' and 'b'"),
        ([], "has no rows"),
    ],
)
def test_the_first_bad_row_is_named(folder: Path, rows: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Photos.of(_write(folder, "path,label", *rows))


def test_a_row_of_an_unknown_class_is_named(folder: Path) -> None:
    path = _write(folder, "path,label", "deep/0.png,cat", "deep/1.png,emu", "deep/2.png,emu")
    with pytest.raises(ValueError, match=r"called emu.*data \(row 2 \(line 3\)\) has the classes"):
        Photos.of(path, class_names=["cat", "dog"])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("a,label", "has the columns a, label, expected one column of the photos' paths"),
        ("path,b", "has the columns path, b, expected one column of the photos' labels"),
        ("path,file,label", "has path and file for it, expected one column"),
    ],
)
def test_columns_that_are_missing_or_twice(folder: Path, header: str, message: str) -> None:
    rows = ",".join("x" for _ in header.split(","))
    with pytest.raises(ValueError, match=message):
        Photos.of(_write(folder, header, rows))


def test_missing_files_can_be_skipped_and_the_same_counts_once(folder: Path) -> None:
    path = _write(folder, "path,label", "deep/0.png,a", "deep/9.png,a", "deep/../deep/0.png,a")
    with pytest.warns(UserWarning, match=r"1 rows of labels.csv name photos again"):
        photos = Photos.of(path, on_error="skip")
    assert len(photos) == 1
    assert [name for name, _ in photos.skipped] == ["deep/9.png"]


def test_tables_that_cannot_be_read(folder: Path, monkeypatch) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such table"):
        Photos.of(folder / "gone.csv")
    (folder / "x.csv").write_bytes(b"path,label\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="is no UTF-8 text"):
        Photos.of(folder / "x.csv")
    (folder / "x.csv").write_text('path,label\n"deep/0.png,1\n')
    with pytest.raises(ValueError, match=r"line \d: unexpected end of data"):
        Photos.of(folder / "x.csv")
    (folder / "x.parquet").write_bytes(b"")
    for name in ("pyarrow", "pyarrow.parquet"):  # which another test may have loaded
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install \"captum-neuroinspect\[tables\]\""):
        Photos.of(folder / "x.parquet")


def test_parquet(folder: Path) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    rows = {"path": ["deep/1.png", "deep/0.png"], "label": [1, 0], "group": ["x", "y"]}
    parquet.write_table(arrow.table(rows), folder / "x.parquet")
    photos = Photos.of(folder / "x.parquet")
    assert photos.labels.tolist() == [1, 0]
    assert photos.item(1).group == 1
    rows["label"][1] = None  # type: ignore[call-overload]
    parquet.write_table(arrow.table(rows), folder / "x.parquet")
    with pytest.raises(ValueError, match="row 2 has no label"):
        Photos.of(folder / "x.parquet")
    (folder / "x.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match="cannot be read"):
        Photos.of(folder / "x.parquet")


def test_values_that_python_cannot_hold_are_told_with_the_table(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    no_text = pyarrow.array([b"\x80.png"]).view(pyarrow.string())
    no_date = pyarrow.array([2**60], pyarrow.int64()).cast(pyarrow.timestamp("us"))
    for column, values in {"path": no_text, "taken": no_date}.items():
        plain = {"path": pyarrow.array(["a.png"]), "label": pyarrow.array(["cat"])}
        parquet.write_table(pyarrow.table({**plain, column: values}), tmp_path / "t.parquet")
        with pytest.raises(ValueError, match=r"t\.parquet' cannot be read"):
            photos_in_table(tmp_path / "t.parquet", None, (), must_exist=False)
