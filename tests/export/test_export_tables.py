"""Tables that say what was found, and are safe to open."""

from __future__ import annotations

import csv

import pandas as pd
import pytest
import torch
from helpers import feature_set, linear

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.analysis import explain_mistakes
from captum_neuroinspect.describe import UnitDescription
from captum_neuroinspect.export import (
    blame_rows,
    prediction_rows,
    slice_rows,
    word_rows,
    write_table,
)

ROWS = [
    {"photo": "a/1.jpg", "score": 0.25, "is_right": True, "n": None},
    {"photo": 'b, "2"\n.jpg', "score": -1e-9, "is_right": False, "n": 3},
]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_come_back_as_they_were(kind: str, tmp_path) -> None:
    path = write_table(ROWS, tmp_path / f"rows.{kind}")
    found = pd.read_csv(path) if kind == "csv" else pd.read_parquet(path)
    assert list(found.columns) == list(ROWS[0])
    assert found["photo"].tolist() == [row["photo"] for row in ROWS]
    assert found["score"].tolist() == [row["score"] for row in ROWS]
    assert found["is_right"].tolist() == [True, False]
    assert pd.isna(found["n"][0])
    assert found["n"][1] == 3
    empty = write_table([], tmp_path / f"empty.{kind}", ["a", "b"])
    read = pd.read_csv(empty) if kind == "csv" else pd.read_parquet(empty)
    assert (list(read.columns), len(read)) == (["a", "b"], 0)


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")', "\n=1"]
)
def test_no_text_is_a_formula(name: str, tmp_path) -> None:
    path = write_table([{name: name, "n": -1.5}], tmp_path / "t.csv")
    with open(path, newline="", encoding="utf-8") as file:
        header, cells = csv.reader(file)
    assert header[0] == cells[0] == f"'{name}"
    assert cells[1] == "-1.5"  # numbers stay numbers
    whole = write_table([{"a": name}], tmp_path / "t.parquet")
    assert pd.read_parquet(whole)["a"][0] == name


@pytest.mark.parametrize(
    ("rows", "name", "error", "message"),
    [
        (ROWS, "t.xlsx", ValueError, "expected .csv or .parquet"),
        ([], "t.csv", ValueError, "neither rows nor columns"),
        ([{"a": 1}, {"b": 1}], "t.csv", ValueError, "row 1 has the keys"),
        ([{"a": [1]}], "t.csv", TypeError, "row 0: a is list"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_written(rows, name, error, message, tmp_path) -> None:
    with pytest.raises(error, match=message):
        write_table(rows, tmp_path / name)
    assert not list(tmp_path.iterdir())


HEAD = linear([[1.0, 0.0], [0.0, 1.0]])


def test_predictions_are_the_heads() -> None:
    z = torch.tensor([[2.0, 0.0], [0.5, 1.0], [3.0, 1.0]])
    data = feature_set(HEAD, z, torch.tensor([0, 0, 1]), groups=torch.tensor([1, 0, 1]))
    names = ["a/1.jpg", "/home/someone/2.jpg", "C:\\Users\\someone\\3.jpg"]
    rows = prediction_rows(data, names, part="test")
    assert [row["photo"] for row in rows] == ["a/1.jpg", "2.jpg", "3.jpg"]
    assert [row["is_right"] for row in rows] == [True, False, False]
    expected = z.softmax(1)
    assert [row["p_label"] for row in rows] == pytest.approx(
        [float(expected[0, 0]), float(expected[1, 0]), float(expected[2, 1])]
    )
    assert [row["p_predicted"] for row in rows] == pytest.approx(expected.amax(1).tolist())
    assert rows[1]["predicted"] == "class 1"
    assert [row["group"] for row in rows] == [1, 0, 1]
    assert {row["part"] for row in rows} == {"test"}
    assert [row["photo"] for row in prediction_rows(data.mistakes())] == ["1", "2"]
    with pytest.raises(ValueError, match="1 names of photos for 3 samples"):
        prediction_rows(data, ["a"])
    with pytest.raises(TypeError, match="features is int"):
        prediction_rows(3)
    many = FeatureSet(z, z, torch.tensor([[1, 1], [0, 1], [1, 0]]))
    with pytest.raises(ValueError, match="multi-hot"):
        prediction_rows(many)


def test_a_single_output_decides_between_two() -> None:
    one = FeatureSet(torch.ones(2, 1), torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 1]))
    rows = prediction_rows(one)
    assert rows[0]["p_label"] == pytest.approx(float(torch.tensor(2.0).sigmoid()))
    assert rows[1]["p_predicted"] == pytest.approx(1 - float(torch.tensor(-1.0).sigmoid()))


def test_blame_and_slices_are_the_explanations() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 2)
    z = torch.rand(80, 6)
    data = feature_set(head, z, torch.arange(80) % 2)
    found = explain_mistakes(head, data, target=0)
    rows = blame_rows(found)
    assert [(r["neuron"], r["magnitude"]) for r in rows] == [
        (r["neuron"], r["magnitude"]) for r in found.rows()
    ]
    assert {r["slice"] for r in rows} == {0}
    parts = explain_mistakes(head, data, target=0, slices=2)
    assert {r["slice"] for r in blame_rows(parts)} == {1, 2}
    numbers = [r["slice"] for r in slice_rows(parts)]
    assert numbers == (parts.slices.labels + 1).tolist()
    assert [r["index"] for r in slice_rows(parts)] == parts.mistakes.indices.tolist()
    with pytest.raises(TypeError, match="explanation is int"):
        blame_rows(1)
    with pytest.raises(TypeError, match="explanation is int"):
        slice_rows(1)


def test_words_stand_one_a_row() -> None:
    found = [
        UnitDescription(7, ("grass", "lawn"), (0.5, 0.25), is_certain=True),
        UnitDescription(9, note="the same on all photos"),
    ]
    assert word_rows(found) == [
        {"neuron": 7, "place": 1, "phrase": "grass", "score": 0.5, "is_certain": True},
        {"neuron": 7, "place": 2, "phrase": "lawn", "score": 0.25, "is_certain": False},
    ]
