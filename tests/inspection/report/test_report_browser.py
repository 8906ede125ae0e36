"""The page in a real browser: what a reader does with it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from report_examples import example_data, neuron_at
from session_examples import QUICK, loaded

from captum_neuroinspect.inspection import Selection
from captum_neuroinspect.inspection.report.report_data import NeuronWords, Phrase, ReportData
from captum_neuroinspect.inspection.report.write import write_report

_HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror="alert(1)">',
    "</script><script>alert(1)</script>",
    "x" * 300,
    "ציפור",
    "鳥",
)
# decode() fails for a broken picture; a lazy one that is out of sight would never come.
_DECODED = """images => Promise.all(images.map(image => {
    image.loading = "eager";
    return image.decode();
}))"""
_FIRST, _SECOND, _THIRD, _FOURTH = (neuron_at(i) for i in range(4))


@dataclass
class Heard:
    """What a page did beside being looked at."""

    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


@dataclass
class Opened:
    page: Any
    heard: Heard

    def cards(self) -> list[int]:
        """Neurons of the cards that are seen, from top to bottom."""
        script = "cards => cards.filter(c => c.checkVisibility()).map(c => +c.dataset.neuron)"
        return list(self.page.locator(".card").evaluate_all(script))

    def current(self) -> int | None:
        script = "() => +document.activeElement.closest('.card')?.dataset.neuron || null"
        return self.page.evaluate(script)  # type: ignore[no-any-return]

    def box(self, neuron: int) -> Any:
        return self.page.locator(f"#neuron-{neuron} .select")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(example_data(), tmp_path_factory.mktemp("report") / "report.html")


Opener = Callable[..., Opened]


@pytest.fixture
def opener(browser: Any, tmp_path: Path) -> Iterator[Opener]:
    contexts = []

    def opened(report: Path | ReportData, width: int = 1200, **options: Any) -> Opened:
        if isinstance(report, ReportData):
            report = write_report(report, tmp_path / "report.html")
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page, heard = context.new_page(), Heard()
        page.set_default_timeout(120_000)  # a guard against hanging, on any machine
        page.on("request", lambda request: heard.requests.append(request.url))
        page.on("console", lambda message: heard.messages.append(message.text))
        page.on("pageerror", lambda error: heard.messages.append(str(error)))
        page.on("dialog", lambda dialog: (heard.dialogs.append(dialog.message), dialog.accept()))
        page.goto(report.as_uri())
        return Opened(page, heard)

    yield opened
    for context in contexts:
        context.close()


def test_opens_without_errors_and_without_network(opener: Opener, example: Path) -> None:
    opened = opener(example)
    assert opened.heard.messages == []
    assert [url for url in opened.heard.requests if not url.startswith("data:")] == [
        example.as_uri()
    ]
    opened.page.locator("img").evaluate_all(_DECODED)


def test_pictures_in_a_folder_are_seen_and_nothing_else_is_loaded(
    opener: Opener, tmp_path: Path
) -> None:
    report = write_report(example_data(), tmp_path / "my run #1%.html", max_bytes=0)
    opened = opener(report)
    assert opened.page.locator("#picture-folder").is_visible()
    opened.page.locator("img").evaluate_all(_DECODED)
    assert opened.heard.messages == []
    loaded = {url for url in opened.heard.requests if not url.startswith("data:")}
    files = {path.as_uri() for path in (tmp_path / "my run #1%_files").iterdir()}
    assert files
    assert loaded == {report.as_uri(), *files}


def test_what_is_ticked_and_written_is_in_the_file(
    opener: Opener, example: Path, tmp_path: Path
) -> None:
    opened = opener(example)
    page = opened.page
    download = page.get_by_role("button", name="Download selection.json")
    assert download.is_disabled()
    opened.box(_FOURTH).check()
    opened.box(_FIRST).check()
    page.get_by_label(f"Note on neuron {_THIRD}").fill('</script> "unsure" 鳥\nsecond line')
    page.get_by_label("Note", exact=True).fill("they follow the reeds")
    assert "2 neurons selected" in page.locator("#selected").inner_text()
    with page.expect_download() as caught:
        download.click()
    assert caught.value.suggested_filename == "selection.json"
    caught.value.save_as(tmp_path / "selection.json")

    found = Selection.load(tmp_path / "selection.json")
    assert re.fullmatch("[0-9a-f]{16}", found.report)
    record = json.loads((tmp_path / "selection.json").read_text("utf-8"))
    assert record["checksum"] == found.checksum  # two languages, one sum
    assert found == Selection(
        run="run-1",
        target=0,
        neurons=(_FIRST, _FOURTH),
        notes={_THIRD: '</script> "unsure" 鳥\nsecond line'},
        note="they follow the reeds",
        report=found.report,
    )
    assert opened.heard.messages == []


def test_the_cue_is_ticked_in_place_of_neurons(
    opener: Opener, example: Path, tmp_path: Path
) -> None:
    opened = opener(example)
    page, cue = opened.page, opened.page.get_by_label("remove this cue")
    opened.box(_FIRST).check()
    cue.check()
    assert not opened.box(_FIRST).is_checked()
    assert page.locator("#selected").inner_text() == "The cue is to be removed"
    page.reload()
    assert cue.is_checked()
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download selection.json").click()
    caught.value.save_as(tmp_path / "selection.json")
    found = Selection.load(tmp_path / "selection.json")  # two languages, one sum
    assert (found.cue, found.neurons) == (True, ())
    opened.box(_SECOND).check()
    assert not cue.is_checked()
    assert opened.heard.messages == []


def test_a_choice_survives_a_reload_and_can_be_cleared(opener: Opener, example: Path) -> None:
    opened = opener(example)
    opened.box(_SECOND).check()
    opened.page.get_by_label("Note", exact=True).fill("look again")
    opened.page.reload()
    assert opened.box(_SECOND).is_checked()
    assert opened.page.get_by_label("Note", exact=True).input_value() == "look again"
    opened.page.get_by_role("button", name="Clear").click()
    assert len(opened.heard.dialogs) == 1
    assert not opened.box(_SECOND).is_checked()
    assert opened.page.locator("#selected").inner_text() == "No neuron selected"


def test_ticks_stay_with_what_the_report_is_about(opener: Opener, tmp_path: Path) -> None:
    data = example_data()
    first = replace(data.classes[0], n_photos=121)
    others = {
        "another digest": replace(data, digest="ab12"),
        "other photos": replace(data, mistakes=data.mistakes[1:]),
        "another model": replace(data, ranking=data.ranking[::-1]),
        "other classes": replace(data, classes=(first, *data.classes[1:])),
    }
    opened = opener(write_report(data, tmp_path / "run" / "report.html"))
    opened.box(_SECOND).check()
    page = opened.page.context.new_page()  # of the same browser and user
    for name, other in others.items():
        page.goto(write_report(other, tmp_path / name / "run" / "report.html").as_uri())
        assert page.locator("#selected").inner_text() == "No neuron selected", name
    after_edit = replace(data, edit=None, title="Edited", verdict="Better.")
    page.goto(write_report(after_edit, tmp_path / "edited" / "run" / "report.html").as_uri())
    assert page.locator(f"#neuron-{_SECOND} .select").is_checked()


def test_cards_are_filtered(opener: Opener, example: Path) -> None:
    opened = opener(example)
    page = opened.page
    page.get_by_label("Kind").select_option("excessive")
    assert opened.cards() == [_SECOND, _FOURTH]
    assert page.locator("#cards-shown").inner_text() == "2 of 4 neurons"
    page.get_by_label("Kind").select_option("")
    page.get_by_label("Search").fill("REEDS water")
    assert opened.cards() == [_FIRST, _THIRD]
    page.get_by_label("Search").fill(f"neuron {_FOURTH}")
    assert opened.cards() == [_FOURTH]
    page.get_by_label("Search").fill("no such thing")
    assert opened.cards() == []
    assert page.get_by_text("No neuron fits.").is_visible()
    page.get_by_label("Search").fill("")
    opened.box(_THIRD).check()
    page.get_by_label("only selected").check()
    assert opened.cards() == [_THIRD]
    opened.box(_THIRD).uncheck()
    assert opened.cards() == []


def test_cards_are_sorted(opener: Opener, example: Path) -> None:
    data = example_data()
    opened = opener(example)
    order = opened.page.get_by_label("Sort by")
    shown = {card.neuron for card in data.neurons}
    rows = [row for row in data.ranking if row.neuron in shown]
    order.select_option("precision")
    assert opened.cards() == [r.neuron for r in sorted(rows, key=lambda row: -row.precision)]
    order.select_option("core")
    assert opened.cards() == [_SECOND, _THIRD, _FIRST, _FOURTH]  # without a value: last
    order.select_option("neuron")
    assert opened.cards() == sorted(shown)
    order.select_option("score")
    assert opened.cards() == [_FIRST, _SECOND, _THIRD, _FOURTH]
    order.select_option("given")
    assert opened.cards() == [_FIRST, _SECOND, _THIRD, _FOURTH]


def test_tables_are_sorted_by_their_headings(opener: Opener, example: Path) -> None:
    table = opener(example).page.locator("#errors table").first
    names = table.locator("tbody th .name")
    heading = table.get_by_role("button", name="class")
    assert names.first.inner_text() == "heron"  # worst first
    table.get_by_role("button", name="accuracy").click()
    assert names.first.inner_text() == "crane"
    heading.click()
    assert names.all_inner_texts() == sorted(names.all_inner_texts(), reverse=True)
    heading.click()
    assert names.all_inner_texts() == sorted(names.all_inner_texts())
    assert heading.locator("..").get_attribute("aria-sort") == "ascending"


def test_mistakes_are_filtered_and_unfolded(opener: Opener) -> None:
    data = example_data(n_neurons=1, n_mistakes=60, side=16)
    page = opener(data).page
    seen = page.locator("#mistake-grid > li:visible")
    assert seen.count() == 27
    page.get_by_role("button", name="Show all 60").click()
    assert seen.count() == 60
    page.get_by_label("Taken for").select_option("2")
    expected = sum(mistake.predicted == 2 for mistake in data.mistakes)
    assert 0 < expected < 27
    assert seen.count() == expected
    assert page.locator("[data-shown=mistake-grid]").inner_text() == f"{expected} of 60 shown"


def test_keys(opener: Opener, example: Path) -> None:
    opened = opener(example)
    press = opened.page.keyboard.press
    press("x")  # no card yet
    for _ in range(2):
        press("j")
    assert opened.current() == _SECOND
    press("x")
    assert opened.box(_SECOND).is_checked()
    press("k")
    press("k")  # stops at the first
    assert opened.current() == _FIRST
    press("m")
    assert opened.page.locator(f"#neuron-{_FIRST} .masked").first.is_visible()
    assert not opened.page.locator(f"#neuron-{_FIRST} .plain").first.is_visible()
    press("/")
    opened.page.keyboard.type("jxk neck")
    assert opened.page.get_by_label("Search").input_value() == "jxk neck"
    opened.page.get_by_label("Search").fill(str(_THIRD))
    press("Escape")
    assert opened.current() == _THIRD
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert opened.page.evaluate(outline) == "solid"


def test_keys_leave_notes_alone(opener: Opener, example: Path) -> None:
    opened = opener(example)
    note = opened.page.get_by_label(f"Note on neuron {_FIRST}")
    note.click()
    opened.page.keyboard.type("xjk/m")
    assert note.input_value() == "xjk/m"
    opened.page.keyboard.press("Escape")
    assert opened.current() == _FIRST
    assert not opened.box(_FIRST).is_checked()


def test_masks_are_toggled(opener: Opener, example: Path) -> None:
    page = opener(example).page
    button = page.locator(f"#neuron-{_FIRST} .mask").first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator(".frame.on").count() == 1
    page.get_by_label("masked").check()
    assert page.locator(".frame.on").count() == 8
    page.get_by_label("masked").uncheck()
    assert page.locator(".frame.on").count() == 0


def test_hostile_names_stay_text(opener: Opener) -> None:
    data = example_data(n_neurons=1, names=_HOSTILE)
    data = replace(data, title=_HOSTILE[2], run=_HOSTILE[2])
    opened = opener(data, width=390)
    opened.box(_FIRST).check()
    opened.page.get_by_label("Search").fill("script")
    opened.page.wait_for_timeout(100)
    assert opened.heard == Heard(requests=opened.heard.requests)
    assert opened.page.locator("h1").inner_text() == _HOSTILE[2]
    names = opened.page.locator("#errors table").first.locator("tbody th .name")
    assert sorted(names.all_text_contents()) == sorted(_HOSTILE)
    assert _overflow(opened) <= 0


def test_hostile_phrases_stay_text(opener: Opener) -> None:
    evil = (*_HOSTILE[:3], "</script><img onerror=alert(1) src=x>", "a\u202eb\x1b[2J", "x" * 300)
    data = example_data(n_neurons=2)
    phrases = tuple(Phrase(text, 0.5) for text in evil)
    said = NeuronWords(_FIRST, phrases, True, evil, f"{evil[0]} - {evil[3]}", 0.4, evil[3], evil[0])
    loose = replace(said, neuron=1279, is_certain=False)
    data = replace(data, words=(said, loose), words_summary=evil[3], words_rest_on=evil[0])
    opened = opener(data, width=390)
    page = opened.page
    page.get_by_role("searchbox", name="Word").fill("</script>")
    page.locator(".evidence summary").first.click()
    page.wait_for_timeout(100)
    assert opened.heard == Heard(requests=opened.heard.requests)
    assert all(url.startswith(("data:", "file:")) for url in opened.heard.requests)
    rows = page.locator("#words-rows tr")
    assert rows.count() == 2
    told = rows.first.locator("bdi").all_text_contents()
    assert told[:4] == list(evil[:4])
    assert told[4] == "a\\u202eb\\x1b[2J"
    assert page.locator(f"#neuron-{_FIRST} .phrases bdi").first.inner_text() == evil[0]
    assert _overflow(opened) <= 0


def _found(opened: Opened) -> list[int]:
    return [int(text) for text in opened.page.locator("#words-rows th").all_text_contents()]


def test_neurons_are_found_by_word_and_with_keys_alone(opener: Opener, example: Path) -> None:
    data, opened = example_data(), opener(example)
    page = opened.page
    assert not page.locator("#words-region").is_visible()
    page.get_by_role("searchbox", name="Word").focus()
    page.keyboard.type("NECK thin")
    # All but the one that says nothing; certain only where the first phrase is this one.
    named = [w for w in data.words if any("neck" in p.text for p in w.phrases)]
    best = {w.neuron: next(p.score for p in w.phrases if "neck" in p.text) for w in named}
    assert _found(opened) == sorted(best, key=lambda neuron: -best[neuron])[:50]
    assert page.locator("#words-found").inner_text() == "63 neurons, the first 50 shown"
    page.get_by_label("only certain").check()
    assert _found(opened) == []
    page.get_by_role("searchbox", name="Word").fill("reeds")
    certain = [w.neuron for w in data.words if w.is_certain]
    assert _found(opened) == certain[:50]
    page.get_by_label("only behind these mistakes").check()
    ranked = [row.neuron for row in data.ranking if row.neuron in certain]
    assert _found(opened) == ranked
    first = page.locator("#words-rows tr").first
    assert first.locator("td").last.inner_text() == "insufficient, rank 1"
    page.keyboard.press("Tab")  # from the check box to the table, then to its first link
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith(f"#neuron-{ranked[0]}")
    page.get_by_role("searchbox", name="Word").fill("no such word")
    assert page.locator("#words-found").inner_text() == "0 neurons"
    assert opened.heard.messages == []


def test_what_is_uncertain_is_grey_and_the_evidence_one_click_away(
    opener: Opener, example: Path
) -> None:
    page = opener(example).page
    colour = "element => getComputedStyle(element).color"
    sure, guess = (page.locator(f"#neuron-{n} .phrases bdi") for n in (_FIRST, _SECOND))
    assert sure.first.evaluate(colour) != sure.nth(1).evaluate(colour)
    assert guess.first.evaluate(colour) == sure.nth(1).evaluate(colour)
    assert page.locator(f"#neuron-{_SECOND} .words .tag").inner_text() == "uncertain"
    evidence = page.locator(f"#neuron-{_THIRD} .evidence")
    assert not evidence.locator("table").is_visible()
    evidence.locator("summary").click()
    assert evidence.locator("table").is_visible()
    text = evidence.inner_text()
    for part in ("average precision", "is one of 3:", "correlation 0.71", "600 of them held out"):
        assert part in text
    assert page.get_by_text("2 of the 4 neurons behind these mistakes answer to").is_visible()


def _overflow(opened: Opened) -> int:
    script = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(opened.page.evaluate(script))


@pytest.mark.parametrize("width", [320, 390, 768])
def test_narrow_screens_do_not_scroll_sideways(opener: Opener, example: Path, width: int) -> None:
    assert _overflow(opener(example, width=width)) <= 0


@pytest.mark.parametrize("width", [390, 1200])
def test_tables_of_classes_and_of_changes_are_not_cut(opener: Opener, width: int) -> None:
    """With classes of few photos, whose shares are counts with an interval."""
    opened = opener(example_data(n_neurons=1), width=width)
    script = "boxes => boxes.map(box => box.scrollWidth - box.clientWidth)"
    boxes = opened.page.locator("#errors .columns .scroll, .scroll:has(.changes)")
    assert opened.page.get_by_text("(95").count() > 0
    assert set(boxes.evaluate_all(script)) == {0}


def test_one_click_selects_a_slice_s_neurons_and_no_others(opener: Opener, example: Path) -> None:
    opened = opener(example)
    opened.box(_SECOND).check()
    opened.page.locator("#slice-1 [data-selects]").click()
    boxes = {neuron: opened.box(neuron).is_checked() for neuron in (_FIRST, _SECOND, _THIRD)}
    assert boxes == {_FIRST: True, _SECOND: False, _THIRD: True}
    assert "2 neurons" in opened.page.locator("#selected").inner_text()
    assert not opened.heard.messages


def test_nothing_moves_while_many_pictures_arrive(opener: Opener) -> None:
    opened = opener(example_data(n_neurons=30, n_mistakes=200, side=16))
    script = """async () => {
        let total = 0;
        new PerformanceObserver(list => {
            for (const entry of list.getEntries()) total += entry.value;
        }).observe({ type: "layout-shift", buffered: true });
        for (let y = 0; y < document.body.scrollHeight; y += 4000) {
            scrollTo(0, y);
            await new Promise(done => setTimeout(done, 20));
        }
        return total;
    }"""
    assert opened.page.evaluate(script) < 0.01


def test_without_scripts_everything_is_there(opener: Opener) -> None:
    data = example_data(n_neurons=2, n_mistakes=40, side=16)
    page = opener(data, java_script_enabled=False).page
    assert page.locator("#mistake-grid > li:visible").count() == 40
    assert page.locator(".js-only:visible").count() == 0
    assert page.locator(".card:visible").count() == 2


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_axe_finds_nothing(opener: Opener, example: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened = opener(example, width=width, color_scheme=scheme)
    opened.box(_FIRST).check()
    opened.page.locator(f"#neuron-{_FIRST} .mask").first.click()
    # The page's policy runs no script but its own: axe comes in by the debugger.
    results = axe.run(opened.page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.filterwarnings("ignore:the original head is returned")
def test_from_a_session_through_ticks_to_an_edit(opener: Opener, tmp_path: Path) -> None:
    made = loaded()
    found = made.explain()
    made.visualize(found.neurons(2), **QUICK)
    opened = opener(made.report(tmp_path / "run" / "report.html"))
    for neuron in found.neurons(2):
        opened.box(neuron).check()
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "selection.json")

    selection = Selection.load(tmp_path / "selection.json")
    edit = made.edit(selection.target, selection.neurons)
    opened = opener(made.report(tmp_path / "run" / "report.html"))

    assert selection.run == "run"
    assert set(edit.neurons) == set(found.neurons(2))
    assert opened.page.locator("#edit").is_visible()
    assert opened.heard.messages == []
    assert [url for url in opened.heard.requests if not url.startswith(("data:", "file:"))] == []


_COMMAND = (
    "neuroinspect",
    "edit",
    "--run",
    "it's run",
    "--selection",
    "~/Downloads/selection.json",
)


@pytest.mark.parametrize("name", ["it's run", "elsewhere"])
def test_the_command_has_the_folder_that_the_page_lies_in(
    opener: Opener, tmp_path: Path, name: str
) -> None:
    """The file itself names no folder; moved out of the run, it keeps the run's name."""
    data = replace(example_data(), run="it's run", command=_COMMAND)
    (tmp_path / "my work" / name).mkdir(parents=True)
    report = write_report(data, tmp_path / "my work" / name / "report.html")
    assert str(tmp_path) not in report.read_text("utf-8")
    shown = opener(report).page.locator("#command").text_content()
    where = tmp_path / "my work" / name if name == data.run else data.run
    assert shlex.split(shown) == [*_COMMAND[:3], str(where), *_COMMAND[4:]]


