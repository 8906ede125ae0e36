from __future__ import annotations

import pandas as pd
import pytest

from captum_neuroinspect.describe import Descriptions, NeuronDescription

_HOSTILE = "<script>alert('x')</script> & \"cat\""


def _described() -> Descriptions:
    return Descriptions(
        [
            NeuronDescription(7, ("grass", _HOSTILE), (0.256, -0.104), 9),
            NeuronDescription(2, ("sky",), (0.5,), 4),
        ]
    )


def test_by_position_and_by_neuron():
    described = _described()
    assert len(described) == 2
    assert described[1] is described.of(2)
    assert described.of(7).phrases[0] == "grass"
    with pytest.raises(KeyError, match=r"neuron=5 was not described, expected one of \[7, 2\]"):
        described.of(5)


def test_rows_make_a_data_frame():
    table = pd.DataFrame(_described().rows())
    assert list(table.columns) == ["neuron", "rank", "phrase", "score", "n_images"]
    assert table["neuron"].tolist() == [7, 7, 2]
    assert table["rank"].tolist() == [1, 2, 1]
    assert table["score"].tolist() == [0.256, -0.104, 0.5]
    assert table["n_images"].tolist() == [9, 9, 4]


def test_table_shows_scores_and_keeps_hostile_names_text():
    shown = _described()._repr_html_()
    assert "grass (0.26)" in shown
    assert "<script" not in shown
    assert "&lt;script&gt;alert(" in shown
    assert "&amp; &quot;cat&quot;" in shown


def test_prints_one_line_a_neuron():
    lines = str(_described()).splitlines()
    assert lines[1] == "neuron 2: sky (0.50)"
    assert lines[0].startswith("neuron 7: grass (0.26), <script>")


def test_nothing_described_is_an_empty_table():
    assert Descriptions().rows() == []
    assert "<table" in Descriptions()._repr_html_()
