"""The questionnaire in a real browser, filled in by keyboard, and its answers read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captum_neuroinspect.experiments.questionnaire import Question, write_questionnaire
from captum_neuroinspect.experiments.questionnaire_answers import read_answers

CONDITIONS = ("CLIP-Illusion", "FV", "no CLIP")


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Any]:
    pictures = {c: Image.new("RGB", (24, 24), (90 * k, 60, 9)) for k, c in enumerate(CONDITIONS)}
    names = ("fox", "</legend><script>alert(1)</script>", "hen")
    asked = [Question(name, pictures) for name in names]
    return tmp_path / "page.html", write_questionnaire(
        asked, tmp_path / "page.html", tmp_path / "key.json"
    )


def opened(browser: Any, page: Path, **options: Any) -> Any:
    context = browser.new_context(accept_downloads=True, **options)
    tab = context.new_page()
    tab.set_default_timeout(120_000)  # a guard against hanging, on any machine
    tab.heard = []
    tab.on("console", lambda message: tab.heard.append(message.text))
    tab.on("pageerror", lambda error: tab.heard.append(str(error)))
    tab.on("dialog", lambda dialog: (tab.heard.append(dialog.message), dialog.accept()))
    tab.goto(page.as_uri())
    return tab


def test_filled_in_by_keyboard_and_read_back(browser: Any, made: Any, tmp_path: Path) -> None:
    page, key = made
    tab = opened(browser, page)
    assert tab.locator("#state").inner_text() == "0 of 3 answered"
    tab.keyboard.press("Tab")  # to the group, then to each question in turn
    tab.keyboard.press("Space")
    for moves in (0, 1, 3):  # A, B, and that nothing can be told
        tab.keyboard.press("Tab")
        tab.keyboard.press("Space")
        for _ in range(moves):
            tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Tab")
    with tab.expect_download() as download:
        tab.keyboard.press("Enter")
    answers = tmp_path / download.value.suggested_filename
    download.value.save_as(answers)
    found = read_answers(key, [answers])
    (person,) = found.chosen
    assert answers.name == f"answers-{person}.csv"
    assert list(found.groups.values()) == ["practitioner"]
    assert found.chosen[person] == {
        "q01": key.rows[0].conditions["A"],
        "q02": key.rows[1].conditions["B"],
        "q03": "none",
    }
    assert tab.heard == []


def test_nothing_is_downloaded_before_everything_is_answered(browser: Any, made: Any) -> None:
    page, _ = made
    tab = opened(browser, page)
    tab.locator("button").click()
    assert tab.locator("#state").inner_text() == "4 answers are missing: the first is marked"
    assert tab.locator("fieldset.missing").count() == 4
    assert tab.evaluate("document.activeElement.name") == "group"
    tab.locator("[name=group][value=other]").check()
    assert tab.locator("fieldset.missing").count() == 3


def test_a_reload_keeps_answers_and_participant(browser: Any, made: Any, tmp_path: Path) -> None:
    page, key = made
    tab = opened(browser, page)
    tab.locator("[name=group][value=other]").check()
    for name in ("q01", "q02", "q03"):
        tab.locator(f"[name={name}][value=C]").check()
    files = []
    for number in range(2):
        with tab.expect_download() as download:
            tab.locator("button").click()
        files.append(tmp_path / f"{number}.csv")
        download.value.save_as(files[-1])
        tab.reload()
        assert tab.locator("#state").inner_text() == "3 of 3 answered"
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(ValueError, match="are both of participant"):
        read_answers(key, files)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_pages_need_no_scrolling_aside(browser: Any, made: Any, scheme: str) -> None:
    tab = opened(browser, made[0], viewport={"width": 390, "height": 800}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [tab.locator(".choice").nth(i).bounding_box() for i in range(3)]
    assert len({round(box["y"]) for box in boxes}) == 1


def test_has_no_faults_of_access(browser: Any, made: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for scheme in ("light", "dark"):
        tab = opened(browser, made[0], color_scheme=scheme)
        found = axe.run(tab).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