def test_the_command_is_copied_or_marked(opener: Opener) -> None:
    data = replace(example_data(), command=_COMMAND)
    page = opener(data, permissions=["clipboard-read", "clipboard-write"]).page
    page.locator("#copy").click()
    page.locator("#copy", has_text="Copied").wait_for()
    command = page.locator("#command").text_content()
    assert page.evaluate("navigator.clipboard.readText()") == command
    refused = opener(data).page
    refused.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    refused.locator("#copy").click()
    assert refused.evaluate("getSelection().toString()") == command


def test_without_a_command_there_is_no_place_for_one(opener: Opener, example: Path) -> None:
    assert opener(example).page.locator(".next").count() == 0


def test_cautions_and_notes_are_texts(opener: Opener) -> None:
    data = example_data()
    assert data.edit is not None
    edit = replace(data.edit, note=_HOSTILE[0], notes=((11, _HOSTILE[1]),))
    opened = opener(replace(data, cautions=(_HOSTILE[2],), edit=edit))
    assert opened.heard.messages == []
    assert opened.heard.dialogs == []
    page = opened.page
    assert _HOSTILE[2] in page.locator("header .warning").text_content()
    assert page.locator(".notes .written").all_text_contents() == [_HOSTILE[0], _HOSTILE[1]]


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("how", ["click", "Enter", "Space"])
def test_a_picture_is_shown_large(how: str, width: int, opener: Opener, example: Path) -> None:
    opened = opener(example, width)
    page, large = opened.page, opened.page.locator("#large")
    picture = page.locator(".card .illusions img").first
    before = picture.bounding_box()
    picture.scroll_into_view_if_needed()
    if how == "click":
        picture.click()
    else:
        picture.focus()
        page.keyboard.press(how)
    copy = large.locator("img")
    assert large.is_visible()
    assert copy.get_attribute("src") == picture.get_attribute("src")
    assert copy.bounding_box()["width"] > before["width"]
    assert large.bounding_box()["width"] <= width
    page.keyboard.press("Escape")
    assert not large.is_visible()
    assert page.evaluate("() => document.activeElement.tagName") == "IMG"
    assert not opened.heard.messages


def test_what_is_no_result_is_named_on_its_card(opener: Opener) -> None:
    data = example_data()
    card = data.neurons[0]
    first, *rest = card.illusions
    failed = replace(first, picture=None, masked=None, remark="failed: stayed at 0")
    flat = replace(card.saliency[0], overlay=None)
    card = replace(card, illusions=(failed, *rest), saliency=(flat, *card.saliency[1:]))
    page = opener(replace(data, neurons=(card, *data.neurons[1:]))).page
    shown = page.locator(".card").first
    assert shown.locator(".illusions figure").first.locator("img").count() == 0
    assert "failed: stayed at 0" in shown.locator(".illusions").inner_text()
    assert "no heat map: alike all over" in shown.inner_text()
