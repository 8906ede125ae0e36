"""Answers of several people: counted by hand, and refused where they are not to be trusted."""

from __future__ import annotations

from math import comb
from pathlib import Path

import pytest

from captum_neuroinspect.experiments.questionnaire import KeyRow, QuestionnaireKey
from captum_neuroinspect.experiments.questionnaire_answers import read_answers

ID = "0123456789abcdef"
HEADER = "questionnaire,participant,group,question,answer\r\n"
# The letters of every question stand for other conditions.
KEY = QuestionnaireKey(
    ID,
    0,
    (
        KeyRow("q01", "fox", "", {"A": "FV", "B": "no CLIP", "C": "CLIP"}),
        KeyRow("q02", "hen", "", {"A": "CLIP", "B": "FV", "C": "no CLIP"}),
        KeyRow("q03", "dog", "", {"A": "no CLIP", "B": "CLIP", "C": "FV"}),
    ),
)


def text(person: int, answers: str, group: str = "other") -> str:
    lines = [
        f"{ID},{person:016x},{group},q{number:02d},{answer}\r\n"
        for number, answer in enumerate(answers.split(), 1)
    ]
    return HEADER + "".join(lines)


def written(folder: Path, *texts: str) -> list[Path]:
    places = [folder / f"{number}.csv" for number in range(len(texts))]
    for place, one in zip(places, texts, strict=True):
        place.write_bytes(one.encode())
    return places


def test_counts_and_exact_tests_are_those_of_the_formula(tmp_path: Path) -> None:
    # Person 1: CLIP, CLIP, FV; 2: CLIP, CLIP, CLIP; 3: no CLIP, none, CLIP.
    files = written(
        tmp_path,
        text(1, "C A C", "practitioner"),
        text(2, "C A B"),
        text(3, "B none B"),
    )
    found = read_answers(KEY, files)
    everybody = {row.condition: row for row in found.shares() if row.group == "everybody"}
    assert {c: (row.n_chosen, row.n) for c, row in everybody.items()} == {
        "CLIP": (6, 8),
        "FV": (1, 8),
        "no CLIP": (1, 8),
    }
    chances = [comb(8, k) * (1 / 3) ** k * (2 / 3) ** (8 - k) for k in range(9)]
    # Two-sided: all outcomes that are no likelier than the one that came.
    assert everybody["CLIP"].p == pytest.approx(sum(p for p in chances if p <= chances[6]))
    # Clopper and Pearson: the upper end is where 1 or fewer of 8 have 2.5 %.
    high = everybody["FV"].high
    assert (1 - high) ** 8 + 8 * high * (1 - high) ** 7 == pytest.approx(0.025)
    assert found.n_untold == 1
    pair = next(p for p in found.pairs() if (p.first, p.second) == ("CLIP", "FV"))
    assert (pair.n_first, pair.n_second) == (6, 1)
    assert pair.p_answers == pytest.approx(2 * (1 + 7) / 2**7)
    assert (pair.people_first, pair.people_second, pair.p_people) == (3, 0, 2 / 2**3)
    # Person 3 chose no CLIP and CLIP once each, and counts for neither.
    other = next(
        p
        for p in found.pairs()
        if p.group == "everybody" and p.second == "no CLIP" and p.first == "CLIP"
    )
    assert (other.people_first, other.people_second) == (2, 0)


def test_groups_stand_apart_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    files = written(tmp_path, text(1, "C A C", "practitioner"), text(2, "A B C"))
    found = read_answers(KEY, files)
    counts = {(row.group, row.condition): row.n_chosen for row in found.shares()}
    assert counts["practitioner", "CLIP"] == 2
    assert counts["other", "FV"] == 3
    assert {row.group for row in read_answers(KEY, files[:1]).shares()} == {
        "everybody",
        "practitioner",
    }


def test_who_could_tell_nothing_is_counted_and_tests_nothing(tmp_path: Path) -> None:
    found = read_answers(KEY, written(tmp_path, text(1, "none none none")))
    assert found.n_untold == 3
    assert {(row.n, row.low, row.high, row.p) for row in found.shares()} == {(0, 0.0, 1.0, 1.0)}
    assert "Answers: 3, of which 'I cannot tell': 3." in found.markdown()


def test_the_page_has_both_tables_and_escapes_names(tmp_path: Path) -> None:
    rows = tuple(
        KeyRow(
            r.question,
            r.class_name,
            "",
            {k: v.replace("FV", "<b>|") for k, v in r.conditions.items()},
        )
        for r in KEY.rows
    )
    found = read_answers(QuestionnaireKey(ID, 0, rows), written(tmp_path, text(1, "C A C")))
    page = found.markdown()
    assert "| everybody | CLIP | 2 of 3 | 66.7% | 9.4% to 99.2% |" in page
    assert "&lt;b&gt;\\| against CLIP" in page or "CLIP against" not in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"its first line is \[\]"),
        ("a,b\r\n1,2\r\n", "its first line is"),
        (HEADER, "it holds no answer"),
        (HEADER + "x,y\r\n", "line 2 has 2 values, expected 5"),
        (HEADER + f'{ID},"000', "it is no CSV"),
        (text(1, "A B").replace(ID, "f" * 16, 1), "line 2 is of questionnaire 'ffffffffffffffff'"),
        (text(1, "A B"), r"1 of 3 answers are missing: \['q03'\]"),
        (text(1, "A B C A"), "line 5 answers 'q04', which was not asked"),
        (text(1, "A B C") + text(1, "A").removeprefix(HEADER), "answers q01 a second time"),
        (text(1, "A B D"), r"line 4 has answer='D', expected \['A', 'B', 'C', 'none'\]"),
        (text(1, "A B C", "cat"), "group='cat', expected one of"),
        (text(1, "A B C").replace(f"{1:016x}", "me"), "participant='me', expected 16"),
        (text(1, "A B C").replace(f"{1:016x}", f"{2:016x}", 1), "several values of participant"),
        (text(1, "A \x1b[2J C"), r"answer='\\x1b\[2J'"),
    ],
)
def test_a_broken_or_foreign_file_is_refused_by_name(content, message, tmp_path: Path) -> None:
    good = text(7, "A B C")
    files = written(tmp_path, good, content)
    with pytest.raises(ValueError, match=message) as caught:
        read_answers(KEY, files)
    assert "1.csv" in str(caught.value)
    assert "0.csv" not in str(caught.value)


def test_answers_of_one_person_twice_are_refused(tmp_path: Path) -> None:
    files = written(tmp_path, text(1, "A B C"), text(1, "B B B"))
    with pytest.raises(ValueError, match=r"1\.csv and .*0\.csv are both of participant"):
        read_answers(KEY, files)
    with pytest.raises(ValueError, match="are both of participant"):
        read_answers(KEY, [files[0], files[0]])


def test_no_files_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="files is empty"):
        read_answers(KEY, [])
    with pytest.raises(FileNotFoundError):
        read_answers(KEY, [tmp_path / "none.csv"])
