from __future__ import annotations

import pandas as pd
import pytest

from captum_neuroinspect.describe import Descriptions, UnitDescription

_HOSTILE = "<script>alert('x')</script> & \"cat\""


def _described() -> Descriptions:
    by_photos = UnitDescription(
        7, ("grass", _HOSTILE), (0.5, 0.2), (0.41, -0.1), (0.6, 0.1), (0.05, 0.05),
        is_certain=True, n_images=400, n_held_out=200,
    )  # fmt: skip
    by_pictures = UnitDescription(2, ("sky",), (0.5,), n_images=4)
    return Descriptions([by_photos, by_pictures], "404 images")


def test_by_position_and_by_unit():
    described = _described()
    assert described[1] is described.of(2)
    assert [one.unit for one in described.only([2, 7])] == [2, 7]
    with pytest.raises(KeyError, match=r"unit=5 was not described, expected one of \[7, 2\]"):
        described.of(5)
    many = Descriptions(UnitDescription(unit) for unit in range(1280))
    with pytest.raises(KeyError, match="expected 1,280 others"):
        many.only([3, 5000])


def test_rows_make_a_data_frame_and_say_what_has_no_evidence():
    table = pd.DataFrame(_described().rows())
    assert table["unit"].tolist() == [7, 7, 2]
    assert table["rank"].tolist() == [1, 2, 1]
    assert table["is_certain"].tolist() == [True, False, False]
    assert table["correlation"].tolist()[:2] == [0.41, -0.1]
    assert pd.isna(table["correlation"][2])
    assert table["n_images"].tolist() == [400, 400, 4]
    assert table["n_held_out"].tolist() == [200, 200, 0]


def test_words_from_pictures_say_so_and_words_with_evidence_show_it():
    lines = str(_described()).splitlines()
    assert lines[0].startswith("unit 7: grass (0.41), <script>")
    assert lines[1] == "unit 2: uncertain: sky (0.50) (4 pictures, no held-out photos)"
    assert lines[2] == "rests on 404 images"


def test_what_they_rest_on_goes_with_them():
    described = _described()
    assert described.find("SKY").rests_on == described.only([7]).rests_on == "404 images"
    assert [one.unit for one in described.find("script")] == [7]


def test_table_keeps_hostile_names_text():
    page = Descriptions(_described(), _HOSTILE)._repr_html_()
    assert "grass (0.41)" in page
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(") == 2


def test_nothing_described_is_an_empty_table():
    assert Descriptions().rows() == []
    assert "<table" in Descriptions()._repr_html_()


def test_print_of_many_is_cut_and_says_so():
    many = Descriptions((UnitDescription(i, ("sky",), (0.5,)) for i in range(25)), "9 photos")
    lines = str(many).splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["unit 0", "unit 1"]
    assert lines[20:] == ["... and 5 more: .only([...]), .rows()", "rests on 9 photos"]
    assert "more" not in str(many[:20])
