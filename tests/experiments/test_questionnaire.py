"""A blind questionnaire: what participants see, and what only the key says."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from captum_neuroinspect.experiments.questionnaire import (
    Question,
    QuestionnaireKey,
    write_questionnaire,
)

CONDITIONS = ("CLIP-Illusion", "FV", "no CLIP")


def questions(n: int = 12, size: int = 12) -> list[Question]:
    """Every picture has a colour of its own."""
    return [
        Question(
            f"class {i}",
            {c: Image.new("RGB", (size, size), (i, 80 * k, 7)) for k, c in enumerate(CONDITIONS)},
            f"neuron {i}",
        )
        for i in range(n)
    ]


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


def test_letters_of_the_key_are_the_pictures_of_the_page(tmp_path: Path) -> None:
    key = write_questionnaire(questions(), tmp_path / "page.html", tmp_path / "key.json", seed=3)
    shown = pictures((tmp_path / "page.html").read_text())
    told = [
        (int(row.class_name.split()[1]), CONDITIONS.index(condition))
        for row in key.rows
        for condition in row.conditions.values()
    ]
    assert [picture.getpixel((0, 0)) for picture in shown] == [(i, 80 * k, 7) for i, k in told]
    assert QuestionnaireKey.load(tmp_path / "key.json") == key
    assert all(row.about == f"neuron {row.class_name.split()[1]}" for row in key.rows)


def test_each_condition_is_at_each_place_equally_often(tmp_path: Path) -> None:
    key = write_questionnaire(questions(12), tmp_path / "page.html", tmp_path / "key.json")
    for letter in "ABC":
        counts = Counter(row.conditions[letter] for row in key.rows)
        assert counts == dict.fromkeys(CONDITIONS, 4)
    assert [row.class_name for row in key.rows] != [q.class_name for q in questions(12)]


def test_nothing_in_the_page_names_a_condition(tmp_path: Path) -> None:
    asked = questions()
    for question in asked:
        for condition, picture in question.pictures.items():
            picture.info["text"] = condition  # as a file's remarks would
    write_questionnaire(asked, tmp_path / "page.html", tmp_path / "key.json")
    page = (tmp_path / "page.html").read_text()
    assert not [name for name in (*CONDITIONS, "neuron 3", str(tmp_path)) if name in page]
    assert all(not picture.info for picture in pictures(page))
    assert all(isinstance(picture, PngImagePlugin.PngImageFile) for picture in pictures(page))


def test_the_same_seed_gives_the_same_page_and_another_one_another_order(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_questionnaire(
            questions(), tmp_path / f"{name}.html", tmp_path / f"{name}.json", seed=seed
        )
    a, b, c = ((tmp_path / f"{name}.html").read_bytes() for name in "abc")
    assert a == b != c


def test_class_names_and_titles_stay_text(tmp_path: Path) -> None:
    hostile = "</legend><script>alert(1)</script>\u202e"
    asked = [Question(hostile, questions(1)[0].pictures)]
    write_questionnaire(asked, tmp_path / "page.html", tmp_path / "key.json", title=hostile)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<script>") == 1
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda q: q.clear(), ValueError, "questions is empty"),
        (
            lambda q: q.append(Question("x", {"FV": Image.new("RGB", (12, 12))})),
            ValueError,
            r"questions\[2\] has the conditions \['FV'\]",
        ),
        (
            lambda q: q.append(Question("x", dict.fromkeys(CONDITIONS, "a.png"))),  # type: ignore[arg-type]
            TypeError,
            r"questions\[2\].pictures\['CLIP-Illusion'\] is str, expected a PIL image",
        ),
        (
            lambda q: q.__setitem__(
                0, Question("x", {**q[0].pictures, "FV": Image.new("RGB", (9, 9))})
            ),
            ValueError,
            r"pictures of \[\(9, 9\), \(12, 12\)\] pixels, expected one size",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(change, error, message, tmp_path: Path) -> None:
    asked = questions(2)
    change(asked)
    with pytest.raises(error, match=message):
        write_questionnaire(asked, tmp_path / "page.html", tmp_path / "key.json")
    assert not list(tmp_path.iterdir())


def test_too_few_conditions_and_a_key_in_the_place_of_the_page_are_refused(tmp_path: Path) -> None:
    one = [Question("x", {"FV": Image.new("RGB", (9, 9))})]
    with pytest.raises(ValueError, match="1 conditions, expected 2 to 6"):
        write_questionnaire(one, tmp_path / "page.html", tmp_path / "key.json")
    with pytest.raises(ValueError, match="expected two files"):
        write_questionnaire(questions(1), tmp_path / "page.html", tmp_path / "x/../page.html")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(kind="selection"), "it is another JSON file"),
        (lambda r: r.update(version=9), "its version is 9"),
        (lambda r: r.update(questionnaire="<b>"), "expected 16 hexadecimal digits"),
        (lambda r: r.update(rows=[]), "it has no question"),
        (lambda r: r["rows"].append(r["rows"][0]), "a question is there twice"),
        (lambda r: r["rows"][0]["conditions"].update(A="other"), "differ in their conditions"),
        (lambda r: r.pop("rows"), "cannot be read as the key"),
    ],
)
def test_a_key_that_is_none_is_refused(change, message, tmp_path: Path) -> None:
    place = tmp_path / "key.json"
    write_questionnaire(questions(2), tmp_path / "page.html", place)
    record = json.loads(place.read_text())
    change(record)
    place.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message) as caught:
        QuestionnaireKey.load(place)
    assert str(place) in str(caught.value)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    """Under transparency a picture may have any colour; a person sees the page."""
    faint = {c: Image.new("RGBA", (4, 4), (200, 0, 0, 51 * k)) for k, c in enumerate(CONDITIONS)}
    key = write_questionnaire(
        [Question("fox", faint)], tmp_path / "page.html", tmp_path / "key.json"
    )
    shown = pictures((tmp_path / "page.html").read_text())
    (row,) = key.rows
    for picture, condition in zip(shown, row.conditions.values(), strict=True):
        alpha = 0.2 * CONDITIONS.index(condition)
        expected = [round(255 + alpha * (colour - 255)) for colour in (200, 0, 0)]
        found = picture.getpixel((0, 0))
        assert all(abs(one - other) <= 1 for one, other in zip(found, expected, strict=True))
