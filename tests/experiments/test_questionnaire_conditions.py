"""What a questionnaire cannot tell apart is refused when it is made, and when it is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_neuroinspect.experiments.questionnaire import (
    Question,
    QuestionnaireKey,
    write_questionnaire,
)

RED, BLUE = (Image.new("RGB", (9, 9), name) for name in ("red", "blue"))


def test_no_condition_is_called_as_the_answer_of_who_cannot_tell(tmp_path: Path) -> None:
    files = tmp_path / "page.html", tmp_path / "key.json"
    with pytest.raises(ValueError, match="a condition is called 'none'"):
        write_questionnaire([Question("fox", {"none": RED, "b": BLUE})], *files)
    assert not files[0].exists()


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_pictures_of_more_than_8_bits_are_refused(kind: str, tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((9, 9), 0.5 if kind == "float32" else 3e4).astype(kind))
    with pytest.raises(ValueError, match=r"has the mode '.*', expected one of 8 bits"):
        write_questionnaire(
            [Question("fox", {"a": deep, "b": deep})], tmp_path / "page.html", tmp_path / "key.json"
        )


def test_a_seed_is_a_whole_number(tmp_path: Path) -> None:
    files = tmp_path / "page.html", tmp_path / "key.json"
    with pytest.raises(TypeError, match="seed='a', expected a whole number"):
        write_questionnaire([Question("fox", {"a": RED, "b": BLUE})], *files, seed="a")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"A": "a", "B": "a"}, "expected different ones"),
        ({"A": "a", "B": "none"}, "expected different ones"),
        ({"A": "a", "none": "b"}, "its letters are others than"),
    ],
)
def test_a_key_that_tells_nothing_apart_is_refused(
    conditions: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "key.json"
    write_questionnaire([Question("fox", {"a": RED, "b": BLUE})], tmp_path / "page.html", path)
    record = json.loads(path.read_text())
    record["rows"][0]["conditions"] = conditions
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message):
        QuestionnaireKey.load(path)
