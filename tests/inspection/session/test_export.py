"""A session writes what it found for other tools."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from helpers import left_unchanged
from PIL import Image
from session_examples import SIZE, loaded

from captum_neuroinspect.describe import Descriptions, UnitDescription


@pytest.mark.parametrize("table", ["csv", "parquet"])
def test_a_session_exports_its_findings(table: str, tmp_path) -> None:
    made = loaded()
    found = made.explain(0)
    made.descriptions = Descriptions([UnitDescription(3, ("=red",), (0.5,), is_certain=True)])
    with left_unchanged(made.model.model):
        written = made.export(tmp_path / "out", table=table, fiftyone=table == "csv")
    read = pd.read_csv if table == "csv" else pd.read_parquet
    tables = {path.stem: read(path) for path in written if path.suffix == f".{table}"}
    assert list(tables) == ["predictions", "blame", "slices", "words", "heat_maps"]
    predictions = tables["predictions"]
    assert sorted(predictions["index"]) == list(range(90))
    assert set(predictions["part"]) == {"train", "deployment", "validation", "test"}
    assert predictions["is_right"].mean() == pytest.approx(made.data.inspected.features.accuracy())
    assert tables["blame"]["neuron"].tolist() == [row["neuron"] for row in found.rows()]
    assert len(tables["slices"]) == len(found.mistakes)
    assert tables["words"]["phrase"][0] == ("'=red" if table == "csv" else "=red")
    heat = tables["heat_maps"]
    assert set(heat["neuron"]) == set(found.neurons(6))
    with Image.open(tmp_path / "out" / "heat_maps" / heat["file"][0]) as first:
        assert first.size == (SIZE, SIZE)
    text = str(tmp_path)
    assert not any(text in frame.to_csv() for frame in tables.values())
    if table == "csv":
        samples = json.loads((tmp_path / "out" / "fiftyone" / "samples.json").read_text())
        by_index = predictions.set_index("index")["part"]
        assert len(samples["samples"]) == 90
        for sample in samples["samples"]:
            assert sample["tags"][0] == by_index[sample["index"]]


def test_an_unknown_table_is_refused_before_work(tmp_path) -> None:
    made = loaded()
    with pytest.raises(ValueError, match="table='xlsx'"):
        made.export(tmp_path / "out", table="xlsx")
    assert made.explanation is None
    assert not (tmp_path / "out").exists()
