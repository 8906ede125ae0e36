"""``neuroinspect describe``: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from session_examples import SIZE, assert_one_sentence, inspect_arguments
from typer.testing import CliRunner, Result

from captum_neuroinspect.describe import ATTRIBUTES, Descriptions, UnitDescription
from captum_neuroinspect.inspection.commands.cli import app
from captum_neuroinspect.inspection.commands.describe import _write

runner = CliRunner()


def _run(*arguments: object) -> Result:
    return runner.invoke(app, [str(one) for one in arguments])


def _json(*arguments: object) -> Any:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def _arguments(place: Path, out: Path, *more: object) -> list[object]:
    return [
        *("describe", "--model", f"{place}/model.py:net", "--data", place / "photos"),
        *("--out", out, "--image-size", SIZE, "--encoder", "none", "--quiet", *more),
    ]


def test_the_table_has_the_columns_that_cosy_reads_and_the_record_all_evidence(
    place: Path, tmp_path: Path
) -> None:
    found = _json(*_arguments(place, tmp_path))
    assert found["n_described"] == 16
    with open(found["table"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["layer", "unit", "description", "similarity"]
    assert {row["layer"] for row in rows} == {"head.input"}
    record = json.loads(Path(found["evidence"]).read_text("utf-8"))
    assert [one["unit"] for one in record["units"]] == list(range(16))
    assert record["rests_on"].startswith("90 photos")
    units = {one["unit"]: one for one in record["units"]}
    for row in rows:
        one = units[int(row["unit"])]
        assert row["description"] == one["phrases"][0]
        assert float(row["similarity"]) == pytest.approx(one["scores"][0])
        assert float(row["correlation"]) == pytest.approx(one["correlations"][0])
        assert row["is_certain"] == str(one["is_certain"])
    assert found["n_certain"] == sum(one["is_certain"] for one in record["units"])


def test_it_prints_what_was_asked_for(place: Path, tmp_path: Path) -> None:
    result = _run(*_arguments(place, tmp_path))
    assert result.exit_code == 0, result.stderr
    assert "of 16 neurons have a certain word" in result.stdout
    assert "no phrases, as there is no encoder" in result.stdout
    lines = _run(*_arguments(place, tmp_path, "--neurons", "3,0")).stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["unit 3", "unit 0"]
    assert "in brackets: correlation" in lines[3]
    lines = _run(*_arguments(place, tmp_path, "--find", "red")).stdout.splitlines()
    assert lines[0].startswith("'red': ")
    assert "correlation" in lines[1]
    assert "blame" not in lines[1]  # as there is no run
    found = _json(*_arguments(place, tmp_path, "--find", "red", "--neurons", "3"))
    assert [row["unit"] for row in found["units"]][:1] == [3]
    correlations = [row["correlation"] for row in found["found"]]
    assert correlations == sorted(correlations, reverse=True)


def test_where_nothing_is_certain_it_says_where_the_words_are(place: Path, tmp_path: Path) -> None:
    arguments = _arguments(place, tmp_path / "out", "--unlabelled")
    shutil.copytree(place / "photos", tmp_path / "few")
    for path in sorted((tmp_path / "few").rglob("*.png"))[20:]:
        path.unlink()
    arguments[4] = tmp_path / "few"
    lines = _run(*arguments).stdout.splitlines()
    assert lines[0] == "0 of 16 neurons have a certain word"
    assert "--neurons 3,17" in lines[2]


def test_classes_that_are_none_of_the_models(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "photos", tmp_path / "mine")
    (folder,) = sorted(one for one in (tmp_path / "mine").iterdir() if one.is_dir())[:1]
    folder.rename(folder.with_name("zebra"))
    names = tmp_path / "names.txt"
    names.write_text("\n".join(one.name for one in sorted((place / "photos").iterdir())))
    arguments = _arguments(place, tmp_path / "out", "--class-names", names)
    arguments[4] = tmp_path / "mine"
    assert_one_sentence(_run(*arguments), "--unlabelled takes all photos")
    result = _run(*arguments, "--by-position")
    assert result.exit_code == 0, result.stderr


def test_neurons_that_are_not_there_are_refused_before_photos_are_read(
    place: Path, tmp_path: Path
) -> None:
    result = _run(*_arguments(place, tmp_path, "--neurons", "5000"))
    assert_one_sentence(result, "--neurons has 5000, expected 0 to 15")
    assert not (tmp_path / "work" / "features").exists()
    assert not (tmp_path / "work" / "seen-photos").exists()


def test_a_phrase_among_the_units_of_another_layer(place: Path, tmp_path: Path) -> None:
    found = _json(*_arguments(place, tmp_path, "--layer", "backbone.0", "--find", "red"))
    assert len(found["found"]) == min(found["n_described"], 20)


def test_another_layer(place: Path, tmp_path: Path) -> None:
    more = ("--layer", "backbone.0", "--reduce", "max")
    found = _json(*_arguments(place, tmp_path, *more))
    record = json.loads(Path(found["evidence"]).read_text("utf-8"))
    assert record["layer"] == "backbone.0"
    assert len(record["units"]) == found["n_described"] > 0
    lines = _run(*_arguments(place, tmp_path, *more, "--neurons", "1")).stdout.splitlines()
    assert lines[0].startswith("unit 1:")
    refused = _run(*_arguments(place, tmp_path, *more, "--neurons", "999"))
    assert_one_sentence(refused, "--neurons has 999, expected 0 to")
    assert_one_sentence(_run(*_arguments(place, tmp_path, "--layer", "nowhere")), "nowhere")


def test_a_run_brings_its_model_photos_and_mistakes(place: Path, tmp_path: Path) -> None:
    inspected = _json(*inspect_arguments(place, tmp_path / "run"))
    found = _json("describe", "--run", tmp_path / "run", "--find", "green", "--quiet")
    ranked = {row["unit"]: row["blame_rank"] for row in found["found"]}
    assert ranked[inspected["neurons"][0]["neuron"]] is not None
    assert (tmp_path / "run" / "descriptions.csv").is_file()


def test_photos_without_labels(place: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    for number, path in enumerate(sorted((place / "photos").rglob("*.png"))):
        target = loose / f"{number % 2}" / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    arguments = _arguments(place, tmp_path / "out", "--unlabelled")
    arguments[4] = loose
    found = _json(*arguments)
    assert "90 photos" in found["rests_on"]
    assert "of the data" not in found["rests_on"]
    record = json.loads(Path(found["evidence"]).read_text("utf-8"))
    assert {p for one in record["units"] for p in one["phrases"]} <= set(ATTRIBUTES)
    (tmp_path / "empty").mkdir()
    arguments[4] = tmp_path / "empty"
    assert_one_sentence(_run(*arguments), "has no pictures")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--neurons", "a"], "--neurons='a', expected whole numbers"),
        (["--neurons", "99"], "--neurons has 99, expected 0 to "),
        (["--find", "watermark"], "'watermark' is no attribute, and no class or group"),
        (["--phrases", "nowhere.txt"], "--phrases='nowhere.txt': there is no such file"),
        (["--run", "run"], "--run and --model are both given"),
    ],
)
def test_refusals_in_one_sentence(
    place: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    assert_one_sentence(_run(*_arguments(place, tmp_path, *more)), message)


def test_phrases_need_an_encoder_and_a_model_needs_photos(place: Path, tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("red thing\n\nsky\n", encoding="utf-8")
    result = _run(*_arguments(place, tmp_path, "--phrases", phrases))
    assert_one_sentence(result, "phrases are given and encoder=None")
    assert_one_sentence(_run("describe", "--model", "lite:0"), "--data is missing")
    assert_one_sentence(_run("describe", "--data", "x"), "--model is missing")


def test_a_phrase_is_no_formula_in_the_table(tmp_path: Path) -> None:
    found = Descriptions([UnitDescription(0, ("=cmd|' /C calc'!A0",), (0.5,), could_be=("=1",))])
    table, _ = _write(found, "fc.input", tmp_path)
    with table.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert row["description"] == "'=cmd|' /C calc'!A0"
    assert row["could_be"] == "'=1"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_picture_whose_name_is_no_text_is_named(place: Path, tmp_path: Path) -> None:
    photos = shutil.copytree(place / "photos", tmp_path / "photos")
    picture = next(photos.rglob("*.png"))
    picture.rename(os.fsdecode(os.fsencode(picture.parent) + b"/bad\xff.png"))
    arguments = _arguments(place, tmp_path / "out", "--unlabelled")
    arguments[4] = photos
    assert_one_sentence(_run(*arguments), r"bad\udcff.png has a name that is no UTF-8")
